import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type AccountId, idBound } from '#domain/ids.ts';
import { type Database, openDatabase, type Transaction } from '#store/database.ts';
import { findJobsByMetadata, type JobMatch, scanJobs, scanOpenJobs } from '#store/job-lists.ts';
import { findWalkStart, walkJobs } from '#store/job-walk.ts';
import { insertJobs } from '#store/jobs.ts';
import { createPartitions } from '#store/partitions.ts';
import { buffersTouched, withoutAutovacuum } from '../../support/buffers.ts';
import { useDatabase } from '../../support/database.ts';
import { makeAccount, newJob } from '../../support/fixtures.ts';
import { passHorizon } from '../../support/horizon.ts';

/**
 * What a page costs must know neither the table nor how rare its jobs are, but only how many it may look at: 500 here. As
 * in flat-cost.test.ts, measured in buffers, on tables that PostgreSQL knows nothing about and on those that it knows.
 */
const JOBS = 8000;
const LOOK = 500;

const database = useDatabase();
let accountId: AccountId;
let planned: Database;

const ANY: JobMatch = {
  types: null,
  statuses: null,
  metadata: {},
  from: idBound('job', 0),
  below: idBound('job', Infinity),
};
const NOTHING = { ...ANY, types: ['test.none'] };
const page = { limit: 50, look: LOOK };
const walk = { ...page, xid: '0', eventId: '', after: new Date(0), anyFrom: '0' } as const;

/** Each statement, the buffers that it may touch, and what it must find. */
const STATEMENTS: ReadonlyArray<[string, number, (db: Database) => Promise<number>, number]> = [
  ['a full page', 60, async (db) => (await scanJobs(db, accountId, ANY, page)).jobs.length, 50],
  ['a list of nothing', 200, async (db) => (await scanJobs(db, accountId, NOTHING, page)).jobs.length, 0],
  ['a page of open jobs', 400, async (db) => (await scanOpenJobs(db, accountId, ANY, page)).jobs.length, 50],
  // Per job it looks at: two or three index pages and its row.
  ['a list of no open jobs', 5 * LOOK, async (db) => (await scanOpenJobs(db, accountId, NOTHING, page)).jobs.length, 0],
  ['rare metadata', 20, (db) => byMetadata(db, 'number', '77'), 1],
  ['metadata of some', 400, (db) => byMetadata(db, 'some', 'yes'), 50],
  ['no metadata', 20, (db) => byMetadata(db, 'number', 'none'), 0],
  ['too common metadata', 100, (db) => byMetadata(db, 'common', 'yes'), -1],
  ['the start of a walk', 400, async (db) => ((await findWalkStart(db, accountId, now())).xid === '' ? 0 : 1), 1],
  ['a page of a walk', 800, async (db) => (await walkJobs(db, accountId, ANY, walk)).jobs.length, 50],
  ['a walk that meets nothing', 5 * LOOK, async (db) => (await walkJobs(db, accountId, NOTHING, walk)).jobs.length, 0],
];

const now = () => new Date();

async function byMetadata(db: Database, key: string, value: string): Promise<number> {
  const match = { ...ANY, metadata: { [key]: value } };
  return (await findJobsByMetadata(db, accountId, match, { limit: 50, most: LOOK }))?.length ?? -1;
}

const openOne = () => openDatabase({ url: database.url, applicationName: 'ringback-test', max: 1, pooled: false });

const within = (db: Database, tx: Transaction): Database => ({ ...db, sql: tx as never });

async function costsIn(db: Database): Promise<Array<{ name: string; found: number; buffers: number }>> {
  const costs = [];
  for (const [name, , work] of STATEMENTS) {
    let found = 0;
    const buffers = await buffersTouched(db, async (tx) => (found = await work(within(db, tx))));
    costs.push({ name, found, buffers });
  }
  return costs;
}

function expectBounded(costs: ReadonlyArray<{ name: string; found: number; buffers: number }>): void {
  for (const [index, [name, most, , found]] of STATEMENTS.entries()) {
    expect(costs[index], name).toMatchObject({ found });
    expect(costs[index]!.buffers, name).toBeLessThanOrEqual(most);
    expect(costs[index]!.buffers, 'what the counters count').toBeGreaterThan(0);
  }
}

beforeAll(async () => {
  await withoutAutovacuum(database.db);
  ({ accountId } = await makeAccount(database.db));
  await createPartitions(database.db, now());
  planned = openOne();
  for (let count = 0; count < 7; count++) await costsIn(planned);
  const first = Date.now() - JOBS;
  for (let made = 0; made < JOBS; made += 500) {
    const jobs = Array.from({ length: 500 }, (_, index) => {
      const number = String(made + index);
      const createdAt = new Date(first + made + index);
      return newJob(accountId, {
        createdAt,
        metadata: { number, common: 'yes', ...(index % 50 === 0 && { some: 'yes' }) },
      });
    });
    await insertJobs(database.sql, jobs);
  }
  await passHorizon(database.db);
  // What is pending there is read with every search, and is bounded by itself.
  await database.sql`SELECT gin_clean_pending_list('ringback.jobs_by_metadata')`;
});
afterAll(() => planned.close());

describe('a page costs what it looks at', () => {
  test('in a session that planned every statement when the tables were empty', async () => {
    expectBounded(await costsIn(planned));
  });

  test('in a session that begins now, with plans for the first executions and then the lasting one', async () => {
    const fresh = openOne();
    try {
      for (let count = 0; count < 8; count++) expectBounded(await costsIn(fresh));
    } finally {
      await fresh.close();
    }
  });

  test('and when PostgreSQL has statistics', async () => {
    const before = await database.sql`SELECT FROM pg_stats WHERE schemaname = 'ringback' LIMIT 1`;
    expect(before).toHaveLength(0);
    await database.sql`ANALYZE ringback.jobs, ringback.events, ringback.run_queue`;
    const fresh = openOne();
    try {
      for (let count = 0; count < 8; count++) expectBounded(await costsIn(fresh));
    } finally {
      await fresh.close();
    }
  });
});
