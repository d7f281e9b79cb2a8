import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { AccountId } from '#domain/ids.ts';
import { claimDeliveries, FIRST_LANE } from '#store/claim-deliveries.ts';
import { type ClaimedJob, claimRuns } from '#store/claim-runs.ts';
import { type Database, openDatabase } from '#store/database.ts';
import { settleDeliveries } from '#store/deliveries.ts';
import { findLapsedAttempts, promoteDueDeliveries, renewAttempts } from '#store/delivery-queue.ts';
import { insertLogLines } from '#store/job-logs.ts';
import { insertJobs, type StorableJob, setProgress } from '#store/jobs.ts';
import { endRuns } from '#store/end-runs.ts';
import { findExpiredJobs, findLapsedRuns, promoteDue, renewLeases, requestCancel } from '#store/run-queue.ts';
import { buffersTouchedBy, withoutAutovacuum } from '../../support/buffers.ts';
import { useDatabase } from '../../support/database.ts';
import {
  finalEvent,
  type MadeEndpoint,
  makeAccount,
  makeEndpoint,
  newJob,
  runClaim,
  runEnd,
  settlement,
  WORKER,
} from '../../support/fixtures.ts';

/**
 * What a row costs must not grow with the table. The dangerous table is a new one: PostgreSQL has no statistics of it
 * yet, and a statement planned while it was empty keeps its plan while it grows. Such plans once read a whole index for
 * every group (10,000 buffers for 99 jobs). Measured in buffers, not in time: a row may touch 60, and takes 10 to 45.
 */
const BACKLOG = 5000;
const GROUP = 50;
const MOST_PER_ROW = 60;
const POOL = 'test:flat';

const database = useDatabase();
let accountId: AccountId;
let endpoint: MadeEndpoint;
/** One connection that has run every statement on empty tables, often enough for its plan to be kept. */
let planned: Database;

const STATEMENTS = [
  'insertJobs',
  'claimRuns',
  'renewLeases',
  'setProgress',
  'insertLogLines',
  'requeueRuns',
  'promoteDue',
  'endRuns',
  'requestCancel',
  'findLapsedRuns',
  'findExpiredJobs',
  'claimDeliveries',
  'renewAttempts',
  'requeueDeliveries',
  'promoteDueDeliveries',
  'findLapsedAttempts',
  'settleDeliveries',
] as const;
type Cost = Record<(typeof STATEMENTS)[number], number>;

const FAR = new Date(Date.now() + 86_400_000);

/** Ready ones, of which a half has an idempotency key and a half will expire. */
const jobsOf = (count: number, changes: Partial<StorableJob> = {}) =>
  Array.from({ length: count }, (_, n) => {
    const job = newJob(accountId, { pool: POOL, expiresAt: n % 2 === 0 ? FAR : null, ...changes }, endpoint);
    const fingerprint = '00'.repeat(32);
    const key = { key: job.id, fingerprint, response: 'e30=', responseKeyId: null, expiresAt: FAR };
    return { ...job, idempotency: n % 4 < 2 ? key : null };
  });

const claim = async (db: Database, limit: number): Promise<readonly ClaimedJob[]> =>
  (await claimRuns(db, runClaim({ pool: POOL, limit }))).jobs;
const claimDue = async (db: Database, limit: number) => {
  const wanted = {
    limit: 2 * limit, // one endpoint gets half
    workerId: WORKER,
    leaseMs: 15_000,
    afterLane: FIRST_LANE,
    now: new Date(),
    endpointLimit: 1000,
  };
  return (await claimDeliveries(db.sql, wanted)).deliveries;
};
const refOf = (job: ClaimedJob) => ({ accountId, jobId: job.id, runId: job.runId });
const endOf = (job: ClaimedJob) => runEnd(job, finalEvent('job.succeeded', endpoint));
const againOf = (job: ClaimedJob) => {
  const failed = { runStatus: 'failed', runError: { code: 'handler_error', message: 'x' } } as const;
  return runEnd(job, { ...failed, jobStatus: 'in_progress', nextRunAt: new Date(0) });
};

/** Takes jobs through a whole life on one connection; answers what each statement cost at most. */
async function wholeLife(db: Database, count: number): Promise<Cost> {
  const cost: Partial<Cost> = {};
  const measure = async <T>(name: keyof Cost, work: () => Promise<T>): Promise<T> => {
    let answer: T | undefined;
    const buffers = await buffersTouchedBy(db, async () => (answer = await work()));
    cost[name] = Math.max(cost[name] ?? 0, buffers);
    return answer as T;
  };
  expect((await measure('insertJobs', () => insertJobs(db.sql, jobsOf(count)))).ids.size).toBe(count);
  const first = await measure('claimRuns', () => claim(db, count));
  const leases = { leaseMs: 15_000, capped: false, now: new Date() };
  expect(await measure('renewLeases', () => renewLeases(db.sql, first.map(refOf), leases))).toHaveLength(count);
  const [run] = first.map(refOf);
  expect(
    await measure('setProgress', () => setProgress(db.sql, run!, { percent: 1 }, { now: new Date(), tellEveryMs: 0 })),
  ).toEqual({ tellInMs: null });
  const line = {
    position: 1_000_001,
    level: 'info',
    message: 'said',
    fieldsText: null,
    createdAt: new Date(),
  } as const;
  expect(await measure('insertLogLines', () => insertLogLines(db.sql, run!, [line]))).toBe(true);
  expect((await measure('requeueRuns', () => endRuns(db.sql, first.map(againOf)))).size).toBe(count);
  expect((await measure('promoteDue', () => promoteDue(db, new Date(), count))).get(POOL)).toBe(count);
  const claimed = await measure('claimRuns', () => claim(db, count));
  const grace = { limit: 500, cancelGraceMs: 60_000, before: new Date() };
  expect(await measure('findLapsedRuns', () => findLapsedRuns(db, grace))).toEqual([]);
  expect(await measure('findExpiredJobs', () => findExpiredJobs(db, new Date(), 500))).toEqual([]);
  expect(await measure('requestCancel', () => requestCancel(db, refOf(claimed[0]!), new Date()))).toBe(
    claimed[0]!.runId,
  );
  const ends = claimed.map(endOf);
  expect((await measure('endRuns', () => endRuns(db.sql, ends))).size).toBe(count);
  await deliver(db, ends, measure);
  return cost as Cost;
}

