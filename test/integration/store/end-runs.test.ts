import { describe, expect, test } from 'vitest';
import type { JobError } from '#domain/job.ts';
import { endRuns, type RunEnd } from '#store/end-runs.ts';
import { useDatabase } from '../../support/database.ts';
import {
  finalEvent,
  insertJob,
  makeAccount,
  makeEndpoint,
  makeRunning,
  RELEASED,
  runEnd,
  waitingEnd,
  WORKER,
} from '../../support/fixtures.ts';

const database = useDatabase();

const end = async (...ends: RunEnd[]) => new Set((await endRuns(database.sql, ends)).keys());
const running = () => makeRunning(database.db);
const jobRow = async (id: string) => (await database.sql`SELECT * FROM ringback.jobs WHERE id = ${id}`)[0]!;
const queueRow = async (id: string) => (await database.sql`SELECT * FROM ringback.run_queue WHERE job_id = ${id}`)[0];
const runRows = (id: string) => database.sql`SELECT * FROM ringback.job_runs WHERE job_id = ${id} ORDER BY number`;

const ERROR: JobError = { code: 'handler_error', message: 'it broke' };
const FAILED = { runStatus: 'failed', runError: ERROR } as const;
/** What an item of the queue has only while it is leased. */
const UNLEASED = {
  run_id: null,
  worker_id: null,
  held_by: null,
  lease_expires_at: null,
  deadline_at: null,
  completion_hash: null,
};

/** As the job of a run that failed for good. */
const OVER = { ...FAILED, jobStatus: 'failed', jobError: ERROR } as const;

describe('a run that succeeds', () => {
  test('ends its job, with run, event and delivery', async () => {
    const { accountId, endpoint, job } = await running();
    const endedAt = new Date(Date.now() + 1234);
    const over = finalEvent('job.succeeded', endpoint, endedAt);
    await end(runEnd(job, { ...over, endedAt, outputText: '{"z":1,"a":2.50}' }));
    expect(await jobRow(job.id)).toMatchObject({
      status: 'succeeded',
      output: { z: 1, a: 2.5 },
      error: null,
      run_count: 1,
      failure_count: 0,
      sequence: 3,
      run_id: null,
      run_started_at: job.runStartedAt,
      worker_id: WORKER,
      next_run_at: null,
      updated_at: endedAt,
      finished_at: endedAt,
    });
    expect(await runRows(job.id)).toEqual([
      {
        account_id: accountId,
        id: job.runId,
        job_id: job.id,
        number: 1,
        status: 'succeeded',
        worker_id: WORKER,
        error: null,
        stack: null,
        started_at: job.runStartedAt,
        finished_at: endedAt,
      },
    ]);
    expect(await database.sql`SELECT * FROM ringback.events WHERE id = ${over.event.id}`).toEqual([
      {
        account_id: accountId,
        id: over.event.id,
        type: 'job.succeeded',
        job_id: job.id,
        sequence: 3,
        body: Buffer.from('{"type":"job.succeeded","sequence":3}'),
        created_at: endedAt,
        xid: expect.stringMatching(/^\d+$/),
      },
    ]);
    expect(await database.sql`SELECT * FROM ringback.deliveries WHERE job_id = ${job.id}`).toEqual([
      {
        account_id: accountId,
        id: over.delivery!.id,
        event_id: over.event.id,
        event_type: 'job.succeeded',
        job_id: job.id,
        endpoint_id: endpoint.id,
        status: 'pending',
        attempt_count: 0,
        next_attempt_at: endedAt,
        position: expect.stringMatching(/^\d+$/),
        schedule_from: 0,
        created_at: endedAt,
        updated_at: endedAt,
        finished_at: null,
      },
    ]);
    expect(await queueRow(job.id), 'the queue holds what has not ended').toBeUndefined();
  });

  test('with a result that is stored apart has that, and no output', async () => {
    const { job } = await running();
    const result = { contentType: 'application/pdf', bytes: 5_000_000_000, sha256: 'ab'.repeat(32) };
    await end(runEnd(job, { outputText: null, result }));
    expect(await jobRow(job.id)).toMatchObject({
      status: 'succeeded',
      output: null,
      result_run_id: job.runId,
      result_type: 'application/pdf',
      result_bytes: '5000000000',
      result_sha256: Buffer.alloc(32, 0xab),
    });
  });

  test.each([
    ['null', 'null'],
    ['key order and big numbers', '{"b":1,"a":98765432109876543210}'],
    ['text like the end of a row', '"},{"'],
    ['false', 'false'],
  ])('keeps its output verbatim: %s', async (_, outputText) => {
    const { job } = await running();
    const text = outputText === '"},{"' ? JSON.stringify('"},{"') : outputText;
    await end(runEnd(job, { outputText: text }));
    const rows = await database.sql`SELECT status, output::text FROM ringback.jobs WHERE id = ${job.id}`;
    expect(rows).toEqual([{ status: 'succeeded', output: text }]);
  });

  test('without anybody to tell leaves an event without a body, and no delivery', async () => {
    const { job } = await running();
    await end(runEnd(job, finalEvent('job.succeeded')));
    const last = database.sql`SELECT type, body FROM ringback.events WHERE job_id = ${job.id} AND sequence = 3`;
    expect(await last).toEqual([{ type: 'job.succeeded', body: null }]);
    expect(await database.sql`SELECT FROM ringback.deliveries WHERE job_id = ${job.id}`).toHaveLength(0);
  });
});

