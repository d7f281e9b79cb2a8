import { expect, test } from 'vitest';
import { DEFAULT_RETRY_POLICY } from '#domain/retry.ts';
import type { RunEnd } from '#store/end-runs.ts';
import { decideRunEnd, type RunOutcome } from '../../../src/jobs/run/run-end.ts';
import { claimedJob, failure, NOW } from './fixtures.ts';

function ranOf(outcome: RunOutcome, sinceMs = 1500, runs = 1): RunEnd['ran'] {
  const job = { ...claimedJob(), type: 'csv.profile', runStartedAt: new Date(NOW.getTime() - sinceMs), runCount: runs };
  return decideRunEnd(job, outcome, { policy: DEFAULT_RETRY_POLICY, publicUrl: '', now: NOW, random: 0 }).ran;
}

const TIMED_OUT = { kind: 'timed_out', error: { code: 'timeout', message: 'late' } } as const;

test.each<[string, RunOutcome]>([
  ['succeeded', { kind: 'succeeded', outputText: '1', result: null }],
  ['failed and will be tried again', failure('handler_error', 'no', true)],
  ['failed for good', failure('handler_error', 'no', false)],
  ['timed out', TIMED_OUT],
])('a run that %s tells how long runs of its type take', (_, outcome) => {
  expect(ranOf(outcome)).toEqual({ type: 'csv.profile', ms: 1500 });
});

test.each<RunOutcome>([{ kind: 'released' }, { kind: 'canceled' }, { kind: 'lost' }])(
  'a run that was cut short ($kind) does not',
  (outcome) => {
    expect(ranOf(outcome)).toBeUndefined();
  },
);

test('a clock that went back makes no run take less than nothing', () => {
  expect(ranOf({ kind: 'succeeded', outputText: '1', result: null }, -10)).toEqual({ type: 'csv.profile', ms: 0 });
});
