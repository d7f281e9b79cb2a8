import { randomBytes } from 'node:crypto';
import { setTimeout as pause } from 'node:timers/promises';
import postgres, { type Sql } from 'postgres';
import { expect, onTestFinished } from 'vitest';
import { API_KEY_SCOPES, hashApiKey } from '#domain/api-key.ts';
import { newId } from '#domain/ids.ts';
import { eventually } from '../../support/eventually.ts';
import { type ReceivedRequest, startReceiver } from '../../support/receiver.ts';
import type { RunningService } from '../../support/service.ts';
import { submit } from './api.ts';
import type { FakeTime } from './fake-time.ts';

/** How far the clock is set, for how long, in seconds; negative is back. Longer than a lease lasts, where it can matter. */
const JUMPS = [
  [45, 4],
  [-45, 4],
  [20, 4],
  [-20, 17],
  [3600, 3.5],
  [-3600, 3.5],
  [40 * 86_400, 9],
  [500 * 86_400, 8],
] as const;

/** From the first jump to a while after the last. */
const LONG_MS = JUMPS.reduce((sum, [, seconds]) => sum + seconds * 1000, 0) + 5000;
const TOLERANCE_MS = 5000;
const MINUTE = 60_000;

/** For the service: retries after a second, and time for a receiver that takes as long as all jumps. */
export const JUMP_ENV = {
  RINGBACK_CALLBACK_SCHEDULE: '0s,1s,1s,1s',
  RINGBACK_CALLBACK_TIMEOUT_MS: String(LONG_MS + 30_000),
};

export interface Setting {
  readonly service: RunningService;
  readonly sql: Sql;
  readonly time: FakeTime;
}

/** A second key of the account `default`, to be revoked. */
async function addKey(sql: Sql): Promise<string> {
  const key = `rbk_${randomBytes(24).toString('base64url')}`;
  await sql`
    INSERT INTO ringback.api_keys (account_id, id, hash, last_four, scopes, created_at)
    SELECT account_id, ${newId('key', Date.now())}, ${hashApiKey(key)}, ${key.slice(-4)}, ${[...API_KEY_SCOPES]}, now()
    FROM ringback.accounts WHERE name = 'default'`;
  return key;
}

/** What there is that time could take away. */
async function recordOf(sql: Sql) {
  const [record] = await sql`
    SELECT
      (SELECT count(*)::int FROM ringback.jobs WHERE type = 'ringback.echo' AND schedule_id IS NULL) AS jobs,
      (SELECT count(*)::int FROM ringback.job_tombstones) AS tombstones,
      (SELECT count(*)::int FROM ringback.idempotency_keys) AS keys,
      (SELECT count(*)::int FROM pg_inherits JOIN pg_class AS parent ON parent.oid = inhparent
        WHERE parent.relnamespace = 'ringback'::regnamespace AND parent.relkind = 'p') AS partitions,
      (SELECT count(*)::int FROM ringback.jobs WHERE status = 'expired' OR run_at IS NOT NULL AND run_count > 0) AS early`;
  return record!;
}

/** All that happened happened when it did, by a clock that nobody set. */
async function expectTimesWithin(sql: Sql, from: Date, until: Date): Promise<void> {
  const rows = await sql<{ what: string; at: Date }[]>`
    SELECT 'job' AS what, unnest(ARRAY[created_at, started_at, finished_at]) AS at FROM ringback.jobs
    UNION ALL SELECT 'event', created_at FROM ringback.events
    UNION ALL SELECT 'run', unnest(ARRAY[started_at, finished_at]) FROM ringback.job_runs
    UNION ALL SELECT 'attempt', unnest(ARRAY[started_at, finished_at]) FROM ringback.delivery_attempts`;
  const wrong = rows.filter(({ at }) => at !== null && (at < from || at > until));
  expect(wrong.slice(0, 5), `not from ${from.toISOString()} to ${until.toISOString()}`).toEqual([]);
}

