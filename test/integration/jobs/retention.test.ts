import { beforeEach, describe, expect, test } from 'vitest';
import type { DeliveryStatus } from '#domain/delivery.ts';
import { type AccountId, type JobId, newId, type RunId } from '#domain/ids.ts';
import { insertJobs, type StorableJob } from '#store/jobs.ts';
import { endRuns, type RunEnd } from '#store/end-runs.ts';
import { findJob } from '#store/job-reads.ts';
import { findTombstone } from '#store/tombstones.ts';
import { JobLists } from '../../../src/jobs/read/job-lists.ts';
import { JobQueries } from '../../../src/jobs/read/job-queries.ts';
import { Retention, type RetentionDeps } from '../../../src/jobs/read/retention.ts';
import { helper, useDatabase } from '../../support/database.ts';
import {
  accepted,
  claimRun,
  finalEvent,
  insertJob,
  type MadeEndpoint,
  makeAccount,
  makeEndpoint,
  newJob,
  runEnd,
} from '../../support/fixtures.ts';
import { insertDeliveries, madeDelivery } from '../../support/deliveries.ts';
import { passHorizon } from '../../support/horizon.ts';
import { memoryLog } from '../../support/log.ts';
import { REAL_CLOCK } from '../../support/workers.ts';

const database = useDatabase();

const DAY = 86_400_000;
const ago = (days: number) => new Date(Date.now() - days * DAY);

function makeRetention(changes: Partial<RetentionDeps> = {}) {
  const { log, lines } = memoryLog();
  return {
    retention: new Retention({
      db: database.db,
      clock: REAL_CLOCK,
      log,
      retentionDays: 30,
      recordRetentionDays: 400,
      ...changes,
    }),
    lines,
  };
}

interface OldJob {
  readonly accountId: AccountId;
  readonly id: JobId;
  readonly end: RunEnd;
}

/** A job that was submitted and succeeded so many days ago. */
async function oldJob(
  accountId: AccountId,
  days: number,
  changes: Partial<RunEnd> = {},
  to?: MadeEndpoint,
): Promise<OldJob> {
  const at = ago(days);
  const job = await insertJob(database.db, accountId, { createdAt: at, type: 'test.old' }, to);
  const claimed = await claimRun(database.db, job, { now: at });
  const end = runEnd(claimed, { ...finalEvent('job.succeeded', to, at), endedAt: at, ...changes });
  await endRuns(database.sql, [end]);
  return { accountId, id: job.id, end };
}

async function isThere({ accountId, id }: { accountId: AccountId; id: JobId }): Promise<boolean> {
  return (await findJob(database.db, accountId, id)) !== undefined;
}

async function settle(end: RunEnd, status: 'delivered' | 'held'): Promise<void> {
  const finishedAt = status === 'held' ? null : new Date();
  await database.sql`
    UPDATE ringback.deliveries SET status = ${status}, next_attempt_at = NULL, finished_at = ${finishedAt}
    WHERE id = ${end.delivery!.id}`;
}

const countOf = async (table: string, column: string, id: string): Promise<number> => {
  const [row] = await database.sql`
    SELECT count(*)::int AS rows FROM ${helper(`ringback.${table}`)} WHERE ${helper(column)} = ${id}`;
  return row!['rows'] as number;
};

/** Without asking whether the run is under way. */
const insertChunk = (runId: RunId, number: number) => database.sql`
  INSERT INTO ringback.result_chunks (account_id, run_id, number, bytes) VALUES (${accountId}, ${runId}, ${number}, 'x')`;

let accountId: AccountId;
beforeEach(async () => {
  await database.sql`UPDATE ringback.accounts SET retention_days = 36500`; // those of the tests before
  ({ accountId } = await makeAccount(database.db));
});

