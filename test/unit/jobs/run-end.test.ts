import { expect, test } from 'vitest';
import { parseId, timeOf } from '#domain/ids.ts';
import { JOB_TRANSITIONS } from '#domain/job.ts';
import type { RunOutcome } from '../../../src/jobs/execute.ts';
import { viewJob } from '../../../src/jobs/job-view.ts';
import { decideRunEnd } from '../../../src/jobs/run-end.ts';
import type { ClaimedJob } from '../../../src/store/jobs.ts';
import { claimedJob, NOW, run } from './fixtures.ts';

const PUBLIC_URL = 'https://api.example.com';
const HANDLER_ERROR = { code: 'handler_error', message: 'Error: no' } as const;
const TIMEOUT = { code: 'timeout', message: 'The run took longer than 5 ms.' } as const;

const SUCCEEDED: RunOutcome = { kind: 'succeeded', output: { rows: 3 }, outputText: '{"rows":3}' };
const FAILED: RunOutcome = { kind: 'failed', error: HANDLER_ERROR, retryable: true };
const FAILED_FOR_GOOD: RunOutcome = { kind: 'failed', error: HANDLER_ERROR, retryable: false };
const TIMED_OUT: RunOutcome = { kind: 'timed_out', error: TIMEOUT };
const RELEASED: RunOutcome = { kind: 'released' };

function decide(job: ClaimedJob, outcome: RunOutcome, maxRuns = 3, random = 0.5) {
  return decideRunEnd(job, outcome, { maxRuns, publicUrl: PUBLIC_URL, now: NOW, random });
}

function bodyOf(job: ClaimedJob, outcome: RunOutcome, maxRuns = 3) {
  const { event } = decide(job, outcome, maxRuns);
  return JSON.parse(event!.body!) as { type: string; timestamp: string; sequence: number; data: { job: unknown } };
}

test('every ending names the job, the run it fences and its moment', () => {
  const job = claimedJob();
  for (const outcome of [SUCCEEDED, FAILED, FAILED_FOR_GOOD, TIMED_OUT, RELEASED]) {
    expect(decide(job, outcome)).toMatchObject({
      accountId: job.accountId,
      jobId: job.id,
      runId: job.runId,
      endedAt: NOW,
    });
  }
});

test.each<[string, RunOutcome, number, number, object]>([
  ['success', SUCCEEDED, 0, 3, { runStatus: 'succeeded', runError: null, jobStatus: 'succeeded' }],
  ['success in the last run', SUCCEEDED, 2, 3, { runStatus: 'succeeded', jobStatus: 'succeeded' }],
  ['the first failure', FAILED, 0, 3, { runStatus: 'failed', runError: HANDLER_ERROR, jobStatus: 'in_progress' }],
  ['the last but one failure', FAILED, 1, 3, { runStatus: 'failed', jobStatus: 'in_progress' }],
  ['the last failure', FAILED, 2, 3, { runStatus: 'failed', runError: HANDLER_ERROR, jobStatus: 'failed' }],
  ['a failure beyond the last', FAILED, 7, 3, { runStatus: 'failed', jobStatus: 'failed' }],
  ['a failure of the only run', FAILED, 0, 1, { runStatus: 'failed', jobStatus: 'failed' }],
  ['a failure for good', FAILED_FOR_GOOD, 0, 3, { runStatus: 'failed', jobStatus: 'failed' }],
  ['the first timeout', TIMED_OUT, 0, 3, { runStatus: 'timed_out', runError: TIMEOUT, jobStatus: 'in_progress' }],
  ['the last timeout', TIMED_OUT, 2, 3, { runStatus: 'timed_out', runError: TIMEOUT, jobStatus: 'failed' }],
  ['a shutdown', RELEASED, 0, 3, { runStatus: 'released', runError: null, jobStatus: 'in_progress' }],
  ['a shutdown in the last run', RELEASED, 2, 3, { runStatus: 'released', jobStatus: 'in_progress' }],
])('%s decides run and job', (_what, outcome, failureCount, maxRuns, expected) => {
  const end = decide(claimedJob({ failureCount, runCount: failureCount + 1 }), outcome, maxRuns);
  expect(end).toMatchObject(expected);
  expect(JOB_TRANSITIONS.in_progress).toContain(end.jobStatus);
  // A job that is over has its event; one that goes on has neither event nor delivery nor output.
  const isOver = end.jobStatus !== 'in_progress';
  expect(end.event?.type).toBe(isOver ? `job.${end.jobStatus}` : undefined);
  expect(end.delivery !== null).toBe(isOver);
  expect(end.outputText).toBe(end.jobStatus === 'succeeded' ? '{"rows":3}' : null);
});

test('runs that were given back or lost do not use up the failures of a job', () => {
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
  const waits = [0, 0.5].map((random) => decide(job, TIMED_OUT, 100, random).nextRunAt!.getTime() - NOW.getTime());
  expect(waits).toEqual([delayMs * 0.8, delayMs]);
});

test('a run given back is due at once, and an ended job never again', () => {
  for (const outcome of [RELEASED, SUCCEEDED, FAILED_FOR_GOOD]) {
    expect(decide(claimedJob(), outcome).nextRunAt).toBeNull();
  }
});

test.each<[string, Partial<ClaimedJob>]>([
  ['has no callback', { callbackEndpointId: null, callbackUrl: null, callbackEvents: null }],
  ['wants other events only', { callbackEvents: ['job.failed', 'job.canceled'] }],
  ['wants no events', { callbackEvents: [] }],
])('a job that %s has its event, without a body, and no delivery', (_how, callback) => {
  const end = decide(claimedJob(callback), SUCCEEDED);
  expect(end.event).toEqual({ id: expect.stringMatching(/^evt_/), type: 'job.succeeded', body: null });
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
  expect(parseId('evt', event!.id)).toBe(event!.id);
  expect(parseId('dlv', delivery!.id)).toBe(delivery!.id);
  expect([timeOf(event!.id), timeOf(delivery!.id)]).toEqual([NOW.getTime(), NOW.getTime()]);
});

test.each<[string, RunOutcome, Partial<ClaimedJob>]>([
  ['succeeded', SUCCEEDED, { output: { rows: 3 } }],
  ['failed', FAILED_FOR_GOOD, { error: HANDLER_ERROR }],
  ['failed', TIMED_OUT, { error: TIMEOUT }],
])('the callback of a job that %s carries what its status will say', (status, outcome, more) => {
  const job = claimedJob({ runCount: 3, failureCount: 2, sequence: 2, progress: { percent: 90 } });
  const final = { ...job, ...more, status, sequence: 3, updatedAt: NOW, finishedAt: NOW } as ClaimedJob;
  expect(bodyOf(job, outcome)).toEqual({
    type: `job.${status}`,
    timestamp: NOW.toISOString(),
    sequence: 3,
    data: { job: JSON.parse(JSON.stringify(viewJob(final, PUBLIC_URL))) as unknown },
  });
});

test('a job that failed before and succeeds now has an output and no error', () => {
  const { data } = bodyOf(claimedJob({ failureCount: 2, runCount: 3 }), SUCCEEDED);
  expect(data.job).toMatchObject({ status: 'succeeded', done: true, output: { rows: 3 }, runs: 3 });
  expect(data.job).not.toHaveProperty('error');
  expect(data.job).not.toHaveProperty('next_run_at');
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
  const end = decide(job, outcome);
  const { data } = JSON.parse(end.event!.body!) as { data: { job: object } };
  expect(data.job).toHaveProperty('output', JSON.parse(end.outputText!));
});
