import { describe, expect, test } from 'vitest';
import { newId, parseId, type RunId, timeOf } from '#domain/ids.ts';
import { claimRuns, type RunClaim } from '#store/claim-runs.ts';
import { findJob } from '#store/job-reads.ts';
import { insertJobs, type StorableJob } from '#store/jobs.ts';
import { endRuns } from '#store/end-runs.ts';
import { promoteDue } from '#store/run-queue.ts';
import { useDatabase } from '../../support/database.ts';
import { claimRun, insertJob, makeAccount, makeDue, newJob, runClaim, runEnd, WORKER } from '../../support/fixtures.ts';

const database = useDatabase();

const claim = (pool: string, changes: Partial<RunClaim> = {}) =>
  claimRuns(database.db, runClaim({ pool, limit: 100, ...changes }));
const claimed = async (pool: string, changes: Partial<RunClaim> = {}) =>
  (await claim(pool, changes)).jobs.map(({ id }) => id);
const events = (id: string) =>
  database.sql`SELECT type, sequence FROM ringback.events WHERE job_id = ${id} ORDER BY sequence`;
const items = (pool: string) =>
  database.sql<{ job_id: string; state: string; run_id: string | null }[]>`
    SELECT job_id, state, run_id FROM ringback.run_queue WHERE pool = ${pool} ORDER BY job_id`;

/** Jobs of one new account in a pool of their own. */
async function fill(count: number, changes: (index: number) => Partial<StorableJob> = () => ({})) {
  const { accountId } = await makeAccount(database.db);
  const pool = `test:${accountId}`;
  const jobs = Array.from({ length: count }, (_, n) => newJob(accountId, { pool, ...changes(n) }));
  await insertJobs(database.sql, jobs);
  return { accountId, pool, jobs };
}

test('the first run of a job starts it and makes the event job.started', async () => {
  const { accountId } = await makeAccount(database.db);
  const job = await insertJob(database.db, accountId, { inputText: '{"b":1,"a":[null]}', metadata: { k: 'v' } });
  const now = new Date();
  const [started] = (await claim(job.pool, { now })).jobs;
  expect(parseId('run', started!.runId)).toBe(started!.runId);
  const { inputText, runTimeoutMs, ...record } = started!;
  // A few members more: what the claim saw, the same in every row.
  expect(record).toMatchObject({
    ...(await findJob(database.db, accountId, job.id)),
    status: 'in_progress',
    metadata: { k: 'v' },
    runCount: 1,
    failureCount: 0,
    sequence: 2,
    createdAt: job.createdAt,
    updatedAt: now,
    startedAt: now,
    runStartedAt: now,
    workerId: WORKER,
    nextRunAt: null,
    cancelRequestedAt: null,
    finishedAt: null,
  });
  expect([inputText, runTimeoutMs]).toEqual(['{"b":1,"a":[null]}', 60_000]);
  expect(await events(job.id)).toEqual([
    { type: 'job.queued', sequence: 1 },
    { type: 'job.started', sequence: 2 },
  ]);
  const [event] = await database.sql`
    SELECT id, created_at FROM ringback.events WHERE type = 'job.started' AND job_id = ${job.id}`;
  expect(event).toMatchObject({ id: expect.stringMatching(/^evt_/), created_at: now });
  expect(timeOf(event!['id'] as RunId), 'by it the partition is found').toBe(now.getTime());
});

test('a claim leases its items by the database’s clock, each for as long as its run may take', async () => {
  const { pool } = await fill(1, () => ({ runTimeoutMs: 5000, expiresAt: new Date(Date.now() + 60_000) }));
  const { jobs } = await claim(pool, { leaseMs: 2000, heldBy: 'worker', workerId: 'somebody else’s name' });
  const [item] = await database.sql`
    SELECT state, run_id, worker_id, held_by, expires_at,
      extract(epoch FROM lease_expires_at - now())::float8 AS lease, extract(epoch FROM deadline_at - now())::float8 AS left
    FROM ringback.run_queue WHERE pool = ${pool}`;
  const workerId = 'somebody else’s name';
  expect(item).toMatchObject({ state: 'leased', run_id: jobs[0]!.runId, worker_id: workerId, held_by: 'worker' });
  expect(item!['expires_at'], 'a job that was started does not expire').toBeNull();
  expect(item!['lease']).toBeLessThanOrEqual(2);
  expect(item!['left']).toBeGreaterThan(item!['lease'] as number);
  expect(item!['left']).toBeLessThanOrEqual(5);
});

test('the runs of one claim have ids of their own, even a thousand', async () => {
  const { pool } = await fill(1001);
  const { jobs } = await claim(pool, { limit: 5000 });
  expect(jobs, 'a claim takes a thousand at most').toHaveLength(1000);
  const ids = jobs.map(({ runId }) => runId);
  expect(new Set(ids).size).toBe(1000);
  expect(ids.filter((id) => parseId('run', id) === undefined)).toEqual([]);
});

