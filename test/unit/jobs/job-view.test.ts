import { expect, test } from 'vitest';
import { newId } from '#domain/ids.ts';
import { FINAL_JOB_STATUSES } from '#domain/job.ts';
import { jobSchema } from '../../../src/http/schemas/job.ts';
import { jobJson } from '../../../src/jobs/read/job-view.ts';
import type { JobRecord } from '../../../src/store/jobs.ts';
import { claimedJob, NOW } from './fixtures.ts';

const PUBLIC_URL = 'https://api.example.com/ringback';
const ERROR = { code: 'handler_error', message: 'Error: no' } as const;

function view(job: JobRecord): Record<string, unknown> {
  return JSON.parse(jobJson(job, PUBLIC_URL)) as Record<string, unknown>;
}

const queued: JobRecord = {
  ...claimedJob({ callbackEndpointId: null, callbackUrl: null, callbackEvents: null }),
  status: 'queued',
  runCount: 0,
  startedAt: null,
  runId: null,
  runStartedAt: null,
  workerId: null,
};

test('a job that waits has no member without a value, and nothing of its inner life', () => {
  expect(view(queued)).toEqual({
    id: queued.id,
    type: 'test.job',
    status: 'queued',
    done: false,
    runs: 0,
    metadata: { order: '4711' },
    created_at: '2026-01-31T11:59:00.000Z',
    updated_at: '2026-01-31T11:59:00.000Z',
    status_url: `${PUBLIC_URL}/v1/jobs/${queued.id}`,
    cancel_url: `${PUBLIC_URL}/v1/jobs/${queued.id}/cancel`,
  });
});

test.each(FINAL_JOB_STATUSES)('a job that is %s is done, with either an output or an error', (status) => {
  const error = status === 'succeeded' ? null : ERROR;
  const seen = view({ ...queued, status, error, outputText: error ? null : '1', finishedAt: NOW });
  expect(seen).toMatchObject({ status, done: true, finished_at: NOW.toISOString() });
  expect('output' in seen).toBe(status === 'succeeded');
  expect('error' in seen).toBe(status !== 'succeeded');
});

test.each([null, false, 0, ''])('an output of %j is shown: it is a result like any other', (output) => {
  const outputText = JSON.stringify(output);
  expect(view({ ...queued, status: 'succeeded', outputText, finishedAt: NOW })).toHaveProperty('output', output);
});

test('an output is shown only once the job has succeeded', () => {
  expect(view({ ...queued, status: 'in_progress', outputText: '1' })).not.toHaveProperty('output');
});

test('progress of 0 percent, a next run and the callback are shown', () => {
  const job = claimedJob({ progress: { percent: 0 }, nextRunAt: NOW, runId: null as never });
  expect(view(job)).toMatchObject({
    progress: { percent: 0 },
    next_run_at: NOW.toISOString(),
    started_at: '2026-01-31T11:59:00.000Z',
    callback: { endpoint_id: job.callbackEndpointId, url: 'https://example.com/hook', events: job.callbackEvents },
  });
});

test('what a submission asked for is shown, in the words it used', () => {
  const scheduleId = newId('sch', 0);
  const retry = { maxRuns: 1, minDelayMs: 0, factor: 1, maxDelayMs: 0, jitter: 0 };
  const asked = { priority: -5, timeoutMs: 1, retry, runAt: NOW, expiresAt: NOW, scheduleId, scheduledFor: NOW };
  expect(view({ ...queued, ...asked })).toMatchObject({
    priority: -5,
    timeout_ms: 1,
    retry: { max_runs: 1, min_delay_ms: 0, factor: 1, max_delay_ms: 0, jitter: 0 },
    run_at: NOW.toISOString(),
    expires_at: NOW.toISOString(),
    schedule_id: scheduleId,
    scheduled_for: NOW.toISOString(),
  });
  expect(view({ ...queued, retry: { maxRuns: 7 } })).toHaveProperty('retry', { max_runs: 7 });
});

test('a cancel that has yet to take effect is shown', () => {
  const seen = view(claimedJob({ cancelRequestedAt: NOW }));
  expect(seen).toMatchObject({ status: 'in_progress', done: false, cancel_requested_at: NOW.toISOString() });
});

test.each([0, 5_000_000_000])('a result of %d bytes that is stored apart is named, and not shown', (resultBytes) => {
  const stored = { resultRunId: newId('run', 0), resultType: 'image/png', resultSha256: Buffer.alloc(32, 0xab) };
  const seen = view({ ...queued, ...stored, status: 'succeeded', resultBytes, finishedAt: NOW });
  expect(seen).not.toHaveProperty('output');
  expect(seen).toMatchObject({
    result_url: `${PUBLIC_URL}/v1/jobs/${queued.id}/result`,
    result: { content_type: 'image/png', bytes: resultBytes, sha256: 'ab'.repeat(32) },
  });
});

test('what is shown fits the published schema, with no member that the schema does not know', () => {
  const job = claimedJob({
    status: 'succeeded',
    outputText: '{}',
    progress: { percent: 1 },
    finishedAt: NOW,
    nextRunAt: NOW,
  });
  for (const seen of [view(queued), view(job), view({ ...job, status: 'failed', error: ERROR })]) {
    expect(jobSchema.strict().parse(seen)).toEqual(seen);
  }
});