describe('a job whose time is over', () => {
  test('goes, and leaves a tombstone with how it ended', async () => {
    const [old, young] = [await oldJob(accountId, 31), await oldJob(accountId, 29)];
    const before = await findJob(database.db, accountId, old.id);
    const { retention, lines } = makeRetention();
    const start = Date.now();
    await retention.run();
    expect(await isThere(old)).toBe(false);
    expect(await isThere(young)).toBe(true);
    const tombstone = await findTombstone(database.db, accountId, old.id);
    expect(tombstone).toEqual({
      accountId,
      id: old.id,
      type: 'test.old',
      status: 'succeeded',
      createdAt: before!.createdAt,
      finishedAt: before!.finishedAt,
      expiredAt: expect.any(Date),
    });
    expect(tombstone!.expiredAt.getTime()).toBeGreaterThanOrEqual(start);
    expect(lines).toMatchObject([{ msg: 'retired', jobs: 1 }]);
  });

  test('is told of with 410 and how it ended, to its own account alone', async () => {
    const old = await oldJob(accountId, 31);
    await makeRetention().retention.run();
    const { accountId: other } = await makeAccount(database.db);
    const queries = new JobQueries({ db: database.db, clock: REAL_CLOCK, polls: { after: () => 1 } });
    const job = {
      id: old.id,
      type: 'test.old',
      status: 'succeeded',
      created_at: expect.any(Date),
      finished_at: expect.any(Date),
      expired_at: expect.any(Date),
    };
    for (const ask of ['find', 'result', 'runs'] as const) {
      expect(await queries[ask](accountId, old.id)).toMatchObject({ ok: false, code: 'job_expired', extra: { job } });
      expect(await queries[ask](other, old.id)).toEqual({
        ok: false,
        code: 'job_not_found',
        detail: `There is no job ${old.id}.`,
      });
    }
  });

  test('is in no list and in no walk', async () => {
    const [, young] = [await oldJob(accountId, 31), await oldJob(accountId, 29)];
    await makeRetention().retention.run();
    await passHorizon(database.db);
    const filter = {
      types: undefined,
      statuses: undefined,
      metadata: {},
      createdAfter: undefined,
      createdBefore: undefined,
    };
    for (const updatedAfter of [undefined, new Date(0)]) {
      const page = await new JobLists({ db: database.db, clock: REAL_CLOCK }).page(accountId, {
        filter,
        updatedAfter,
        cursor: undefined,
        limit: 10,
      });
      expect(accepted(page).items.map(({ id }) => id)).toEqual([young.id]);
    }
  });

  test('takes its deliveries and its result with it, and leaves the record', async () => {
    const to = await makeEndpoint(database.db, accountId);
    const result = { contentType: 'image/png', bytes: 2, sha256: 'ab'.repeat(32) };
    const old = await oldJob(accountId, 31, { outputText: null, result }, to);
    await settle(old.end, 'delivered');
    const kept = await oldJob(accountId, 29, { outputText: null, result });
    for (const { end } of [old, kept]) for (const number of [0, 1]) await insertChunk(end.runId!, number);
    await makeRetention().retention.run();
    expect(await countOf('deliveries', 'job_id', old.id)).toBe(0);
    expect(await countOf('result_chunks', 'run_id', old.end.runId!)).toBe(0);
    expect(await countOf('result_chunks', 'run_id', kept.end.runId!)).toBe(2);
    expect(await countOf('job_runs', 'job_id', old.id)).toBe(1);
    expect(await countOf('events', 'job_id', old.id)).toBe(3);
  });

  test('takes along what a run of it left behind that was lost', async () => {
    const at = ago(31);
    const job = await insertJob(database.db, accountId, { createdAt: at });
    const lost = await claimRun(database.db, job, { now: at });
    const again = {
      runStatus: 'lost',
      runError: { code: 'worker_lost', message: '' },
      jobStatus: 'in_progress',
      endedAt: at,
    } as const;
    await endRuns(database.sql, [
      runEnd(lost, { ...again, event: { id: newId('evt', at.getTime()), type: 'job.retrying', body: null } }),
    ]);
    await endRuns(database.sql, [
      runEnd(await claimRun(database.db, job, { now: at }), {
        ...finalEvent('job.succeeded', undefined, at),
        endedAt: at,
      }),
    ]);
    await insertChunk(lost.runId, 0);
    await makeRetention().retention.run();
    expect(await countOf('result_chunks', 'run_id', lost.runId)).toBe(0);
  });

  test.each(['pending', 'held'] as const)('stays while a delivery of it is %s', async (status) => {
    const to = await makeEndpoint(database.db, accountId);
    const old = await oldJob(accountId, 31, {}, to);
    if (status === 'held') await settle(old.end, 'held');
    const { retention, lines } = makeRetention();
    await retention.run();
    expect(lines).toEqual([]);
    expect(await isThere(old)).toBe(true);
    await settle(old.end, 'delivered');
    await makeRetention().retention.run();
    expect(await isThere(old)).toBe(false);
  });

  test('is counted from its end: one that ran for weeks has its whole time', async () => {
    const long = await oldJob(accountId, 100);
    await database.sql`UPDATE ringback.jobs SET finished_at = ${ago(29)} WHERE id = ${long.id}`;
    const { id } = await insertJob(database.db, accountId, { createdAt: ago(100) });
    await makeRetention().retention.run();
    expect(await isThere(long)).toBe(true);
    expect(await isThere({ accountId, id })).toBe(true);
  });
});

