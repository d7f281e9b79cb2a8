import { beforeEach, describe, expect, onTestFinished, test } from 'vitest';
import { findJob, listRuns } from '#store/job-reads.ts';
import { openDatabase } from '#store/database.ts';
import { migrate } from '#store/migrate.ts';
import { SECRET_KEYS } from '../../support/fixtures.ts';
import { type ReleasedDatabase, releasedAccount, releasedDatabase, releasedEndpoint } from '../../support/released.ts';
import { type MadeJob, releasedDelivery, type ReleasedJob, releasedJob } from '../../support/released-jobs.ts';

let database: ReleasedDatabase;
let make: (job?: Partial<ReleasedJob>) => Promise<MadeJob>;

beforeEach(async () => {
  database = await releasedDatabase();
  const accountId = await releasedAccount(database, 'default');
  make = (job = {}) => releasedJob(database, { accountId, ...job });
});

const upgrade = () => migrate(database.url);

const HOUR_MS = 3_600_000;
const FAR = new Date('2030-01-01T00:00:00Z');
const LONG_AGO = new Date(Date.now() - 30 * 24 * HOUR_MS);
const UNDER_WAY = { status: 'in_progress', running: true } as const;

describe('of a database of version 0.1.0 the upgrade queues', () => {
  const DELAYED = { state: 'delayed', due_at: FAR };
  test.each<[string, Partial<ReleasedJob>, object]>([
    ['a job that waits for its first run', {}, { state: 'ready' }],
    ['one that has waited for a month', { createdAt: LONG_AGO }, { state: 'ready', due_at: LONG_AGO }],
    ['one that waits after a failure', { status: 'in_progress', ended: ['failed'], nextRunAt: FAR }, DELAYED],
    ['one that was given back', { status: 'in_progress', ended: ['released'] }, { state: 'ready' }],
    ['one whose first run is under way', UNDER_WAY, { state: 'leased', held_by: 'runner' }],
    ['one whose third run is', { ...UNDER_WAY, ended: ['failed', 'lost'] }, { state: 'leased', held_by: 'runner' }],
  ])('%s', async (_what, given, expected) => {
    const job = await make(given);
    const [before] = await database.sql`SELECT created_at, worker_id FROM ringback.jobs WHERE id = ${job.id}`;
    await upgrade();
    const [row, ...others] = await database.sql`
      SELECT *, lease_expires_at - now() BETWEEN '0 s' AND '15 s' AS "isFresh" FROM ringback.run_queue`;
    expect(others).toEqual([]);
    const isLeased = job.runId !== null;
    expect(row).toMatchObject({
      account_id: job.accountId,
      job_id: job.id,
      type: 'ringback.echo',
      pool: 'shared',
      priority: 0,
      timeout_ms: 24 * HOUR_MS,
      due_at: before!['created_at'],
      run_id: job.runId,
      worker_id: isLeased ? before!['worker_id'] : null,
      isFresh: isLeased ? true : null,
      expires_at: null,
      cancel_requested_at: null,
      ...expected,
    });
  });

  test.each<[string, Partial<ReleasedJob>]>([
    ['one that succeeded', { status: 'succeeded', ended: ['succeeded'] }],
    ['one that failed', { status: 'failed', ended: ['failed', 'failed', 'failed'] }],
  ])('but not %s', async (_what, given) => {
    await make(given);
    await upgrade();
    expect(await database.sql`SELECT FROM ringback.run_queue`).toHaveLength(0);
  });

  test('thousands at once', async () => {
    const job = await make();
    await database.sql`
      INSERT INTO ringback.jobs SELECT (jsonb_populate_record(job, jsonb_build_object('id', 'job_' || n))).*
      FROM ringback.jobs AS job CROSS JOIN generate_series(1, 5000) AS n WHERE id = ${job.id}`;
    await upgrade();
    const queued = await database.sql`SELECT state, count(*)::int FROM ringback.run_queue GROUP BY state`;
    expect(queued).toEqual([{ state: 'ready', count: 5001 }]);
  });
});

