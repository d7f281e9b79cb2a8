import { describe, expect, test } from 'vitest';
import { parseId, timeOf } from '#domain/ids.ts';
import { JOB_TRANSITIONS } from '#domain/job.ts';
import { DEFAULT_RETRY_POLICY, type RetryPolicy } from '#domain/retry.ts';
import { jobJson } from '../../../src/jobs/read/job-view.ts';
import { decideRunEnd, type RunOutcome } from '../../../src/jobs/run/run-end.ts';
import type { ClaimedJob } from '../../../src/store/claim-runs.ts';
import type { JobRecord } from '../../../src/store/jobs.ts';
import { claimedJob, failure, NOW, run } from './fixtures.ts';

const PUBLIC_URL = 'https://api.example.com';
const HANDLER_ERROR = { code: 'handler_error', message: 'Error: no' } as const;
const TIMEOUT = { code: 'timeout', message: 'The run took longer than 5 ms.' } as const;

const SUCCEEDED: RunOutcome = { kind: 'succeeded', outputText: '{"rows":3}', result: null };
const STORED = { contentType: 'application/pdf', bytes: 1_000_000, sha256: 'ab'.repeat(32) };
const SUCCEEDED_APART: RunOutcome = { kind: 'succeeded', outputText: null, result: STORED };
const FAILED: RunOutcome = failure('handler_error', 'Error: no', true);
const FAILED_FOR_GOOD: RunOutcome = failure('handler_error', 'Error: no', false);
const TIMED_OUT: RunOutcome = { kind: 'timed_out', error: TIMEOUT };
const RELEASED: RunOutcome = { kind: 'released' };
const CANCELED: RunOutcome = { kind: 'canceled' };
const LOST: RunOutcome = { kind: 'lost' };
const EXPIRED: RunOutcome = { kind: 'expired' };

function decide(job: JobRecord, outcome: RunOutcome, retry: Partial<RetryPolicy> = {}, random = 0.5) {
  const policy = { ...DEFAULT_RETRY_POLICY, ...retry };
  return decideRunEnd(job, outcome, { policy, publicUrl: PUBLIC_URL, now: NOW, random });
}

function bodyOf(job: JobRecord, outcome: RunOutcome) {
  const { event } = decide(job, outcome);
  return JSON.parse(event.body!.join('3')) as {
    type: string;
    timestamp: string;
    sequence: number;
    data: { job: unknown };
  };
}

/** A job that waits: for its first run, or for the next. */
function waitingJob(more: Partial<JobRecord> = {}): JobRecord {
  const never = { status: 'queued', runCount: 0, sequence: 1, startedAt: null, runStartedAt: null } as const;
  return { ...claimedJob(), ...never, runId: null, workerId: null, ...more };
}

test('every ending names the job, the run it fences and its moment', () => {
  const job = claimedJob();
  for (const outcome of [SUCCEEDED, FAILED, FAILED_FOR_GOOD, TIMED_OUT, RELEASED, CANCELED, LOST]) {
    expect(decide(job, outcome)).toMatchObject({
      accountId: job.accountId,
      jobId: job.id,
      runId: job.runId,
      endedAt: NOW,
    });
  }
});

