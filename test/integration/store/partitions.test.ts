import { describe, expect, test } from 'vitest';
import { newId, timeOf } from '#domain/ids.ts';
import { listRuns } from '#store/job-reads.ts';
import { endRuns } from '#store/end-runs.ts';
import { createPartitions } from '#store/partitions.ts';
import { helper, useDatabase } from '../../support/database.ts';
import { claimRun, insertJob, makeAccount, runEnd } from '../../support/fixtures.ts';

const database = useDatabase();

const DAY = 86_400_000;
const WEEKS = (start: string, count: number): string[] =>
  Array.from({ length: count }, (_, n) =>
    new Date(Date.parse(start) + n * 7 * DAY).toISOString().slice(0, 10).replaceAll('-', ''),
  );
const namesFor = (weeks: readonly string[]): string[] =>
  ['delivery_attempts', 'events', 'job_logs', 'job_runs'].flatMap((parent) => weeks.map((week) => `${parent}_${week}`));
const partitionOf = async (table: string, id: string) => {
  const [row] = await database.sql`
    SELECT relname::text AS place FROM ${helper(`ringback.${table}`)} AS r
    JOIN pg_class ON pg_class.oid = r.tableoid WHERE r.id = ${id}`;
  return row?.['place'] as string | undefined;
};

describe('making partitions', () => {
  test('makes those of four weeks ahead, Monday to Monday in UTC, whatever the session’s time zone', async () => {
    const elsewhere = database.open({ max: 1 });
    await elsewhere.sql`SET TIME ZONE 'Pacific/Kiritimati'`;
    // A Sunday, an hour before the week ends.
    const made = await createPartitions(elsewhere, new Date('2031-01-05T23:00:00Z'));
    const weeks = WEEKS('2030-12-30', 5);
    expect(made.map(({ name }) => name).toSorted()).toEqual(namesFor(weeks));
    expect(made.filter(({ failure }) => failure !== null)).toEqual([]);
    const [bounds] = await database.sql`
      SELECT pg_get_expr(relpartbound, oid) AS bounds FROM pg_class WHERE relname = 'events_20301230'`;
    expect(bounds!['bounds']).toBe("FOR VALUES FROM ('2030-12-30 00:00:00+00') TO ('2031-01-06 00:00:00+00')");
  });

  test('again makes nothing', async () => {
    const now = new Date('2032-01-01T00:00:00Z');
    expect(await createPartitions(database.db, now)).not.toEqual([]);
    expect(await createPartitions(database.db, now)).toEqual([]);
  });

  test('by many keepers at once makes each once', async () => {
    const now = new Date('2033-01-03T00:00:00Z');
    const keepers = Array.from({ length: 8 }, () => database.open({ max: 1 }));
    const made = (await Promise.all(keepers.map((keeper) => createPartitions(keeper, now)))).flat();
    expect(made.filter(({ failure }) => failure !== null)).toEqual([]);
    expect(made.map(({ name }) => name).toSorted()).toEqual(namesFor(WEEKS('2033-01-03', 5)));
  });

  test('tells of one whose rows sit in the default partition, and makes the others', async () => {
    const { accountId } = await makeAccount(database.db);
    const createdAt = new Date('2034-01-04T00:00:00Z');
    const job = await insertJob(database.db, accountId, { createdAt });
    expect(await partitionOf('events', job.eventId)).toBe('events_default');
    const made = await createPartitions(database.db, createdAt);
    expect(made.filter(({ failure }) => failure !== null)).toEqual([
      { name: 'events_20340102', failure: expect.stringContaining('default partition') },
    ]);
    expect(made).toHaveLength(20);
    expect(await partitionOf('events', job.eventId)).toBe('events_default');
  });
});

describe('a row', () => {
  test('lands in the partition of its week', async () => {
    const { accountId } = await makeAccount(database.db);
    const now = new Date('2035-06-06T12:00:00Z');
    await createPartitions(database.db, now);
    const job = await insertJob(database.db, accountId, { createdAt: now });
    const claimed = await claimRun(database.db, job, { now });
    await endRuns(database.sql, [runEnd(claimed)]);
    expect(await partitionOf('events', job.eventId)).toBe('events_20350604');
    expect(await partitionOf('job_runs', claimed.runId)).toBe('job_runs_20350604');
  });

  test.each(['2000-01-01T00:00:00Z', '2099-12-31T00:00:00Z'])(
    'of a clock gone wrong (%s) lands in the default one, and is found',
    async (clock) => {
      const { accountId } = await makeAccount(database.db);
      const at = new Date(clock);
      const job = await insertJob(database.db, accountId, { createdAt: at });
      const claimed = await claimRun(database.db, job, { now: at });
      await endRuns(database.sql, [runEnd(claimed, { endedAt: at })]);
      expect(await partitionOf('job_runs', claimed.runId)).toBe('job_runs_default');
      expect(await listRuns(database.db, accountId, job.id)).toMatchObject([{ id: claimed.runId, startedAt: at }]);
    },
  );
});

test('a fresh installation has the partitions of this week and the four that follow', async () => {
  const monday = new Date(Math.floor((Date.now() - 4 * DAY) / (7 * DAY)) * 7 * DAY + 4 * DAY);
  const wanted = namesFor(WEEKS(monday.toISOString(), 5));
  const rows = await database.sql`
    SELECT relname::text AS name FROM pg_class JOIN pg_inherits ON inhrelid = pg_class.oid WHERE relkind = 'r'`;
  expect(rows.map(({ name }) => name as string)).toEqual(expect.arrayContaining(wanted));
});

test('the moment inside an event’s id is the moment of its row, by which its partition is found', async () => {
  const { accountId } = await makeAccount(database.db);
  const createdAt = new Date();
  const job = await insertJob(database.db, accountId, { createdAt, eventId: newId('evt', createdAt.getTime()) });
  const rows = await database.sql`SELECT created_at FROM ringback.events WHERE id = ${job.eventId}`;
  expect(rows).toEqual([{ created_at: new Date(timeOf(job.eventId)) }]);
});