test('a later run keeps the start of the job, goes on with its sequence, and makes no event', async () => {
  const { accountId } = await makeAccount(database.db);
  const job = await insertJob(database.db, accountId);
  const first = await claimRun(database.db, job, { now: new Date('2026-01-01T00:00:00Z') });
  const nextRunAt = new Date();
  const failed = { runStatus: 'failed', runError: { code: 'handler_error', message: 'x' } } as const;
  await endRuns(database.sql, [runEnd(first, { ...failed, jobStatus: 'in_progress', nextRunAt })]);
  await makeDue(database.db, job);
  const workerId = newId('wrk', Date.now());
  const second = await claimRun(database.db, job, { workerId });
  expect(second).toMatchObject({
    runCount: 2,
    failureCount: 1,
    sequence: 3,
    startedAt: first.startedAt,
    workerId,
    nextRunAt: null,
  });
  expect(second.runId).not.toBe(first.runId);
  expect(await events(job.id)).toMatchObject([{}, {}, { type: 'job.retrying', sequence: 3 }]);
});

describe('a claim takes', () => {
  test('nothing from an empty pool, and says that there is no more', async () => {
    expect(await claim('test:empty')).toEqual({ jobs: [], more: false, nextAccount: '' });
  });

  test('nothing of another pool, whatever its name begins with', async () => {
    const { pool, jobs } = await fill(1);
    expect(await claimed(pool.slice(0, -1))).toEqual([]);
    expect(await claimed(`${pool}x`)).toEqual([]);
    expect(await claimed(pool)).toEqual([jobs[0]!.id]);
  });

  test('no more than its limit, and says whether there may be more', async () => {
    const { pool, jobs } = await fill(5);
    const first = await claim(pool, { limit: 2 });
    expect([first.jobs.length, first.more]).toEqual([2, true]);
    const rest = await claim(pool, { limit: 10 });
    expect([rest.jobs.length, rest.more]).toEqual([3, false]);
    const all = [...first.jobs, ...rest.jobs].map(({ id }) => id);
    expect(all.toSorted()).toEqual(jobs.map(({ id }) => id).toSorted());
  });

  test('what is leased by nobody else', async () => {
    const { pool } = await fill(3);
    await claim(pool);
    expect(await claimed(pool)).toEqual([]);
    expect(await items(pool)).toMatchObject([{ state: 'leased' }, { state: 'leased' }, { state: 'leased' }]);
  });

  test('of one account the higher priority first, then the older', async () => {
    const start = Date.now();
    const priorities = [0, -100, 5, 0, 100, 5];
    const { pool, jobs } = await fill(6, (n) => ({ priority: priorities[n]!, createdAt: new Date(start + n) }));
    const order = [];
    for (const _ of jobs) order.push(...(await claimed(pool, { limit: 1 })));
    expect(order).toEqual([4, 2, 5, 0, 3, 1].map((n) => jobs[n]!.id));
  });

  test('what is delayed only once it was promoted, whatever its time', async () => {
    const runAt = new Date(Date.now() + 3_600_000);
    const { pool, jobs } = await fill(2, (n) => (n === 0 ? { runAt } : {}));
    expect(await claimed(pool)).toEqual([jobs[1]!.id]);
    await promoteDue(database.db, new Date(), 1000);
    expect(await claimed(pool), 'not due').toEqual([]);
    await database.sql`UPDATE ringback.run_queue SET due_at = now() - interval '1 s' WHERE job_id = ${jobs[0]!.id}`;
    expect(await claimed(pool), 'due, and not promoted').toEqual([]);
    expect((await promoteDue(database.db, new Date(), 1000)).get(pool)).toBe(1);
    expect(await claimed(pool)).toEqual([jobs[0]!.id]);
  });

  test('nothing that has expired by its own clock, and what stands behind it', async () => {
    const now = new Date();
    const late = (ms: number) => ({ expiresAt: new Date(now.getTime() + ms), priority: 1 });
    const { pool, jobs } = await fill(4, (n) => [late(-1), late(0), late(1), {}][n]!);
    expect((await claimed(pool, { now })).toSorted()).toEqual([jobs[2]!.id, jobs[3]!.id].toSorted());
    expect(await claimed(pool, { now })).toEqual([]);
  });

  test('no job that has ended, though an item was left behind', async () => {
    const { pool, accountId, jobs } = await fill(1);
    const [job] = jobs;
    await database.sql`
      UPDATE ringback.jobs SET status = 'canceled', error = '{}', finished_at = now() WHERE id = ${job!.id}`;
    const before = await findJob(database.db, accountId, job!.id);
    expect(await claimed(pool)).toEqual([]);
    expect(await findJob(database.db, accountId, job!.id)).toEqual(before);
    expect(await events(job!.id)).toHaveLength(1);
  });
});

test('many claims at once give every item to exactly one of them', async () => {
  const { pool, jobs } = await fill(500);
  const pools = Array.from({ length: 8 }, () => database.open({ max: 1 }));
  const takeAll = async (db: (typeof pools)[number]) => {
    const ids: string[] = [];
    for (let misses = 0; misses < 3;) {
      const { jobs: got } = await claimRuns(db, runClaim({ pool, limit: 7 }));
      ids.push(...got.map(({ id }) => id));
      misses = got.length === 0 ? misses + 1 : 0;
    }
    return ids;
  };
  const taken = (await Promise.all(pools.map(takeAll))).flat();
  expect(taken).toHaveLength(500);
  expect(new Set(taken)).toEqual(new Set(jobs.map(({ id }) => id)));
  const runs = (await items(pool)).map(({ run_id }) => run_id);
  expect(new Set(runs).size).toBe(500);
  const started = await database.sql`
    SELECT count(*)::int FROM ringback.events AS event JOIN ringback.run_queue AS item ON item.job_id = event.job_id
    WHERE pool = ${pool} AND event.type = 'job.started'`;
  expect(started).toEqual([{ count: 500 }]);
});