describe('an account', () => {
  const keepFor = (days: number | null) =>
    database.sql`UPDATE ringback.accounts SET retention_days = ${days} WHERE account_id = ${accountId}`;

  test.each([
    [null, 31, 29],
    [7, 8, 6],
    [400, 401, 399],
    [0, 0.001, undefined],
  ])('that keeps its jobs for %s days has them that long', async (days, over, within) => {
    await keepFor(days);
    const old = await oldJob(accountId, over);
    const young = within === undefined ? undefined : await oldJob(accountId, within);
    await makeRetention().retention.run();
    expect(await isThere(old)).toBe(false);
    if (young !== undefined) expect(await isThere(young)).toBe(true);
  });

  test('may keep its jobs for longer than dates go back', async () => {
    await keepFor(2_147_483_647);
    const old = await oldJob(accountId, 2000);
    await makeRetention().retention.run();
    expect(await isThere(old)).toBe(true);
  });

  test('with trouble does not keep the others’ jobs', async () => {
    const [bad, good] = [await oldJob(accountId, 31), await oldJob((await makeAccount(database.db)).accountId, 31)];
    // As if somebody had put it there by hand.
    await database.sql`
      INSERT INTO ringback.job_tombstones (account_id, id, type, status, created_at, finished_at, expired_at)
      VALUES (${accountId}, ${bad.id}, 'x', 'failed', now(), now(), now())`;
    const { retention, lines } = makeRetention();
    await retention.run();
    expect(await isThere(good)).toBe(false);
    expect(lines).toMatchObject([
      { msg: 'retention', account_id: accountId },
      { msg: 'retired', jobs: 1 },
    ]);
  });
});