test.each<[string, RunOutcome, number, number, object]>([
  ['success', SUCCEEDED, 0, 3, { runStatus: 'succeeded', runError: null, jobStatus: 'succeeded', jobError: null }],
  ['success in the last run', SUCCEEDED, 2, 3, { runStatus: 'succeeded', jobStatus: 'succeeded' }],
  ['the first failure', FAILED, 0, 3, { runStatus: 'failed', runError: HANDLER_ERROR, jobStatus: 'in_progress' }],
  ['the last but one failure', FAILED, 1, 3, { runStatus: 'failed', jobStatus: 'in_progress', jobError: null }],
  ['the last failure', FAILED, 2, 3, { runStatus: 'failed', jobStatus: 'failed', jobError: HANDLER_ERROR }],
  ['a failure beyond the last', FAILED, 7, 3, { runStatus: 'failed', jobStatus: 'failed' }],
  ['a failure of the only run', FAILED, 0, 1, { runStatus: 'failed', jobStatus: 'failed' }],
  ['a failure for good', FAILED_FOR_GOOD, 0, 3, { runStatus: 'failed', jobStatus: 'failed', jobError: HANDLER_ERROR }],
  ['the first timeout', TIMED_OUT, 0, 3, { runStatus: 'timed_out', runError: TIMEOUT, jobStatus: 'in_progress' }],
  ['the last timeout', TIMED_OUT, 2, 3, { runStatus: 'timed_out', jobStatus: 'failed', jobError: TIMEOUT }],
  ['a shutdown', RELEASED, 0, 3, { runStatus: 'released', runError: null, jobStatus: 'in_progress' }],
  ['a shutdown in the last run', RELEASED, 2, 3, { runStatus: 'released', jobStatus: 'in_progress' }],
  ['a dead worker', LOST, 0, 3, { runStatus: 'lost', runError: { code: 'worker_lost' }, jobStatus: 'in_progress' }],
  ['the last dead worker', LOST, 2, 3, { runStatus: 'lost', jobStatus: 'failed', jobError: { code: 'worker_lost' } }],
  ['a cancel', CANCELED, 0, 3, { runStatus: 'canceled', jobStatus: 'canceled', jobError: { code: 'canceled' } }],
])('%s decides run and job', (_what, outcome, failureCount, maxRuns, expected) => {
  const end = decide(claimedJob({ failureCount, runCount: failureCount + 1 }), outcome, { maxRuns });
  expect(end).toMatchObject(expected);
  expect(JOB_TRANSITIONS.in_progress).toContain(end.jobStatus);
  // A job that is over has its last event; one that goes on says so, to nobody but its log of events.
  const isOver = end.jobStatus !== 'in_progress';
  expect(end.event.type).toBe(isOver ? `job.${end.jobStatus}` : 'job.retrying');
  expect(end.event.body !== null).toBe(isOver);
  expect(end.delivery !== null).toBe(isOver);
  expect(end.outputText).toBe(end.jobStatus === 'succeeded' ? '{"rows":3}' : null);
});

describe('a job whose client has called it off while it ran', () => {
  const called = claimedJob({ cancelRequestedAt: NOW });

  test.each<[string, RunOutcome, object]>([
    ['stops', CANCELED, { runStatus: 'canceled', runError: { code: 'canceled' } }],
    ['fails', FAILED, { runStatus: 'failed', runError: HANDLER_ERROR }],
    ['takes too long', TIMED_OUT, { runStatus: 'timed_out', runError: TIMEOUT }],
    ['is lost', LOST, { runStatus: 'lost', runError: { code: 'worker_lost' } }],
  ])('is canceled when its run %s, whatever runs are left', (_how, outcome, expected) => {
    const canceled = { jobStatus: 'canceled', jobError: { code: 'canceled' }, nextRunAt: null };
    expect(decide(called, outcome)).toMatchObject({ ...expected, ...canceled, event: { type: 'job.canceled' } });
  });

  test('has succeeded when its run did, before it could be stopped', () => {
    expect(decide(called, SUCCEEDED)).toMatchObject({ runStatus: 'succeeded', jobStatus: 'succeeded' });
  });
});

describe('a job that waits', () => {
  test.each<[string, RunOutcome, object]>([
    ['canceled', CANCELED, { jobStatus: 'canceled', jobError: { code: 'canceled' }, event: { type: 'job.canceled' } }],
    ['expired', EXPIRED, { jobStatus: 'expired', jobError: { code: 'expired' }, event: { type: 'job.expired' } }],
  ])('is %s without a run on record, and its callback is due', (_status, outcome, expected) => {
    const job = waitingJob();
    const end = decide(job, outcome);
    expect(end).toMatchObject({ runId: null, runStatus: null, runError: null, ...expected });
    expect(JOB_TRANSITIONS.queued).toContain(end.jobStatus);
    expect(end.delivery).toEqual({ id: expect.stringMatching(/^dlv_/), endpointId: job.callbackEndpointId });
  });

  test('between two runs is canceled too, and its callback names no next run', () => {
    const job = waitingJob({ ...claimedJob({ nextRunAt: NOW }), runId: null });
    expect(decide(job, CANCELED)).toMatchObject({ runStatus: null, jobStatus: 'canceled' });
    expect(bodyOf(job, CANCELED).data.job).not.toHaveProperty('next_run_at');
  });
});

