import { describe, expect, test } from 'vitest';
import { newId } from '#domain/ids.ts';
import type { JobError } from '#domain/job.ts';
import { findJob } from '#store/job-reads.ts';
import { endRuns, type RunEnd, setProgress } from '#store/jobs.ts';
import { useDatabase } from '../../support/database.ts';
import {
  claimRun,
  finalEvent,
  inTransaction,
  insertJob,
  makeAccount,
  makeEndpoint,
  runEnd,
  WORKER,
} from '../../support/fixtures.ts';

const database = useDatabase();

const end = (...ends: RunEnd[]) => inTransaction(database.db, (tx) => endRuns(tx, ends));
const jobRow = async (id: string) => (await database.sql`SELECT * FROM ringback.jobs WHERE id = ${id}`)[0]!;
const runRows = (id: string) => database.sql`SELECT * FROM ringback.job_runs WHERE job_id = ${id} ORDER BY number`;

async function running() {
  const { accountId } = await makeAccount(database.db);
  const endpoint = await makeEndpoint(database.db, accountId);
  const job = await claimRun(database.db, await insertJob(database.db, accountId, {}, endpoint));
  return { accountId, endpoint, job };
}

const FAILED: Pick<RunEnd, 'runStatus' | 'runError' | 'outputText'> = {
  runStatus: 'failed',
  runError: { code: 'handler_error', message: 'it broke' },
  outputText: null,
};

describe('the fence', () => {
  test('refuses another run of the job', async () => {
    const { job } = await running();
    const before = await jobRow(job.id);
    expect(await end(runEnd({ ...job, runId: newId('run', Date.now()) }))).toEqual(new Set());
    expect(await jobRow(job.id)).toEqual(before);
    expect(await runRows(job.id)).toEqual([]);
  });

  test('refuses a second end of the same run, and writes nothing of it', async () => {
    const { job, endpoint } = await running();
    expect(await end(runEnd(job, finalEvent('job.succeeded', endpoint)))).toEqual(new Set([job.id]));
    const before = await jobRow(job.id);
    const again = runEnd(job, { ...FAILED, jobStatus: 'failed', ...finalEvent('job.failed', endpoint) });
    expect(await end(again)).toEqual(new Set());
    expect(await jobRow(job.id)).toEqual(before);
    expect(await runRows(job.id)).toHaveLength(1);
    expect(await database.sql`SELECT FROM ringback.deliveries WHERE job_id = ${job.id}`).toHaveLength(1);
    expect(await database.sql`SELECT FROM ringback.events WHERE job_id = ${job.id}`).toHaveLength(3);
  });

  test('refuses a run of another account', async () => {
    const { job } = await running();
    const { accountId } = await makeAccount(database.db);
    expect(await end(runEnd({ ...job, accountId }))).toEqual(new Set());
  });

  test('refuses one member of a group and lets its neighbours end', async () => {
    const [one, stale, other] = [await running(), await running(), await running()];
    const ends = [runEnd(one.job), runEnd({ ...stale.job, runId: newId('run', Date.now()) }), runEnd(other.job)];
    expect(await end(...ends)).toEqual(new Set([one.job.id, other.job.id]));
    expect(await jobRow(stale.job.id)).toMatchObject({ status: 'in_progress', run_id: stale.job.runId });
  });
});

