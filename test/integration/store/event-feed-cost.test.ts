import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type AccountId, type JobId, newId } from '#domain/ids.ts';
import { type Database, openDatabase, type Transaction } from '#store/database.ts';
import { findNews, readFeed, readFeedOfJob } from '#store/event-feed.ts';
import type { WalkPlace } from '#store/job-walk.ts';
import { buffersTouched, withoutAutovacuum } from '../../support/buffers.ts';
import { useDatabase } from '../../support/database.ts';
import { makeAccount } from '../../support/fixtures.ts';
import { passHorizon } from '../../support/horizon.ts';

/**
 * What a page of the feed costs must know neither how long the feed is nor what others have: measured in buffers, as in
 * flat-cost.test.ts, on tables that PostgreSQL knows nothing about and on those that it knows. Two months of weekly partitions.
 */
const EVENTS = 6000;
const OTHERS = 3;
const DAYS = 60;
const LOOK = 500;

const database = useDatabase();
let accountId: AccountId;
let planned: Database;
let jobId: JobId;
let middle: WalkPlace;
let end: WalkPlace;

const START: WalkPlace = { xid: '0', eventId: '' };
const ALL = { types: null, after: new Date(0), anyFrom: '0' };
const NOTHING = { ...ALL, types: ['endpoint.ping'] };
const page = { limit: 50, look: LOOK, maxBytes: 1_000_000 };
const pageOf = async (db: Database, from: WalkPlace, match = ALL as typeof ALL | typeof NOTHING) =>
  (await readFeed(db, accountId, match, { ...from, ...page })).events.length;

/** Each statement, the buffers that it may touch, and what it must find. By index in each of 15 partitions, three times at most. */
const STATEMENTS: ReadonlyArray<[string, number, (db: Database) => Promise<number>, number]> = [
  ['the first page', 300, (db) => pageOf(db, START), 50],
  ['a page in the middle', 300, (db) => pageOf(db, middle), 50],
  ['the end', 300, (db) => pageOf(db, end), 0],
  // One row for each that is looked at, and its index again to see where to go on.
  ['a page that finds nothing', 300 + 2 * LOOK, (db) => pageOf(db, START, NOTHING), 0],
  [
    'the events of a job',
    150,
    async (db) => (await readFeedOfJob(db, accountId, jobId, ALL, { ...START, ...page })).events.length,
    3,
  ],
  ['news where there is none', 150, async (db) => (await findNews(db, [{ accountId, ...end }])).length, 0],
  ['news where there is some', 150, async (db) => (await findNews(db, [{ accountId, ...middle }])).length, 1],
];

/** Jobs with three events each, spread over the time; one transaction for twenty. */
async function fill(owner: AccountId, events: number): Promise<void> {
  const now = Date.now();
  const step = (DAYS * 86_400_000) / events;
  const rows = Array.from({ length: events / 3 }, (_, n) =>
    newId('job', now - Math.floor((events - n * 3) * step)),
  ).flatMap((id, n) =>
    ['job.queued', 'job.started', 'job.succeeded'].map((type, index) => {
      const at = now - Math.floor((events - n * 3 - index) * step);
      return { id: newId('evt', at), type, jobId: id, sequence: index + 1, at: new Date(at) };
    }),
  );
  for (let start = 0; start < rows.length; start += 60)
    await database.sql`
      INSERT INTO ringback.events (account_id, id, type, job_id, sequence, body, created_at)
      SELECT ${owner}, id, type, "jobId", sequence, convert_to('{"data":{}}', 'UTF8'), at
      FROM json_to_recordset(${JSON.stringify(rows.slice(start, start + 60))}::text::json) AS r (
        id text, type text, "jobId" text, sequence int, at timestamptz)`;
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
  await database.sql`SELECT ringback.create_partitions(now() - ${`${DAYS} days`}::interval, now())`;
  await withoutAutovacuum(database.db);
  ({ accountId } = await makeAccount(database.db));
  [middle, end, jobId] = [START, START, newId('job', Date.now())];
  planned = openOne();
  for (let count = 0; count < 7; count++) await costsIn(planned);
  for (let count = 0; count < OTHERS; count++) await fill((await makeAccount(database.db)).accountId, EVENTS);
  await fill(accountId, EVENTS);
  await passHorizon(database.db);
  const ordered = await database.sql<{ xid: string; eventId: WalkPlace['eventId']; jobId: JobId }[]>`
    SELECT xid, id AS "eventId", job_id AS "jobId" FROM ringback.events WHERE account_id = ${accountId} ORDER BY xid, id`;
  [middle, end] = [ordered[EVENTS / 2]!, ordered.at(-1)!];
  ({ jobId } = ordered[EVENTS / 2]!);
}, 60_000);
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
    await database.sql`ANALYZE ringback.events`;
    const fresh = openOne();
    try {
      for (let count = 0; count < 8; count++) expectBounded(await costsIn(fresh));
    } finally {
      await fresh.close();
    }
  });
});