test('runs that were given back do not use up the failures of a job', () => {
  const job = claimedJob({ runCount: 50, failureCount: 0 });
  expect(decide(job, FAILED).jobStatus).toBe('in_progress');
});

test.each([
  [0, 1000],
  [1, 2000],
  [2, 4000],
  [20, 300_000],
])('after %d earlier failures the next run is %d ms away, jitter apart', (failureCount, delayMs) => {
  const job = claimedJob({ failureCount, runCount: failureCount + 1 });
  const waits = [0, 0.5].map(
    (random) => decide(job, TIMED_OUT, { maxRuns: 100 }, random).nextRunAt!.getTime() - NOW.getTime(),
  );
  expect(waits).toEqual([delayMs * 0.8, delayMs]);
});

test('the policy decides how far away the next run is', () => {
  const policy = { minDelayMs: 10, factor: 10, maxDelayMs: 5000, jitter: 0 };
  const waits = [0, 1, 2, 3].map((failureCount) => {
    const end = decide(claimedJob({ failureCount, runCount: 9 }), FAILED, { ...policy, maxRuns: 9 });
    return end.nextRunAt!.getTime() - NOW.getTime();
  });
  expect(waits).toEqual([10, 100, 1000, 5000]);
});

test.each([
  [0, 1000],
  [60_000, 60_000],
  [2 * 86_400_000, 86_400_000],
])('a failure that asks for %d ms gets %d: the longer of that and the policy, a day at most', (asked, wait) => {
  const outcome = { ...failure('handler_error', 'busy', true), retryAfterMs: asked };
  expect(decide(claimedJob(), outcome).nextRunAt!.getTime() - NOW.getTime()).toBe(wait);
});

test('a failure that asks for time has no run more than the policy gives', () => {
  const outcome = { ...failure('handler_error', 'busy', true), retryAfterMs: 1000 };
  expect(decide(claimedJob(), outcome, { maxRuns: 1 })).toMatchObject({ jobStatus: 'failed', nextRunAt: null });
});

test('a run given back is due at once, and an ended job never again', () => {
  for (const outcome of [RELEASED, SUCCEEDED, FAILED_FOR_GOOD, CANCELED]) {
    expect(decide(claimedJob(), outcome).nextRunAt).toBeNull();
  }
});

test.each<[string, Partial<ClaimedJob>]>([
  ['has no callback', { callbackEndpointId: null, callbackUrl: null, callbackEvents: null }],
  ['wants other events only', { callbackEvents: ['job.failed', 'job.canceled'] }],
  ['wants no events', { callbackEvents: [] }],
])('a job that %s has its event, told to whoever reads the feed, and no delivery', (_how, callback) => {
  const end = decide(claimedJob(callback), SUCCEEDED);
  expect(end.event).toEqual({ id: expect.stringMatching(/^evt_/), type: 'job.succeeded', body: expect.any(Array) });
  expect(JSON.parse(end.event.body!.join('3'))).toMatchObject({
    type: 'job.succeeded',
    data: { job: { status: 'succeeded' } },
  });
  expect(end.delivery).toBeNull();
});

test('who subscribed to this end alone is told', () => {
  const job = claimedJob({ callbackEvents: ['job.failed'] });
  const end = decide(job, FAILED_FOR_GOOD);
  expect(end.delivery).toEqual({ id: expect.stringMatching(/^dlv_/), endpointId: job.callbackEndpointId });
  expect(bodyOf(job, FAILED_FOR_GOOD).type).toBe('job.failed');
});

test('event and delivery have ids of their own, from the moment of the end', () => {
  const { event, delivery } = decide(claimedJob(), SUCCEEDED);
  expect(parseId('evt', event.id)).toBe(event.id);
  expect(parseId('dlv', delivery!.id)).toBe(delivery!.id);
  expect([timeOf(event.id), timeOf(delivery!.id)]).toEqual([NOW.getTime(), NOW.getTime()]);
});

const APART = {
  resultType: 'application/pdf',
  resultBytes: 1_000_000,
  resultSha256: Buffer.from('ab'.repeat(32), 'hex'),
};