test('a group with one row that breaks a constraint fails whole', async () => {
  const [one, other] = [await running(), await running()];
  const bad = runEnd(other.job, { ...FAILED, jobStatus: 'succeeded', runError: null });
  await expect(end(runEnd(one.job), bad)).rejects.toMatchObject({ constraint_name: 'job_runs_error' });
  expect(await jobRow(one.job.id)).toMatchObject({ status: 'in_progress', run_id: one.job.runId });
});

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
        started_at: job.runStartedAt,
        finished_at: endedAt,
      },
    ]);
    expect(await database.sql`SELECT * FROM ringback.events WHERE id = ${over.event!.id}`).toEqual([
      {
        account_id: accountId,
        id: over.event!.id,
        type: 'job.succeeded',
        job_id: job.id,
        sequence: 3,
        body: Buffer.from('{"type":"job.succeeded"}'),
        created_at: endedAt,
      },
    ]);
    expect(await database.sql`SELECT * FROM ringback.deliveries WHERE job_id = ${job.id}`).toEqual([
      {
        account_id: accountId,
        id: over.delivery!.id,
        event_id: over.event!.id,
        event_type: 'job.succeeded',
        job_id: job.id,
        endpoint_id: endpoint.id,
        status: 'pending',
        attempt_count: 0,
        next_attempt_at: endedAt,
        created_at: endedAt,
        updated_at: endedAt,
        finished_at: null,
      },
    ]);
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
    await end(runEnd(job, { ...FAILED, jobStatus: 'failed', ...finalEvent('job.failed', endpoint) }));
    expect(await jobRow(job.id)).toMatchObject({
      status: 'failed',
      output: null,
      error: FAILED.runError,
      failure_count: 1,
      run_id: null,
    });
    expect(await runRows(job.id)).toMatchObject([{ status: 'failed', error: FAILED.runError }]);
  });

  test.each(['failed', 'timed_out'] as const)('to be run again (%s) keeps its job in progress', async (runStatus) => {
    const { job } = await running();
    const nextRunAt = new Date(Date.now() + 60_000);
    await end(runEnd(job, { ...FAILED, runStatus, jobStatus: 'in_progress', nextRunAt }));
    expect(await jobRow(job.id)).toMatchObject({
      status: 'in_progress',
      output: null,
      error: null,
      failure_count: 1,
      sequence: 2,
      run_id: null,
      next_run_at: nextRunAt,
      finished_at: null,
    });
    expect(await runRows(job.id)).toMatchObject([{ status: runStatus, error: FAILED.runError }]);
    expect(await database.sql`SELECT FROM ringback.events WHERE job_id = ${job.id}`).toHaveLength(2);
  });

  test.each([
    ['U+0000', 'a\0b', 'a\uFFFDb'],
    ['half a surrogate pair', 'a\ud800b', 'a\uFFFDb'],
    ['both, beside what only looks like them', 'x\0\\u0000\udc00 \u{1F600}', 'x\uFFFD\\u0000\uFFFD \u{1F600}'],
  ])('has its message cleaned of what PostgreSQL cannot hold: %s', async (_, message, kept) => {
    const { job } = await running();
    const runError: JobError = { code: 'handler_error', message };
    await end(runEnd(job, { ...FAILED, runError, jobStatus: 'failed' }));
    const rows = await database.sql`
      SELECT job.error ->> 'message' AS of_job, run.error ->> 'message' AS of_run
      FROM ringback.jobs AS job JOIN ringback.job_runs AS run ON run.job_id = job.id WHERE job.id = ${job.id}`;
    expect(rows).toEqual([{ of_job: kept, of_run: kept }]);
  });
});

test('a run that was given back counts no failure', async () => {
  const { job } = await running();
  await end(runEnd(job, { runStatus: 'released', jobStatus: 'in_progress', outputText: null }));
  expect(await jobRow(job.id)).toMatchObject({
    status: 'in_progress',
    run_count: 1,
    failure_count: 0,
    run_id: null,
    next_run_at: null,
  });
  expect(await runRows(job.id)).toMatchObject([{ status: 'released', error: null }]);
});

describe('progress', () => {
  const progressOf = async (id: string) =>
    (await database.sql`SELECT progress, progress ->> 'message' AS message FROM ringback.jobs WHERE id = ${id}`)[0];

  test('shows on the job and moves its updated_at', async () => {
    const { accountId, job } = await running();
    const now = new Date(Date.now() + 5000);
    await setProgress(database.sql, { accountId, jobId: job.id, runId: job.runId }, { percent: 12.5 }, now);
    const found = await findJob(database.db, accountId, job.id);
    expect(found).toMatchObject({ progress: { percent: 12.5 }, updatedAt: now });
  });

  test('of a run that is no longer the job’s own is dropped', async () => {
    const { accountId, job } = await running();
    const stale = { accountId, jobId: job.id, runId: newId('run', Date.now()) };
    await setProgress(database.sql, stale, { percent: 1 }, new Date());
    expect(await progressOf(job.id)).toEqual({ progress: null, message: null });
    await end(runEnd(job));
    await setProgress(database.sql, { accountId, jobId: job.id, runId: job.runId }, { percent: 1 }, new Date());
    expect(await progressOf(job.id)).toEqual({ progress: null, message: null });
  });

  test.each([
    ['U+0000', 'a\0b'],
    ['half a surrogate pair', 'a\ud800b'],
  ])('can be read with SQL, whatever its message holds: %s', async (_, message) => {
    const { accountId, job } = await running();
    await setProgress(
      database.sql,
      { accountId, jobId: job.id, runId: job.runId },
      { percent: 1, message },
      new Date(),
    );
    expect(await progressOf(job.id)).toMatchObject({ message: 'a\uFFFDb' });
  });
});
