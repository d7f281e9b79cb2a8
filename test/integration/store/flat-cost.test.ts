import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type AccountId, newId, timeOf } from '#domain/ids.ts';
import { type Database, openDatabase, type Transaction } from '#store/database.ts';
import {
  type DueDelivery,
  readDestinations,
  readDueDeliveries,
  recordInterrupted,
  settleDeliveries,
} from '#store/deliveries.ts';
import { type ClaimedJob, claimRuns, endRuns, insertJobs, type NewJob, recordLostRuns } from '#store/jobs.ts';
import { buffersTouched, withoutAutovacuum } from '../../support/buffers.ts';
import { useDatabase } from '../../support/database.ts';
import {
  finalEvent,
  inTransaction,
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
 * every group (10,000 buffers for 99 jobs). Measured in buffers, not in time: a row may touch 60, and takes 10 to 35.
 */
const BACKLOG = 5000;
const GROUP = 50;
const MOST_PER_ROW = 60;

const database = useDatabase();
let accountId: AccountId;
let endpoint: MadeEndpoint;
/** One connection that has run every statement on empty tables, often enough for its plan to be kept. */
let planned: Database;

const STATEMENTS = [
  'insertJobs',
  'claimRuns',
  'recordLostRuns',
  'endRuns',
  'readDueDeliveries',
  'readDestinations',
  'recordInterrupted',
  'settleDeliveries',
] as const;
type Cost = Record<(typeof STATEMENTS)[number], number>;

const keyOf = ({ id, ...delivery }: DueDelivery) => ({
  ...delivery,
  deliveryId: id,
  eventCreatedAt: new Date(timeOf(delivery.eventId)),
});
const lostOf = (delivery: DueDelivery) => ({
  accountId,
  deliveryId: delivery.id,
  attemptId: newId('att', Date.now()),
  workerId: WORKER,
  now: new Date(),
});

const insert = (tx: Transaction, jobs: readonly NewJob[]) => insertJobs(tx, jobs);
const claim = (tx: Transaction, jobs: ReadonlyArray<{ accountId: AccountId; id: NewJob['id'] }>) =>
  claimRuns(
    tx,
    jobs.map((job) => runClaim(job)),
  );

/** Takes jobs through a whole life on one connection; answers what each statement cost. */
async function wholeLife(db: Database, jobs: readonly NewJob[]): Promise<Cost> {
  const cost: Partial<Cost> = {};
  const measure = async <T>(name: keyof Cost, work: (tx: Transaction) => Promise<T>): Promise<T> => {
    let answer: T | undefined;
    const buffers = await buffersTouched(db, async (tx) => (answer = await work(tx)));
    cost[name] = Math.max(cost[name] ?? 0, buffers);
    return answer as T;
  };
  await measure('insertJobs', (tx) => insert(tx, jobs));
  await measure('claimRuns', (tx) => claim(tx, jobs));
  await measure('recordLostRuns', (tx) =>
    recordLostRuns(
      tx,
      jobs.map((job) => ({ accountId, jobId: job.id, now: new Date() })),
    ),
  );
  const claimed = await measure('claimRuns', (tx) => claim(tx, jobs));
  const ends = claimed.map((job: ClaimedJob) => runEnd(job, finalEvent('job.succeeded', endpoint)));
  const ended = await measure('endRuns', (tx) => endRuns(tx, ends));
  expect(ended.size).toBe(jobs.length);
  const keys = ends.map(({ event, delivery }) => ({
    accountId,
    deliveryId: delivery!.id,
    eventId: event!.id,
    endpointId: endpoint.id,
    eventCreatedAt: new Date(timeOf(event!.id)),
  }));
  const due = await measure('readDueDeliveries', (tx) => readDueDeliveries(tx, keys));
  expect(due).toHaveLength(jobs.length);
  const destinations = await measure('readDestinations', (tx) =>
    readDestinations(tx, [{ accountId, endpointId: endpoint.id }], new Date()),
  );
  expect(destinations).toHaveLength(1);
  await measure('recordInterrupted', (tx) => recordInterrupted(tx, due.map(lostOf)));
  const again = await measure('readDueDeliveries', (tx) => readDueDeliveries(tx, due.map(keyOf)));
  const settled = await measure('settleDeliveries', (tx) =>
    settleDeliveries(
      tx,
      again.map((delivery) => settlement(delivery)),
    ),
  );
  expect(settled.size).toBe(jobs.length);
  return cost as Cost;
}

const jobsOf = (count: number) => Array.from({ length: count }, () => newJob(accountId, {}, endpoint));

/** Jobs in every state, so that no statement finds a short cut: a fifth each queued, running, ended, due and settled. */
async function growBacklog(db: Database): Promise<void> {
  for (let made = 0; made < BACKLOG; made += 500) {
    await inTransaction(db, async (tx) => {
      const jobs = jobsOf(500);
      await insert(tx, jobs);
      const claimed = await claim(tx, jobs.slice(100));
      const ends = claimed.slice(100).map((job) => runEnd(job, finalEvent('job.succeeded', endpoint)));
      await endRuns(tx, ends);
      const keys = ends.slice(100).map(({ event, delivery }) => ({
        accountId,
        deliveryId: delivery!.id,
        eventId: event!.id,
        endpointId: endpoint.id,
        eventCreatedAt: new Date(timeOf(event!.id)),
      }));
      const due = await readDueDeliveries(tx, keys.slice(100));
      await settleDeliveries(
        tx,
        due.map((delivery) => settlement(delivery)),
      );
    });
  }
}

beforeAll(async () => {
  await withoutAutovacuum(database.db);
  ({ accountId } = await makeAccount(database.db));
  endpoint = await makeEndpoint(database.db, accountId);
  planned = openDatabase({ url: database.url, applicationName: 'ringback-test', max: 1, pinPlans: true });
  // A prepared statement gets its lasting plan with the sixth execution.
  for (let count = 0; count < 7; count++) await wholeLife(planned, jobsOf(2));
  await growBacklog(database.db);
});
afterAll(() => planned.close());

describe('in a session that planned every statement when the tables were empty, a row costs little:', () => {
  let many: Cost;
  let one: Cost;
  beforeAll(async () => {
    many = await wholeLife(planned, jobsOf(GROUP));
    one = await wholeLife(planned, jobsOf(1));
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
    const fresh = openDatabase({ url: database.url, applicationName: 'ringback-test', max: 1, pinPlans: true });
    for (let count = 0; count < 8; count++) costs.push(await wholeLife(fresh, jobsOf(GROUP)));
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