describe('many jobs', () => {
  async function manyOld(count: number): Promise<StorableJob[]> {
    const jobs = Array.from({ length: count }, (_, number) =>
      newJob(accountId, { createdAt: new Date(ago(40).getTime() + number) }),
    );
    for (let made = 0; made < count; made += 500) await insertJobs(database.sql, jobs.slice(made, made + 500));
    return jobs;
  }
  async function endAll(except: readonly JobId[]): Promise<void> {
    await database.sql`
      WITH over AS (
        DELETE FROM ringback.run_queue
        WHERE account_id = ${accountId} AND job_id <> ALL (${[...except]}::text[]) RETURNING job_id
      )
      UPDATE ringback.jobs SET status = 'canceled', error = '{"code":"canceled","message":""}', finished_at = created_at
      FROM over WHERE account_id = ${accountId} AND id = over.job_id`;
  }
  const left = async () => {
    const rows = await database.sql<{ id: JobId }[]>`
      SELECT id FROM ringback.jobs WHERE account_id = ${accountId} ORDER BY id`;
    return rows.map(({ id }) => id);
  };

  test('go in batches, past those that have to stay', async () => {
    const jobs = await manyOld(1700);
    const staying = [...jobs.slice(0, 600), jobs[1200]!].map(({ id }) => id);
    await endAll(staying);
    await makeRetention().retention.run();
    expect(await left()).toEqual(staying);
  });

  test('go once, whichever of two keepers takes them', async () => {
    const jobs = await manyOld(1500);
    await endAll([]);
    const keepers = [makeRetention({ db: database.open() }), makeRetention({ db: database.open() })];
    await Promise.all(keepers.map(({ retention }) => retention.run()));
    expect(await left()).toEqual([]);
    expect(await countOf('job_tombstones', 'account_id', accountId)).toBe(jobs.length);
    const told = keepers.flatMap(({ lines }) => lines);
    expect(told.filter(({ msg }) => msg !== 'retired')).toEqual([]);
  });

  test('with large results go a few at a time, and each of them', async () => {
    const large = { contentType: 'image/png', bytes: 40_000_000, sha256: 'ab'.repeat(32) };
    const olds = [];
    for (const days of [45, 44, 43, 42, 41])
      olds.push(await oldJob(accountId, days, { outputText: null, result: large }));
    await makeRetention().retention.run();
    expect(await left()).toEqual([]);
    const [row] = await database.sql`
      SELECT count(DISTINCT xmin::text)::int AS transactions FROM ringback.job_tombstones WHERE account_id = ${accountId}`;
    expect(row).toEqual({ transactions: 5 });
  });
});

describe('a tombstone', () => {
  test('goes when the record’s time is over as well', async () => {
    const [ancient, old] = [await oldJob(accountId, 431), await oldJob(accountId, 429)];
    const { retention } = makeRetention();
    await retention.run();
    await retention.run();
    expect(await findTombstone(database.db, accountId, ancient.id)).toBeUndefined();
    expect(await findTombstone(database.db, accountId, old.id)).toBeDefined();
  });
});

describe('what was told of endpoints and deliveries', () => {
  test('goes as jobs do, unless it has yet to be sent', async () => {
    const { key: _key, ...of } = await makeAccount(database.db);
    const { id: endpointId } = await makeEndpoint(database.db, of.accountId);
    const [old, young] = [ago(31), ago(29)];
    const made = (createdAt: Date, status: DeliveryStatus) => madeDelivery({ ...of, endpointId, createdAt, status });
    const gone = [made(old, 'delivered'), made(old, 'exhausted'), made(old, 'discarded')];
    const kept = [made(old, 'pending'), made(old, 'held'), made(young, 'delivered')];
    await insertDeliveries(database.db, [...gone, ...kept]);
    await makeRetention().retention.run();
    const left = await database.sql`SELECT id FROM ringback.deliveries WHERE account_id = ${of.accountId} ORDER BY id`;
    expect(left.map(({ id }) => id)).toEqual(kept.map(({ id }) => id).toSorted());
  });

  test('goes though there are thousands, of which the jobs’ own stay', async () => {
    const { key: _key, ...of } = await makeAccount(database.db);
    const endpoint = await makeEndpoint(database.db, of.accountId);
    const job = await oldJob(of.accountId, 40, {}, endpoint);
    await settle(job.end, 'held');
    const createdAt = ago(35);
    await insertDeliveries(
      database.db,
      Array.from({ length: 1200 }, () => madeDelivery({ ...of, endpointId: endpoint.id, createdAt })),
    );
    await makeRetention().retention.run();
    const left = await database.sql`SELECT job_id FROM ringback.deliveries WHERE account_id = ${of.accountId}`;
    expect(left).toEqual([{ job_id: job.id }]);
  });
});
