import { describe, expect, test } from 'vitest';
import { newId } from '#domain/ids.ts';
import { findJob } from '#store/job-reads.ts';
import { insertJobs, type NewIdempotencyKey } from '#store/jobs.ts';
import { useDatabase } from '../../support/database.ts';
import { insertJob, makeAccount, makeEndpoint, newJob } from '../../support/fixtures.ts';

const database = useDatabase();

const queueRow = async (jobId: string) =>
  (await database.sql`SELECT * FROM ringback.run_queue WHERE job_id = ${jobId}`)[0];
const KEY: NewIdempotencyKey = {
  key: 'one',
  fingerprint: 'ab'.repeat(32),
  response: '',
  responseKeyId: null,
  expiresAt: new Date(Date.now() + 86_400_000),
};

describe('a group with one bad row', () => {
  test.each([
    ['a type that breaks a constraint', { metadata: ['not', 'an object'] as never }, '23514'],
    ['an input that is no JSON', { inputText: '{"a":' }, '22P02'],
    ['metadata with U+0000', { metadata: { bad: '\0' } }, '22P05'],
    ['a callback URL without an endpoint', { callbackUrl: 'https://example.com/' }, '23514'],
    ['a priority beyond the scale', { priority: 101 }, '23514'],
    ['an idempotency key without characters', { idempotency: { ...KEY, key: '' } }, '23514'],
  ])('inserts none of its rows: %s', async (_, fault, code) => {
    const { accountId } = await makeAccount(database.db);
    const jobs = [newJob(accountId), newJob(accountId, fault), newJob(accountId)];
    await expect(insertJobs(database.sql, jobs)).rejects.toMatchObject({ code });
    expect(await database.sql`SELECT FROM ringback.jobs WHERE account_id = ${accountId}`).toHaveLength(0);
    expect(await database.sql`SELECT FROM ringback.events WHERE account_id = ${accountId}`).toHaveLength(0);
    expect(await database.sql`SELECT FROM ringback.run_queue WHERE account_id = ${accountId}`).toHaveLength(0);
  });

  test('inserts none when one id is taken', async () => {
    const { accountId } = await makeAccount(database.db);
    const taken = newJob(accountId);
    await insertJobs(database.sql, [taken]);
    const group = [newJob(accountId), { ...taken, eventId: newId('evt', Date.now()) }];
    await expect(insertJobs(database.sql, group)).rejects.toMatchObject({
      code: '23505',
      constraint_name: expect.stringMatching(/^(?:jobs|run_queue)_pkey$/),
    });
    expect(await database.sql`SELECT FROM ringback.jobs WHERE account_id = ${accountId}`).toHaveLength(1);
  });
});

describe('the input', () => {
  test.each([
    ['key order and repeated keys', '{"b":1,"a":2,"b":3}'],
    ['numbers beyond a double', '{"n":123456789012345678901234567890.10,"m":1e400,"z":-0.0}'],
    ['white space', '[ 1,\n\t2 ]'],
    ['null', 'null'],
    ['a bare string', '"text"'],
    ['escapes', String.raw`{"k":"\u0041\/ \\u0000 \ud83d\ude00"}`],
    ['text that looks like the end of the row', '"},{\\"id\\":\\"job_x\\""'],
    ['names of our own columns', '{"id":"job_x","accountId":"acc_x","createdAt":"2000-01-01"}'],
    ['an empty object', '{}'],
  ])('is kept verbatim: %s', async (_, inputText) => {
    const { accountId } = await makeAccount(database.db);
    const job = newJob(accountId, { inputText });
    await insertJobs(database.sql, [newJob(accountId), job, newJob(accountId)]);
    const rows = await database.sql`SELECT input::text FROM ringback.jobs WHERE id = ${job.id}`;
    expect(rows).toEqual([{ input: inputText }]);
  });

  test('of 8 MB is kept', async () => {
    const { accountId } = await makeAccount(database.db);
    const job = newJob(accountId, { inputText: JSON.stringify('x'.repeat(8_000_000)) });
    await insertJobs(database.sql, [job]);
    const rows = await database.sql`SELECT length(input::text) FROM ringback.jobs WHERE id = ${job.id}`;
    expect(rows).toEqual([{ length: 8_000_002 }]);
  });
});

