import { afterAll, beforeAll, expect, test } from 'vitest';
import { type AccountId, newId } from '#domain/ids.ts';
import { CALLBACK_EVENT_TYPES } from '#domain/job.ts';
import { type ClaimedJob, claimRuns } from '#store/claim-runs.ts';
import { type Database, openDatabase } from '#store/database.ts';
import { advanceJobs, advanceStranded } from '#store/delivery-queue.ts';
import { endRuns } from '#store/end-runs.ts';
import { insertJobs } from '#store/jobs.ts';
import { type RunTelling, tellRuns } from '#store/tell-runs.ts';
import { buffersTouchedBy, withoutAutovacuum } from '../../support/buffers.ts';
import { useDatabase } from '../../support/database.ts';
import { insertDeliveries, madeDelivery } from '../../support/deliveries.ts';
import {
  bodyOf,
  finalEvent,
  type MadeEndpoint,
  makeAccount,
  makeEndpoint,
  newJob,
  runClaim,
  runEnd,
} from '../../support/fixtures.ts';

/**
 * What it costs to tell of jobs while they go on must know neither how much was told before, of these jobs or others, nor how much
 * waits. As in flat-cost.test.ts: in buffers, a row, on tables that PostgreSQL knows nothing about. A row is told to an endpoint
 * that its job names and to one that subscribes.
 */
const HISTORY = 6000;
const BACKLOG = 600;
const GROUP = 50;
const MOST_PER_ROW = 130;
/** A keeper looks at all that is in the order of its job and waits, and at nothing else. */
const MOST_PER_WAITING = 12;
const POOL = 'test:told';

const database = useDatabase();
let accountId: AccountId;
let endpoint: MadeEndpoint;
let planned: Database;

const openOne = () => openDatabase({ url: database.url, applicationName: 'ringback-test', max: 1, pooled: false });

function telling(job: ClaimedJob, type: RunTelling['event']['type']): RunTelling {
  const now = new Date();
  return {
    accountId,
    jobId: job.id,
    runId: job.runId,
    event: { id: newId('evt', now.getTime()), type, body: bodyOf(type) },
    delivery: { id: newId('dlv', now.getTime()), endpointId: endpoint.id },
    toldAt: now,
    progressEveryMs: 0,
  };
}

type Measure = <T>(name: string, work: () => Promise<T>) => Promise<T>;

/** Takes jobs from their submission to their end, each step told. */
async function toldLife(db: Database, count: number, measure: Measure): Promise<void> {
  const told = { pool: POOL, callbackEvents: CALLBACK_EVENT_TYPES };
  const jobs = Array.from({ length: count }, () => {
    const queuedDeliveryId = newId('dlv', Date.now());
    return newJob(accountId, { ...told, queuedDeliveryId }, endpoint);
  });
  expect((await measure('insertJobs', () => insertJobs(db.sql, jobs))).isToTell).toBe(true);
  const claimed = await measure('claimRuns', () => claimRuns(db, runClaim({ pool: POOL, limit: count })));
  const ids = claimed.jobs.map(({ id }) => id);
  for (const type of ['job.started', 'job.progress', 'job.progress'] as const) {
    const tellings = claimed.jobs.map((job) => telling(job, type));
    expect((await measure(type, () => tellRuns(db.sql, tellings))).size).toBe(count);
  }
  const first = await measure('advanceJobs', () => advanceJobs(db.sql, ids, new Date()));
  expect(first.again, 'the first progress is given up').toHaveLength(count);
  const ends = claimed.jobs.map((job) => runEnd(job, finalEvent('job.succeeded', endpoint)));
  expect((await measure('endRuns', () => endRuns(db.sql, ends))).size).toBe(count);
  await measure('advanceJobs', () => advanceJobs(db.sql, ids, new Date()));
}

async function costOf(db: Database, count: number): Promise<Map<string, number>> {
  const costs = new Map<string, number>();
  await toldLife(db, count, async (name, work) => {
    let answer: { value: Awaited<ReturnType<typeof work>> } | undefined;
    const buffers = await buffersTouchedBy(db, async () => void (answer = { value: await work() }));
    costs.set(name, Math.max(costs.get(name) ?? 0, buffers));
    return answer!.value;
  });
  return costs;
}

/** A job that has told of its progress all day, and goes on. */
async function runLongJob(): Promise<ClaimedJob> {
  const told = { pool: 'test:long', callbackEvents: CALLBACK_EVENT_TYPES };
  const waiting = newJob(accountId, told, endpoint);
  await insertJobs(database.sql, [waiting]);
  const { jobs } = await claimRuns(database.db, runClaim({ pool: 'test:long' }));
  const start = Date.now() - HISTORY;
  const all = Array.from({ length: HISTORY }, (_, n) =>
    madeDelivery({ accountId, endpointId: endpoint.id, createdAt: new Date(start + n), jobId: waiting.id }),
  );
  for (let from = 0; from < all.length; from += 1000) await insertDeliveries(database.db, all.slice(from, from + 1000));
  return jobs[0]!;
}

const asItIs: Measure = (_name, work) => work();

beforeAll(async () => {
  await withoutAutovacuum(database.db);
  ({ accountId } = await makeAccount(database.db));
  endpoint = await makeEndpoint(database.db, accountId);
  const subscriber = await makeEndpoint(database.db, accountId);
  await database.sql`UPDATE ringback.endpoints SET event_types = '{job.*}' WHERE id = ${subscriber.id}`;
  planned = openOne();
  for (let count = 0; count < 7; count++) {
    await toldLife(planned, 2, asItIs);
    await advanceStranded(planned, 500);
  }
  for (let made = 0; made < BACKLOG; made += GROUP) await toldLife(database.db, GROUP, asItIs);
}, 60_000);
afterAll(() => planned.close());

function expectFlat(costs: ReadonlyMap<string, number>, count: number): void {
  for (const [name, buffers] of costs) expect.soft(buffers, name).toBeLessThanOrEqual((count + 1) * MOST_PER_ROW);
  expect(costs.size).toBe(6);
}

test('a row costs little in a session that planned every statement when the tables were empty', async () => {
  expectFlat(await costOf(planned, GROUP), GROUP);
  expectFlat(await costOf(planned, 1), 1);
});

test('and in one that begins now, with plans for the first executions and then the lasting one', async () => {
  const fresh = openOne();
  for (let count = 0; count < 8; count++) expectFlat(await costOf(fresh, GROUP), GROUP);
  await fresh.close();
});

test('to tell once more of a job that has told much costs no more than to tell of another', async () => {
  const job = await runLongJob();
  for (const db of [planned, openOne()]) {
    for (const type of ['job.progress', 'job.progress'] as const) {
      const told = await buffersTouchedBy(db, async () => {
        await tellRuns(db.sql, [telling(job, type)]);
        await advanceJobs(db.sql, [job.id], new Date());
      });
      expect(told).toBeLessThanOrEqual(3 * MOST_PER_ROW);
    }
    if (db !== planned) await db.close();
  }
});

test('a keeper that looks for what is stranded reads what waits, and not what was told', async () => {
  const [{ waiting }] = await database.sql<[{ waiting: number }]>`
    SELECT count(*)::int AS waiting FROM ringback.delivery_queue WHERE job_id IS NOT NULL`;
  for (const db of [planned, openOne()]) {
    const buffers = await buffersTouchedBy(db, async () => {
      expect(await advanceStranded(db, 500)).toBe(0);
    });
    expect(buffers).toBeLessThanOrEqual(waiting * MOST_PER_WAITING);
    if (db !== planned) await db.close();
  }
});