test.each<[string, RunOutcome, Partial<ClaimedJob>]>([
  ['succeeded', SUCCEEDED, { outputText: '{"rows":3}' }],
  ['succeeded', SUCCEEDED_APART, APART],
  ['failed', FAILED_FOR_GOOD, { error: HANDLER_ERROR }],
  ['failed', TIMED_OUT, { error: TIMEOUT }],
  ['canceled', CANCELED, { error: { code: 'canceled', message: 'The job was canceled by its client.' } }],
])('the callback of a job that %s carries what its status will say', (status, outcome, more) => {
  const job = claimedJob({ runCount: 3, failureCount: 2, sequence: 2, progress: { percent: 90 } });
  const resultRunId = 'resultType' in more ? job.runId : null;
  const end = { status, resultRunId, sequence: 3, updatedAt: NOW, finishedAt: NOW };
  const final = { ...job, ...more, ...end } as ClaimedJob;
  expect(bodyOf(job, outcome)).toEqual({
    type: `job.${status}`,
    timestamp: NOW.toISOString(),
    sequence: 3,
    data: { job: JSON.parse(jobJson(final, PUBLIC_URL)) as unknown },
  });
});

test('a result that is stored apart is named by its URL, and is nowhere in the callback', () => {
  const job = claimedJob();
  expect(decide(job, SUCCEEDED_APART)).toMatchObject({ outputText: null, result: STORED });
  const { data } = bodyOf(job, SUCCEEDED_APART);
  const { contentType: content_type, bytes, sha256 } = STORED;
  const result_url = `${PUBLIC_URL}/v1/jobs/${job.id}/result`;
  expect(data.job).toMatchObject({ result_url, result: { content_type, bytes, sha256 } });
  expect(data.job).not.toHaveProperty('output');
});

test('a job that failed before and succeeds now has an output and no error', () => {
  const { data } = bodyOf(claimedJob({ failureCount: 2, runCount: 3 }), SUCCEEDED);
  expect(data.job).toMatchObject({ status: 'succeeded', done: true, output: { rows: 3 }, runs: 3 });
  expect(data.job).not.toHaveProperty('error');
  expect(data.job).not.toHaveProperty('next_run_at');
});

test('the progress that a run reported last stands in the job and in its callback', () => {
  const job = claimedJob({ progress: { percent: 10 } });
  const context = { policy: DEFAULT_RETRY_POLICY, publicUrl: PUBLIC_URL, now: NOW, random: 0.5 };
  const end = decideRunEnd(job, SUCCEEDED, { ...context, progress: { percent: 99 } });
  expect(end.progress).toEqual({ percent: 99 });
  expect(JSON.parse(end.event.body!.join('3'))).toMatchObject({ data: { job: { progress: { percent: 99 } } } });
  const silent = decideRunEnd(job, SUCCEEDED, { ...context, progress: null });
  expect(silent.progress, 'null keeps what the job has').toBeNull();
  expect(JSON.parse(silent.event.body!.join('3'))).toMatchObject({ data: { job: { progress: { percent: 10 } } } });
});

test.each([
  ['nothing', () => undefined],
  ['null', () => null],
  ['members without a value', () => ({ a: undefined, b: 1 })],
  ['a date', () => new Date(0)],
  ['an object that says something else each time', () => ({ toJSON: () => Math.random() })],
])('a handler that returns %s has the same output in the callback as in the row', async (_what, handler) => {
  const job = claimedJob();
  const outcome = await run({ run: handler });
  if (outcome.kind !== 'value') throw new Error(`the run has ${outcome.kind}`);
  const end = decide(job, { kind: 'succeeded', outputText: outcome.text, result: null });
  const { data } = JSON.parse(end.event.body!.join('3')) as { data: { job: object } };
  expect(data.job).toHaveProperty('output', JSON.parse(end.outputText!));
});

test('a run that is given back after its job was called off is not followed by another', () => {
  const job = { ...claimedJob(), cancelRequestedAt: NOW };
  expect(decide(job, RELEASED)).toMatchObject({ runStatus: 'canceled', jobStatus: 'canceled', nextRunAt: null });
});