test('a new job is queued, with its first event and no run', async () => {
  const { accountId } = await makeAccount(database.db);
  const createdAt = new Date('2026-02-03T04:05:06.789Z');
  const job = newJob(accountId, { createdAt, metadata: { order: '4711' } });
  await insertJobs(database.sql, [job]);
  const [row] = await database.sql`SELECT * FROM ringback.jobs WHERE id = ${job.id}`;
  expect(row).toEqual({
    account_id: accountId,
    id: job.id,
    type: 'test.job',
    status: 'queued',
    input: { n: 1 },
    output: null,
    error: null,
    progress: null,
    metadata: { order: '4711' },
    priority: 0,
    timeout_ms: null,
    retry: null,
    run_at: null,
    expires_at: null,
    schedule_id: null,
    scheduled_for: null,
    result_run_id: null,
    result_type: null,
    result_bytes: null,
    result_sha256: null,
    callback_endpoint_id: null,
    callback_url: null,
    callback_events: null,
    run_count: 0,
    failure_count: 0,
    sequence: 1,
    is_start_untold: false,
    is_told: false,
    progress_told_at: null,
    created_at: createdAt,
    updated_at: createdAt,
    started_at: null,
    run_id: null,
    run_started_at: null,
    worker_id: null,
    next_run_at: null,
    cancel_requested_at: null,
    finished_at: null,
  });
  expect(await database.sql`SELECT * FROM ringback.events WHERE job_id = ${job.id}`).toEqual([
    {
      account_id: accountId,
      id: job.eventId,
      type: 'job.queued',
      job_id: job.id,
      sequence: 1,
      body: null,
      created_at: createdAt,
      xid: expect.stringMatching(/^\d+$/),
    },
  ]);
  expect(await queueRow(job.id)).toEqual({
    account_id: accountId,
    job_id: job.id,
    type: 'test.job',
    pool: job.pool,
    state: 'ready',
    priority: 0,
    timeout_ms: 60_000,
    schedule_id: null,
    due_at: createdAt,
    expires_at: null,
    run_id: null,
    upload_id: null,
    worker_id: null,
    held_by: null,
    lease_expires_at: null,
    deadline_at: null,
    cancel_requested_at: null,
    completion_hash: null,
  });
});

test('what a submission asks for is kept with the job, and what its runs need with its place in the queue', async () => {
  const { accountId } = await makeAccount(database.db);
  const runAt = new Date('2036-01-01T00:00:00.001Z');
  const expiresAt = new Date('2036-01-02T00:00:00.002Z');
  const scheduleId = newId('sch', 0);
  const ofSchedule = { scheduleId, scheduledFor: new Date('2035-12-31T23:00:00Z') };
  const asked = {
    priority: -100,
    timeoutMs: 1234,
    retry: { maxRuns: 7, jitter: 0.5 },
    runAt,
    expiresAt,
    ...ofSchedule,
  };
  const job = await insertJob(database.db, accountId, { ...asked, runTimeoutMs: 1234, pool: 'limited:test.job' });
  expect(await findJob(database.db, accountId, job.id)).toMatchObject(asked);
  expect(await queueRow(job.id)).toMatchObject({
    pool: 'limited:test.job',
    state: 'delayed',
    priority: -100,
    timeout_ms: 1234,
    schedule_id: scheduleId,
    due_at: runAt,
    expires_at: expiresAt,
  });
});

test('a callback is kept with its events', async () => {
  const { accountId } = await makeAccount(database.db);
  const endpoint = await makeEndpoint(database.db, accountId);
  const job = newJob(accountId, { callbackEvents: ['job.failed', 'job.expired'] }, endpoint);
  await insertJobs(database.sql, [job]);
  const rows = await database.sql`
    SELECT callback_endpoint_id, callback_url, callback_events FROM ringback.jobs WHERE id = ${job.id}`;
  expect(rows).toEqual([
    {
      callback_endpoint_id: endpoint.id,
      callback_url: endpoint.url,
      callback_events: ['job.failed', 'job.expired'],
    },
  ]);
});

test('a group of 200 jobs of two accounts is stored whole', async () => {
  const [one, other] = [await makeAccount(database.db), await makeAccount(database.db)];
  const jobs = Array.from({ length: 200 }, (_, n) =>
    newJob(n % 2 === 0 ? one.accountId : other.accountId, { inputText: String(n) }),
  );
  await insertJobs(database.sql, jobs);
  const rows = await database.sql`
    SELECT job.account_id AS "accountId", job.id, job.input::text AS "inputText", event.id AS "eventId"
    FROM ringback.jobs AS job JOIN ringback.events AS event ON event.job_id = job.id
    WHERE job.account_id IN (${one.accountId}, ${other.accountId})`;
  const expected = jobs.map(({ accountId, id, inputText, eventId }) => ({ accountId, id, inputText, eventId }));
  expect(rows.toSorted(byId)).toEqual(expected.toSorted(byId));
});

function byId(a: { id?: string }, b: { id?: string }): number {
  return (a.id ?? '') < (b.id ?? '') ? -1 : 1;
}
