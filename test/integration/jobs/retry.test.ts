import { fileURLToPath } from 'node:url';
import { beforeEach, describe, expect, onTestFinished, test } from 'vitest';
import { type AnyJobDefinition, NonRetryableError, RetryAfterError } from '../../../src/jobs/type/define.ts';
import type { Submission } from '../../../src/jobs/submit/submission.ts';
import { loadJobTypes } from '../../../src/jobs/type/load-config.ts';
import { dispatchWork } from '../../../src/jobs/run/work.ts';
import { ThreadPool } from '../../../src/jobs/thread/thread-pool.ts';
import { useDatabase } from '../../support/database.ts';
import { eventually } from '../../support/eventually.ts';
import { accepted, makeAccount, makeDue } from '../../support/fixtures.ts';
import { endOfJob, jobType, readJob, runsOfJob, type SubmittedJob } from '../../support/job-life.ts';
import { makeSubmitter, startRunner } from '../../support/workers.ts';

const database = useDatabase();

beforeEach(async () => {
  await database.sql`DELETE FROM ringback.run_queue`;
});

const parts = () => ({ database });
const ended = (job: SubmittedJob) => endOfJob(database, job);
const runs = (job: SubmittedJob) => runsOfJob(database, job);

async function submit(definition: AnyJobDefinition, submission: Partial<Submission> = {}): Promise<SubmittedJob> {
  const { accountId } = await makeAccount(database.db);
  const submitter = makeSubmitter(database, [definition]);
  const { id } = accepted(await submitter.submit(accountId, { type: definition.type, ...submission }, undefined));
  return { accountId, id, endpoint: undefined };
}

/** How long after its failure the job waits, as its row and the queue's say alike; once it does. */
async function waitMs(job: SubmittedJob): Promise<number> {
  return eventually(async () => {
    const row = await readJob(database, job);
    expect(row).toMatchObject({ status: 'in_progress', runId: null, nextRunAt: expect.any(Date) });
    const queued = await database.sql`SELECT state, due_at FROM ringback.run_queue WHERE job_id = ${job.id}`;
    expect(queued).toEqual([{ state: 'delayed', due_at: row.nextRunAt }]);
    return row.nextRunAt!.getTime() - row.updatedAt.getTime();
  });
}

const CONFIG = fileURLToPath(new URL('./thread-pool.config.ts', import.meta.url));

/** A runner as the service has it, for the types of `thread-pool.config.ts`. */
async function startThreads(): Promise<void> {
  const threads = new ThreadPool({ configFile: CONFIG, diagnostics: false, maxThreads: 1 });
  onTestFinished(() => threads.close());
  const work = dispatchWork({
    thread: ({ job, input, context }, signal) => threads.run({ type: job.type, input, context }, signal),
    backend: () => expect.fail('there is no back end'),
  });
  startRunner(parts(), [], { types: await loadJobTypes(CONFIG, { diagnostics: false }), work });
}

describe('a handler that says when to try again', () => {
  test('has the job wait so long, on the event loop', async () => {
    const definition = jobType(({ run }) => {
      if (run.number === 1) throw new RetryAfterError('the quota is used up', 90_000);
      return run.number;
    });
    const job = await submit(definition);
    startRunner(parts(), [definition]);
    expect(await waitMs(job)).toBe(90_000);
    await makeDue(database.db, job);
    expect(await ended(job)).toMatchObject({ status: 'succeeded', outputText: '2' });
    expect(await runs(job)).toEqual([
      [1, 'failed', 'handler_error'],
      [2, 'succeeded', null],
    ]);
  });

  test('has it wait as long from within a thread', async () => {
    const job = await submit(await threadType('call.throw'), { input: 'retry_after' });
    await startThreads();
    expect(await waitMs(job)).toBe(90_000);
    expect((await database.sql`SELECT error FROM ringback.job_runs WHERE job_id = ${job.id}`)[0]).toEqual({
      error: { code: 'handler_error', message: 'RetryAfterError: the quota is used up' },
    });
  });
});

describe('a handler that says that trying again makes no sense', () => {
  test('fails the job from within a thread too, whatever runs its submission asked for', async () => {
    const retry = { maxRuns: 100 };
    const job = await submit(await threadType('call.throw'), { input: 'non_retryable', retry });
    await startThreads();
    const error = { code: 'handler_error', message: 'NonRetryableError: the file is empty' };
    expect(await ended(job)).toMatchObject({ status: 'failed', error, runCount: 1 });
    expect(await runs(job)).toEqual([[1, 'failed', 'handler_error']]);
  });

  test('fails it in its second run as in the first', async () => {
    const definition = jobType(({ run }) => {
      throw run.number === 1 ? new Error('not yet') : new NonRetryableError('never');
    });
    const job = await submit(definition, { retry: { maxRuns: 9, minDelayMs: 0 } });
    startRunner(parts(), [definition]);
    expect(await ended(job)).toMatchObject({ status: 'failed', runCount: 2, failureCount: 2 });
  });
});

describe('a submission decides for its job', () => {
  const failing = jobType(() => Promise.reject(new Error('no')), { retry: { maxRuns: 3, minDelayMs: 0 } });

  test.each([
    ['fewer runs than its type', 1],
    ['more runs than its type', 5],
  ])('%s', async (_what, maxRuns) => {
    const job = await submit(failing, { retry: { maxRuns } });
    const other = await submit(failing);
    startRunner(parts(), [failing]);
    expect(await ended(job)).toMatchObject({ status: 'failed', runCount: maxRuns, failureCount: maxRuns });
    expect(await ended(other)).toMatchObject({ status: 'failed', runCount: 3 });
  });

  test('how long it waits before the next run', async () => {
    const job = await submit(failing, { retry: { minDelayMs: 120_000, jitter: 0 } });
    startRunner(parts(), [failing]);
    expect(await waitMs(job)).toBe(120_000);
  });

  test('how long each of its runs may take', async () => {
    const definition = jobType(() => new Promise(() => {}), { retry: { maxRuns: 2, minDelayMs: 0 } });
    const job = await submit(definition, { timeout_ms: 30 });
    startRunner(parts(), [definition]);
    const error = { code: 'timeout', message: 'The run took longer than 30 ms.' };
    expect(await ended(job)).toMatchObject({ status: 'failed', error, timeoutMs: 30 });
    expect(await runs(job), 'the second run as well').toEqual([
      [1, 'timed_out', 'timeout'],
      [2, 'timed_out', 'timeout'],
    ]);
  });
});

async function threadType(type: string): Promise<AnyJobDefinition> {
  return (await loadJobTypes(CONFIG, { diagnostics: false, maxInputBytes: 1_048_576 })).get(type)!;
}
