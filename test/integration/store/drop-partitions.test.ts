import { beforeAll, describe, expect, test } from 'vitest';
import { type AccountId, newId } from '#domain/ids.ts';
import { endRuns } from '#store/end-runs.ts';
import { createPartitions, dropPartitions } from '#store/partitions.ts';
import { useDatabase } from '../../support/database.ts';
import { claimRun, finalEvent, insertJob, makeAccount, makeEndpoint, runEnd } from '../../support/fixtures.ts';
import { eventually } from '../../support/eventually.ts';

const database = useDatabase();

const PARENTS = ['delivery_attempts', 'events', 'job_logs', 'job_runs'];
const namesFor = (...weeks: string[]) => PARENTS.flatMap((parent) => weeks.map((week) => `${parent}_${week}`));

/** The partitions of a year, by name. */
async function partitionsOf(year: number): Promise<string[]> {
  const rows = await database.sql<{ name: string }[]>`
    SELECT relname::text AS name FROM pg_class JOIN pg_inherits ON inhrelid = pg_class.oid
    WHERE relkind = 'r' AND relname ~ ${`_${year}\\d{4}$`}`;
  return rows.map(({ name }) => name).toSorted();
}

const drop = async (before: string) => {
  const dropped = await dropPartitions(database.db, new Date(before));
  return {
    dropped: dropped
      .filter(({ failure }) => failure === null)
      .map(({ name }) => name)
      .toSorted(),
    kept: dropped.filter(({ failure }) => failure !== null),
  };
};

let accountId: AccountId;
beforeAll(async () => {
  ({ accountId } = await makeAccount(database.db));
});

describe('dropping partitions', () => {
  test('drops those that end in time, to the very end, and no other', async () => {
    await createPartitions(database.db, new Date('2001-01-01T00:00:00Z')); // a Monday
    expect(await drop('2001-01-07T23:59:59.999Z')).toEqual({ dropped: [], kept: [] });
    expect(await drop('2001-01-15T00:00:00Z')).toEqual({
      dropped: namesFor('20010101', '20010108').toSorted(),
      kept: [],
    });
    expect(await partitionsOf(2001)).toEqual(namesFor('20010115', '20010122', '20010129').toSorted());
    expect(await drop('2001-01-15T00:00:00Z')).toEqual({ dropped: [], kept: [] });
    expect((await drop('2001-12-31T00:00:00Z')).dropped).toHaveLength(12);
  });

  test('takes their rows with them, and leaves those of the default partitions', async () => {
    const inside = new Date('2002-01-01T12:00:00Z');
    const outside = new Date('1999-01-01T00:00:00Z');
    await createPartitions(database.db, inside);
    const gone = await insertJob(database.db, accountId, { createdAt: inside });
    const stays = await insertJob(database.db, accountId, { createdAt: outside });
    expect((await drop('2003-01-01T00:00:00Z')).kept).toEqual([]);
    const rows = await database.sql`SELECT id FROM ringback.events WHERE id IN (${gone.eventId}, ${stays.eventId})`;
    expect(rows).toEqual([{ id: stays.eventId }]);
  });

  test.each(['pending', 'held'])('keeps the events that a delivery that is %s has yet to send', async (status) => {
    const at = new Date('2004-01-07T12:00:00Z');
    await createPartitions(database.db, at);
    const to = await makeEndpoint(database.db, accountId);
    const job = await insertJob(database.db, accountId, { createdAt: at }, to);
    const end = runEnd(await claimRun(database.db, job, { now: at }), finalEvent('job.succeeded', to, at));
    await endRuns(database.sql, [end]);
    const { id } = end.delivery!;
    if (status === 'held')
      await database.sql`UPDATE ringback.deliveries SET status = 'held', next_attempt_at = NULL WHERE id = ${id}`;
    const { dropped, kept } = await drop('2005-01-01T00:00:00Z');
    const failure = 'deliveries of its events have not ended';
    // The weeks that follow may be of no use either: which event a delivery is of, only the event's table could tell.
    expect(kept[0]).toEqual({ name: 'events_20040105', failure });
    expect(dropped).toContain('job_runs_20040105');
    expect(await partitionsOf(2004)).toContain('events_20040105');
    await database.sql`UPDATE ringback.deliveries SET status = 'delivered', next_attempt_at = NULL, finished_at = now() WHERE id = ${id}`;
    expect((await drop('2005-01-01T00:00:00Z')).kept).toEqual([]);
    expect(await partitionsOf(2004)).toEqual([]);
  });

  test('whatever the session’s time zone, and whichever of several keepers does it', async () => {
    await createPartitions(database.db, new Date('2006-01-02T00:00:00Z'));
    const keepers = Array.from({ length: 4 }, () => database.open({ max: 1 }));
    for (const { sql } of keepers) await sql`SET TIME ZONE 'Pacific/Kiritimati'`;
    const answers = await Promise.all(
      keepers.map((keeper) => dropPartitions(keeper, new Date('2006-01-09T00:00:00Z'))),
    );
    expect(
      answers
        .flat()
        .map(({ name }) => name)
        .toSorted(),
    ).toEqual(namesFor('20060102').toSorted());
    expect(answers.flat().filter(({ failure }) => failure !== null)).toEqual([]);
    await drop('2007-01-01T00:00:00Z');
  });

  test('gives up on one that somebody reads for long, and leaves it whole', async () => {
    const at = new Date('2008-01-02T00:00:00Z');
    await createPartitions(database.db, at);
    const job = await insertJob(database.db, accountId, { createdAt: at, eventId: newId('evt', at.getTime()) });
    const held = Promise.withResolvers<void>();
    const reading = Promise.withResolvers<void>();
    const reader = database.open({ max: 1 }).transaction(async (tx) => {
      await tx`SELECT FROM ringback.events WHERE id = ${job.eventId}`;
      reading.resolve();
      await held.promise;
    });
    await reading.promise;
    const { kept } = await drop('2008-01-14T00:00:00Z');
    expect(kept).toMatchObject([{ name: 'events_20071231', failure: expect.stringContaining('lock timeout') }, {}]);
    held.resolve();
    await reader;
    expect(await database.sql`SELECT FROM ringback.events WHERE id = ${job.eventId}`).toHaveLength(1);
    await eventually(async () => expect((await drop('2009-01-01T00:00:00Z')).kept).toEqual([]));
  });

  test('leaves the triggers of those that stay', async () => {
    const job = await insertJob(database.db, accountId);
    await expect(database.sql`DELETE FROM ringback.events WHERE id = ${job.eventId}`).rejects.toThrow(/append-only/);
  });
});