/** The other half of a life. */
async function deliver(
  db: Database,
  ends: ReadonlyArray<ReturnType<typeof endOf>>,
  measure: <T>(name: keyof Cost, work: () => Promise<T>) => Promise<T>,
): Promise<void> {
  const first = await measure('claimDeliveries', () => claimDue(db, ends.length));
  expect(first).toHaveLength(ends.length);
  const held = first.map((delivery) => ({ ...delivery, deliveryId: delivery.id }));
  expect(
    (await measure('renewAttempts', () => renewAttempts(db.sql, held, { leaseMs: 15_000, now: new Date() }))).size,
  ).toBe(ends.length);
  const later = { status: 'pending', nextAttemptAt: new Date(Date.now() + 100) } as const;
  const failed = first.map((delivery) => settlement(delivery, { verdict: later }));
  expect((await measure('requeueDeliveries', () => settleDeliveries(db.sql, failed))).size).toBe(ends.length);
  await db.sql`UPDATE ringback.delivery_queue SET due_at = now() WHERE delivery_id = ANY (${first.map(({ id }) => id)})`;
  expect(await measure('promoteDueDeliveries', () => promoteDueDeliveries(db, new Date(), ends.length))).toBe(
    ends.length,
  );
  const again = await measure('claimDeliveries', () => claimDue(db, ends.length));
  expect(await measure('findLapsedAttempts', () => findLapsedAttempts(db, { limit: 500, before: new Date() }))).toEqual(
    [],
  );
  const settlements = again.map((delivery) => settlement(delivery));
  expect((await measure('settleDeliveries', () => settleDeliveries(db.sql, settlements))).size).toBe(ends.length);
}

/**
 * Jobs in every state, so that no statement finds a short cut: a fifth each ready, delayed, ended, due and settled. Few
 * are under way: a claim counts those, whose number the workers bound.
 */
async function growBacklog(db: Database): Promise<void> {
  for (let made = 0; made < BACKLOG; made += 500) {
    await insertJobs(db.sql, jobsOf(100, { runAt: FAR }));
    await insertJobs(db.sql, jobsOf(400));
    const claimed = await claim(db, 302);
    const ends = claimed.slice(2, 102).map((job) => runEnd(job));
    const told = claimed.slice(102).map(endOf);
    await endRuns(db.sql, [...ends, ...told]);
    const due = await claimDue(db, 100);
    await settleDeliveries(
      db.sql,
      due.map((delivery) => settlement(delivery)),
    );
  }
}

beforeAll(async () => {
  await withoutAutovacuum(database.db);
  ({ accountId } = await makeAccount(database.db));
  endpoint = await makeEndpoint(database.db, accountId);
  planned = openDatabase({ url: database.url, applicationName: 'ringback-test', max: 1, pooled: false });
  // A prepared statement gets its lasting plan with the sixth execution.
  for (let count = 0; count < 7; count++) await wholeLife(planned, 2);
  await growBacklog(database.db);
});
afterAll(() => planned.close());

describe('in a session that planned every statement when the tables were empty, a row costs little:', () => {
  let many: Cost;
  let one: Cost;
  beforeAll(async () => {
    // What earlier rows left in a queue's indexes a claim steps over, until a vacuum takes it away, as the keeper's does.
    await database.sql`VACUUM ringback.run_queue, ringback.delivery_queue`;
    many = await wholeLife(planned, GROUP);
    await database.sql`VACUUM ringback.run_queue, ringback.delivery_queue`;
    one = await wholeLife(planned, 1);
  });
  test.each(STATEMENTS)('%s', (name) => {
    expect(many[name], `a group of ${GROUP}`).toBeLessThanOrEqual(GROUP * MOST_PER_ROW);
    expect(one[name], 'a group of one').toBeLessThanOrEqual(2 * MOST_PER_ROW);
    expect(many[name], 'what the counters count').toBeGreaterThan(0);
  });
});

describe('in a session that begins now, with plans for the first executions and then the lasting one:', () => {
  const costs: Cost[] = [];
  beforeAll(async () => {
    const fresh = openDatabase({ url: database.url, applicationName: 'ringback-test', max: 1, pooled: false });
    for (let count = 0; count < 8; count++) costs.push(await wholeLife(fresh, GROUP));
    await fresh.close();
  });
  test.each(STATEMENTS)('%s', (name) => {
    const dear = costs.map((cost) => cost[name]).filter((buffers) => buffers > GROUP * MOST_PER_ROW);
    expect(dear).toEqual([]);
  });
});

test('PostgreSQL has no statistics of the tables all the while', async () => {
  const [row] = await database.sql<[{ jobs: number; analyzed: number }]>`
    SELECT (SELECT count(*)::int FROM ringback.jobs) AS jobs,
      (SELECT count(*)::int FROM pg_stats WHERE schemaname = 'ringback') AS analyzed`;
  expect(row.jobs).toBeGreaterThan(BACKLOG);
  expect(row.analyzed).toBe(0);
});