describe('a run that fails', () => {
  test('for good ends its job with the error', async () => {
    const { job, endpoint } = await running();
    await end(runEnd(job, { ...OVER, ...finalEvent('job.failed', endpoint) }));
    expect(await jobRow(job.id)).toMatchObject({
      status: 'failed',
      output: null,
      error: ERROR,
      failure_count: 1,
      run_id: null,
    });
    expect(await queueRow(job.id)).toBeUndefined();
    expect(await runRows(job.id)).toMatchObject([{ status: 'failed', error: FAILED.runError }]);
  });

  test.each(['failed', 'timed_out', 'lost'] as const)(
    'to be run again (%s) keeps its job in progress',
    async (runStatus) => {
      const { job } = await running();
      const nextRunAt = new Date(Date.now() + 60_000);
      await end(runEnd(job, { ...FAILED, runStatus, jobStatus: 'in_progress', nextRunAt }));
      expect(await jobRow(job.id)).toMatchObject({
        status: 'in_progress',
        output: null,
        error: null,
        failure_count: 1,
        sequence: 3,
        run_id: null,
        next_run_at: nextRunAt,
        finished_at: null,
      });
      expect(await runRows(job.id)).toMatchObject([{ status: runStatus, error: FAILED.runError }]);
      expect(await database.sql`SELECT type FROM ringback.events WHERE job_id = ${job.id} AND sequence = 3`).toEqual([
        { type: 'job.retrying' },
      ]);
      expect(await queueRow(job.id)).toMatchObject({ ...UNLEASED, state: 'delayed', due_at: nextRunAt });
    },
  );

  test.each([
    ['U+0000', 'a\0b', 'a\uFFFDb'],
    ['half a surrogate pair', 'a\ud800b', 'a\uFFFDb'],
    ['both, beside what only looks like them', 'x\0\\u0000\udc00 \u{1F600}', 'x\uFFFD\\u0000\uFFFD \u{1F600}'],
  ])('has its message cleaned of what PostgreSQL cannot hold: %s', async (_, message, kept) => {
    const { job } = await running();
    const runError: JobError = { code: 'handler_error', message };
    await end(runEnd(job, { ...OVER, runError, jobError: runError }));
    const rows = await database.sql`
      SELECT job.error ->> 'message' AS of_job, run.error ->> 'message' AS of_run
      FROM ringback.jobs AS job JOIN ringback.job_runs AS run ON run.job_id = job.id WHERE job.id = ${job.id}`;
    expect(rows).toEqual([{ of_job: kept, of_run: kept }]);
  });
});

test('a run that was given back counts no failure, and is ready at once in its old place', async () => {
  const { job } = await running();
  const before = await queueRow(job.id);
  await end(runEnd(job, RELEASED));
  expect(await jobRow(job.id)).toMatchObject({
    status: 'in_progress',
    run_count: 1,
    failure_count: 0,
    run_id: null,
    next_run_at: null,
  });
  expect(await runRows(job.id)).toMatchObject([{ status: 'released', error: null }]);
  expect(await queueRow(job.id)).toEqual({ ...before, ...UNLEASED, state: 'ready' });
});

describe('a job that waits', () => {
  test.each(['canceled', 'expired'] as const)('is %s without a run on record, with event and delivery', async (how) => {
    const { accountId } = await makeAccount(database.db);
    const endpoint = await makeEndpoint(database.db, accountId);
    const { id } = await insertJob(database.db, accountId, {}, endpoint);
    const over = finalEvent(`job.${how}`, endpoint);
    expect(await end({ ...waitingEnd({ accountId, id }, how), ...over })).toEqual(new Set([id]));
    const row = await jobRow(id);
    expect(row).toMatchObject({ status: how, error: { code: how }, run_count: 0, started_at: null, sequence: 2 });
    expect(row['finished_at']).toEqual(row['updated_at']);
    expect(await runRows(id)).toEqual([]);
    expect(await queueRow(id)).toBeUndefined();
    expect(await database.sql`SELECT id FROM ringback.deliveries WHERE job_id = ${id}`).toEqual([
      { id: over.delivery!.id },
    ]);
    expect(await end(waitingEnd({ accountId, id }, how)), 'once').toEqual(new Set());
  });

  test('between two runs is ended too, and keeps its runs', async () => {
    const { job } = await running();
    await end(runEnd(job, { ...FAILED, jobStatus: 'in_progress', nextRunAt: new Date(Date.now() + 60_000) }));
    expect(await end(waitingEnd(job, 'canceled'))).toEqual(new Set([job.id]));
    expect(await jobRow(job.id)).toMatchObject({ status: 'canceled', next_run_at: null, run_count: 1, sequence: 4 });
    expect(await runRows(job.id)).toHaveLength(1);
  });
});