/** A service under load, while `time` jumps through the table. */
export async function goThroughJumps(
  { service, sql, time }: Setting,
  during: (ahead: number) => Promise<void> = async () => undefined,
): Promise<void> {
  const startedAt = new Date(Date.now() - TOLERANCE_MS);
  const receiver = await startReceiver();
  const seen = new Map<string, ReceivedRequest[]>();
  receiver.answerAll(async (request) => {
    const id = String(request.headers['webhook-id']);
    const requests = [...(seen.get(id) ?? []), request];
    seen.set(id, requests);
    if (request.path === '/slow') await pause(LONG_MS);
    return { status: request.path === '/twice' && requests.length === 1 ? 500 : 200 };
  });
  const { request } = service;
  const kept = { type: 'ringback.echo', input: { n: 1 } };
  const first = await request('POST', '/v1/jobs', kept, { 'idempotency-key': 'kept' });
  for (let n = 0; n < 5; n++) await submit(request, kept);
  await submit(request, {
    ...kept,
    run_at: new Date(Date.now() + 1800 * 1000),
    expires_at: new Date(Date.now() + 3000 * 1000),
  });
  const schedule = {
    name: 'minutely',
    cron: '* * * * *',
    misfire: 'catch_up',
    job: { type: 'ringback.echo', input: { n: 1 } },
  };
  expect(await request('POST', '/v1/schedules', schedule)).toMatchObject({ status: 201 });
  const longJob = await submit(request, { type: 'ringback.sleep', input: { ms: LONG_MS } });
  await submit(request, { ...kept, callback: { url: `${receiver.origin}/slow` } });
  await receiver.waitFor(1);
  const revoked = await addKey(sql);
  const asked = () => request('GET', '/v1/job-types', undefined, { authorization: `Bearer ${revoked}` });
  expect((await asked()).status).toBe(200);
  const before = await recordOf(sql);
  expect(before).toMatchObject({ tombstones: 0, keys: 1, early: 0 });

  let submitted = 0;
  for (const [ahead, seconds] of JUMPS) {
    const endsAt = performance.now() + seconds * 1000;
    time.set(ahead);
    const named = { ...kept, callback: { url: `${receiver.origin}/twice` } };
    await submit(request, named);
    submitted++;
    const again = await request('POST', '/v1/jobs', kept, { 'idempotency-key': 'kept' });
    expect(again.json, `the key is known ${ahead} s ahead`).toMatchObject({ id: first.json.id });
    if (ahead === -20) {
      await sql`UPDATE ringback.api_keys SET revoked_at = now() WHERE hash = ${hashApiKey(revoked)}`;
      await eventually(async () => expect((await asked()).status).toBe(401), 12_000);
    }
    await during(ahead);
    await pause(Math.max(0, endsAt - performance.now())); // the jump's own length, which is what is tested
  }
  time.set(0);

  const job = await eventually(async () => {
    const { json } = await request('GET', `/v1/jobs/${longJob.id}`);
    expect(json).toMatchObject({ done: true });
    return json;
  }, 30_000);
  expect(job).toMatchObject({ status: 'succeeded', runs: 1 });
  await eventually(async () => {
    const [open] = await sql`SELECT count(*)::int AS n FROM ringback.deliveries WHERE status = 'pending'`;
    expect(open!['n']).toBe(0);
  }, 20_000);
  const endedAt = new Date(Date.now() + TOLERANCE_MS);

  // No holder was robbed, and nothing came twice.
  const ends = await sql`SELECT status, count(*)::int AS n FROM ringback.job_runs GROUP BY status`;
  expect(ends.map(({ status }) => status as string)).toEqual(['succeeded']);
  const outcomes = await sql`SELECT DISTINCT outcome FROM ringback.delivery_attempts ORDER BY outcome`;
  expect(outcomes.map(({ outcome }) => outcome as string)).toEqual(['delivered', 'rejected']);
  expect(receiver.requests.filter(({ path }) => path === '/slow')).toHaveLength(1);
  const twice = [...seen.values()].filter(([one]) => one!.path === '/twice');
  expect(twice).toHaveLength(submitted);
  for (const [one, two, ...more] of twice) {
    expect(more).toEqual([]);
    const waitedMs = two!.receivedAt.getTime() - one!.receivedAt.getTime();
    expect(waitedMs, 'a retry after a second, give or take its jitter').toBeGreaterThan(700);
    expect(waitedMs).toBeLessThan(TOLERANCE_MS);
  }
  for (const { headers, receivedAt } of receiver.requests)
    expect(Math.abs(Number(headers['webhook-timestamp']) * 1000 - receivedAt.getTime())).toBeLessThan(TOLERANCE_MS);

  // Nothing is gone, or came before its time.
  const { partitions, ...after } = await recordOf(sql);
  const { partitions: partitionsBefore, ...rest } = before;
  expect(after).toEqual({ ...rest, jobs: (before['jobs'] as number) + submitted });
  expect(partitions, 'partitions may have been made too soon, but not dropped').toBeGreaterThanOrEqual(
    partitionsBefore as number,
  );
  await expectTimesWithin(sql, startedAt, endedAt);
  const minutes = Math.ceil((endedAt.getTime() - startedAt.getTime()) / MINUTE);
  const [fired] = await sql`SELECT count(*)::int AS n FROM ringback.jobs WHERE schedule_id IS NOT NULL`;
  expect(fired!['n']).toBeLessThanOrEqual(minutes);
  const [next] = await sql<[{ at: Date }]>`SELECT next_fire_at AS at FROM ringback.job_schedules`;
  expect(next.at.getTime()).toBeLessThanOrEqual(Date.now() + MINUTE);
}

export function connect(url: string): Sql {
  const sql = postgres(url, { max: 2 });
  onTestFinished(() => sql.end({ timeout: 5 }));
  return sql;
}
