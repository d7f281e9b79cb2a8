import { afterAll, beforeAll, expect, test } from 'vitest';
import { type AccountId, idBound, type JobId, newId } from '#domain/ids.ts';
import { type Database, openDatabase, type Transaction } from '#store/database.ts';
import { insertJobs } from '#store/jobs.ts';
import { findOldJobs, retireJobs } from '#store/retention.ts';
import { buffersTouched, withoutAutovacuum } from '../../support/buffers.ts';
import { useDatabase } from '../../support/database.ts';
import { makeAccount, makeEndpoint, newJob } from '../../support/fixtures.ts';

/** As in flat-cost.test.ts: what it costs to retire a job knows no table's size, not even with plans for empty tables. */
const JOBS = 4000;
const GROUP = 50;

const database = useDatabase();
let accountId: AccountId;
let planned: Database;
let ids: JobId[];

const openOne = () => openDatabase({ url: database.url, applicationName: 'ringback-test', max: 1, pooled: false });
const within = (db: Database, tx: Transaction): Database => ({ ...db, sql: tx as never });

/** What it costs to look at a group and to retire it, in buffers. */
async function costOf(db: Database, expected: number): Promise<{ find: number; retire: number }> {
  const finishedBefore = new Date();
  const page = { after: idBound('job', 0), below: idBound('job', Infinity), finishedBefore, limit: GROUP };
  let found: JobId[] = [];
  const find = await buffersTouched(db, async (tx) => {
    found = (await findOldJobs(within(db, tx), accountId, page)).filter(({ isDue }) => isDue).map(({ id }) => id);
  });
  const given = found.length === 0 ? [newId('job', 0)] : found;
  const retire = await buffersTouched(db, async (tx) => {
    const retired = await retireJobs(within(db, tx), accountId, { ids: given, finishedBefore, now: new Date() });
    expect(retired).toBe(expected);
  });
  return { find, retire };
}

beforeAll(async () => {
  await withoutAutovacuum(database.db);
  ({ accountId } = await makeAccount(database.db));
  planned = openOne();
  for (let count = 0; count < 7; count++) await costOf(planned, 0);
  const to = await makeEndpoint(database.db, accountId);
  const first = Date.now() - 3_600_000;
  const jobs = Array.from({ length: JOBS }, (_, number) =>
    newJob(accountId, { createdAt: new Date(first + number) }, to),
  );
  for (let made = 0; made < JOBS; made += 500) await insertJobs(database.sql, jobs.slice(made, made + 500));
  ids = jobs.map(({ id }) => id);
  // Ended as runs end them, but all at once: each with a run, a delivery and a chunk.
  await database.sql`
    WITH over AS (
      UPDATE ringback.jobs SET status = 'failed', error = '{"code":"x","message":""}', finished_at = created_at,
        started_at = created_at, run_count = 1, run_started_at = created_at, worker_id = 'w'
      WHERE account_id = ${accountId} RETURNING *
    ), run AS (
      INSERT INTO ringback.job_runs (account_id, id, job_id, number, status, worker_id, error, started_at, finished_at)
      SELECT account_id, 'run' || substr(id, 4), id, 1, 'failed', 'w', error, created_at, created_at FROM over
    ), chunk AS (
      INSERT INTO ringback.result_chunks (account_id, run_id, number, bytes)
      SELECT account_id, 'run' || substr(id, 4), 0, 'x' FROM over
    )
    INSERT INTO ringback.deliveries (account_id, id, event_id, event_type, job_id, endpoint_id, status, attempt_count,
      created_at, updated_at, finished_at)
    SELECT account_id, 'dlv' || substr(id, 4), 'evt' || substr(id, 4), 'job.failed', id, callback_endpoint_id, 'delivered',
      1, created_at, created_at, created_at FROM over`;
});
afterAll(() => planned.close());

const counts = async () => {
  const [row] = await database.sql`
    SELECT (SELECT count(*)::int FROM ringback.jobs) AS jobs, (SELECT count(*)::int FROM ringback.deliveries) AS deliveries,
      (SELECT count(*)::int FROM ringback.result_chunks) AS chunks,
      (SELECT count(*)::int FROM ringback.job_tombstones) AS tombstones`;
  return row;
};

// Measured: 4 to 13 to find, as dead rows add up, and 68 to retire: two thirds are the foreign key's check, whose plan is
// PostgreSQL's own and gets better with statistics. Reading a table once for each would take hundreds.
const MOST_TO_FIND = 15 * GROUP;
const MOST_TO_RETIRE = 80 * GROUP;

test('in a session that planned everything when the tables were empty, and in one that begins now', async () => {
  const fresh = openOne();
  try {
    const costs = [];
    for (let count = 0; count < 4; count++) costs.push(await costOf(planned, GROUP));
    for (let count = 0; count < 8; count++) costs.push(await costOf(fresh, GROUP));
    for (const { find, retire } of costs) {
      expect(find).toBeLessThanOrEqual(MOST_TO_FIND);
      expect(retire).toBeLessThanOrEqual(MOST_TO_RETIRE);
      expect(retire).toBeGreaterThan(GROUP);
    }
    const gone = 12 * GROUP;
    const left = ids.length - gone;
    expect(await counts()).toEqual({ jobs: left, deliveries: left, chunks: left, tombstones: gone });
  } finally {
    await fresh.close();
  }
});