describe('the upgrade leaves', () => {
  /** Everything of the released version, in the columns that it knew. */
  async function everything(columns?: ReadonlyMap<string, readonly string[]>) {
    const tables = await database.sql<{ table_name: string; columns: string[] }[]>`
      SELECT table_name::text, json_agg(column_name ORDER BY column_name) AS columns FROM information_schema.columns
      WHERE table_schema = 'ringback' AND table_name IN ('accounts', 'api_keys', 'jobs', 'job_runs', 'events', 'endpoints',
        'endpoint_secrets', 'deliveries', 'delivery_attempts') GROUP BY table_name`;
    const known = columns ?? new Map(tables.map((table) => [table.table_name, table.columns]));
    const rows = new Map<string, unknown>();
    for (const [table, names] of known) {
      rows.set(table, [
        ...(await database.sql`SELECT ${database.sql([...names])} FROM ringback.${database.sql(table)}`),
      ]);
    }
    return { known, rows };
  }

  test('every other row as it was, and queues the deliveries that are pending', async () => {
    const accountId = await releasedAccount(database, 'other', Buffer.alloc(32, 1));
    const url = 'https://example.com/hook';
    const endpoint = await releasedEndpoint(database, { accountId, keys: SECRET_KEYS, url });
    const over = { accountId, endpoint, ended: ['succeeded'], status: 'succeeded' } as const;
    await releasedDelivery(database, await make(over), { status: 'delivered', attempts: 2 });
    await releasedDelivery(database, await make(over), { status: 'pending', attempts: 1, nextAttemptAt: FAR });
    await releasedDelivery(database, await make(over), { status: 'pending', attempts: 0 });
    const failed = { ...over, status: 'failed', ended: ['failed', 'lost', 'failed'] } as const;
    await releasedDelivery(database, await make(failed), { status: 'exhausted', attempts: 3 });
    for (const job of [{}, UNDER_WAY, { createdAt: LONG_AGO }]) await make(job);
    const before = await everything();
    await upgrade();
    expect((await everything(before.known)).rows).toEqual(before.rows);
    const queued = await database.sql`
      SELECT item.state, item.due_at = delivery.next_attempt_at AS "isDueThen", event.body IS NOT NULL AS "hasBody"
      FROM ringback.delivery_queue AS item
      JOIN ringback.deliveries AS delivery ON delivery.id = item.delivery_id AND delivery.endpoint_id = item.endpoint_id
      JOIN ringback.events AS event ON event.id = item.event_id AND event.created_at = item.event_created_at
      ORDER BY item.state`;
    expect(queued).toEqual(['delayed', 'ready'].map((state) => ({ state, isDueThen: true, hasBody: true })));
  });

  test('jobs that can be read with all that they are said to have', async () => {
    const job = await make({ status: 'succeeded', ended: ['failed', 'succeeded'], output: '{"rows":[1,null]}' });
    const nothing = await make({ status: 'succeeded', ended: ['succeeded'], output: 'null' });
    await upgrade();
    const db = openDatabase({ url: database.url, applicationName: 'ringback-test', max: 1, pooled: false });
    onTestFinished(() => db.close());
    expect(await findJob(db, job.accountId, job.id)).toMatchObject({
      status: 'succeeded',
      outputText: '{"rows":[1,null]}',
      progress: { percent: 50 },
      metadata: { order: '4711' },
      runCount: 2,
      failureCount: 1,
      sequence: 3,
      priority: 0,
      timeoutMs: null,
      retry: null,
      resultRunId: null,
      cancelRequestedAt: null,
    });
    expect(await findJob(db, nothing.accountId, nothing.id)).toMatchObject({ status: 'succeeded', outputText: 'null' });
    expect(await listRuns(db, job.accountId, job.id)).toMatchObject([{ status: 'failed' }, { status: 'succeeded' }]);
  });

  test('what it has done already alone when it is done again', async () => {
    await make();
    await make(UNDER_WAY);
    await upgrade();
    const rows = () => database.sql`SELECT * FROM ringback.run_queue ORDER BY job_id`;
    const before = [...(await rows())];
    await upgrade();
    expect([...(await rows())]).toEqual(before);
  });
});
