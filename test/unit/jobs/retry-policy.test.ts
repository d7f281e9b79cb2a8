import { describe, expect, test } from 'vitest';
import { DEFAULT_RETRY_POLICY, type RetryPolicy } from '#domain/retry.ts';
import { NonRetryableError, RetryAfterError } from '../../../src/jobs/type/define.ts';
import { JobTypes } from '../../../src/jobs/type/job-types.ts';
import { retryPolicyOf } from '../../../src/jobs/type/retry-policy.ts';
import { failureOf, type HandlerFailure } from '../../../src/jobs/run/handler.ts';
import { decideRunEnd } from '../../../src/jobs/run/run-end.ts';
import { claimedJob, failure, NOW, run, schema } from './fixtures.ts';

const TYPES = new JobTypes([
  { type: 'test.job', input: schema(), run: () => null, retry: { maxRuns: 5, minDelayMs: 100, jitter: 0 } },
  { type: 'test.plain', input: schema(), run: () => null },
]);

/** What becomes of a job of the type `test.job`, without jitter, whose run failed for the n-th time. */
function failed(
  outcome: HandlerFailure,
  { retry = null, failures = 1 }: { retry?: Partial<RetryPolicy> | null; failures?: number } = {},
) {
  const job = claimedJob({ retry, failureCount: failures - 1, runCount: failures });
  const context = { policy: retryPolicyOf(TYPES, job), publicUrl: 'https://ringback.test', now: NOW, random: 0.5 };
  const { jobStatus, nextRunAt } = decideRunEnd(job, outcome, context);
  return { jobStatus, waitMs: nextRunAt && nextRunAt.getTime() - NOW.getTime() };
}

describe('the policy of a job', () => {
  test('is its type’s, with the defaults for what that leaves out', () => {
    const typed = { ...DEFAULT_RETRY_POLICY, maxRuns: 5, minDelayMs: 100, jitter: 0 };
    expect(retryPolicyOf(TYPES, { type: 'test.job', retry: null })).toEqual(typed);
    expect(retryPolicyOf(TYPES, { type: 'test.plain', retry: null })).toEqual(DEFAULT_RETRY_POLICY);
  });

  test('has of its submission what that asked for, and the rest of its type', () => {
    const retry = { maxRuns: 2, factor: 1 };
    expect(retryPolicyOf(TYPES, { type: 'test.job', retry })).toEqual({
      ...DEFAULT_RETRY_POLICY,
      minDelayMs: 100,
      jitter: 0,
      ...retry,
    });
    const all = { maxRuns: 1, minDelayMs: 2, factor: 3, maxDelayMs: 4, jitter: 0.5 };
    expect(retryPolicyOf(TYPES, { type: 'test.job', retry: all })).toEqual(all);
  });

  test('of a type that is not known here gives ten runs, or as many as its submission asked for', () => {
    expect(retryPolicyOf(TYPES, { type: 'test.new', retry: null })).toEqual({ ...DEFAULT_RETRY_POLICY, maxRuns: 10 });
    expect(retryPolicyOf(TYPES, { type: 'test.new', retry: { maxRuns: 1 } })).toMatchObject({ maxRuns: 1 });
  });
});

describe('what a submission asked for decides', () => {
  const error = failure('handler_error', 'no', true);
  test.each<[string, Partial<RetryPolicy> | null, number, object]>([
    ['nothing: as the type says', null, 4, { jobStatus: 'in_progress', waitMs: 800 }],
    ['nothing: as often as the type says', null, 5, { jobStatus: 'failed', waitMs: null }],
    ['one run', { maxRuns: 1 }, 1, { jobStatus: 'failed', waitMs: null }],
    ['more runs than the type', { maxRuns: 9 }, 8, { jobStatus: 'in_progress', waitMs: 12_800 }],
    ['longer waits', { minDelayMs: 60_000 }, 2, { jobStatus: 'in_progress', waitMs: 120_000 }],
    ['even waits', { factor: 1 }, 4, { jobStatus: 'in_progress', waitMs: 100 }],
    ['no wait is longer', { maxDelayMs: 150 }, 4, { jobStatus: 'in_progress', waitMs: 150 }],
    ['no wait at all', { minDelayMs: 0 }, 4, { jobStatus: 'in_progress', waitMs: 0 }],
  ])('%s', (_what, retry, failures, expected) => {
    expect(failed(error, { retry, failures })).toEqual(expected);
  });

  test('but not whether an error can be retried', () => {
    expect(failed(failure('handler_error', 'no', false), { retry: { maxRuns: 100 } })).toMatchObject({
      jobStatus: 'failed',
    });
  });
});

describe('a RetryAfterError', () => {
  const outcomeOf = async (thrown: unknown) => {
    const outcome = await run({ run: () => Promise.reject(thrown) });
    if (outcome.kind !== 'failed') throw new Error(`the run has ${outcome.kind}`);
    return outcome;
  };

  test.each<[string, number, number]>([
    ['a longer wait than the policy', 90_000, 90_000],
    ['a shorter one', 10, 100],
    ['none', 0, 100],
    ['more than a day', 86_400_001, 86_400_000],
    ['for ever', Number.POSITIVE_INFINITY, 86_400_000],
    ['a negative one', -1, 100],
    ['what is not a number', Number.NaN, 100],
    ['text', '90000' as unknown as number, 100],
    ['a BigInt', 90_000n as unknown as number, 100],
    ['nothing', undefined as unknown as number, 100],
  ])('that asks for %s (%s ms) is tried again after %s', async (_what, askedMs, waitMs) => {
    const outcome = await outcomeOf(new RetryAfterError('busy', askedMs));
    expect(outcome.error).toEqual({ code: 'handler_error', message: 'RetryAfterError: busy' });
    expect(failed(outcome)).toEqual({ jobStatus: 'in_progress', waitMs });
  });

  test('in the last run fails the job all the same', async () => {
    const outcome = await outcomeOf(new RetryAfterError('busy', 1000));
    expect(failed(outcome, { failures: 5 })).toEqual({ jobStatus: 'failed', waitMs: null });
    expect(failed(outcome, { retry: { maxRuns: 1 } })).toEqual({ jobStatus: 'failed', waitMs: null });
  });

  test('whose wait cannot be read is an error like any other', () => {
    const error = new RetryAfterError('busy', 1000);
    const unreadable = {
      get: () => {
        throw new Error('not me');
      },
    };
    Object.defineProperty(error, 'retryAfterMs', unreadable);
    expect(failureOf(error)).toMatchObject(failure('handler_error', 'RetryAfterError: busy', true));
  });

  test('that a handler made into the cause of its own error asks for nothing', () => {
    const outer = new Error('outer', { cause: new RetryAfterError('busy', 90_000) });
    expect(failureOf(outer)).toMatchObject(failure('handler_error', 'Error: outer', true));
  });
});

test('a subclass of NonRetryableError or RetryAfterError means the same', () => {
  class NoSuchCustomer extends NonRetryableError {}
  class QuotaUsedUp extends RetryAfterError {}
  expect(failureOf(new NoSuchCustomer('4711'))).toMatchObject({ retryable: false, retryAfterMs: null });
  expect(failureOf(new QuotaUsedUp('today', 5000))).toMatchObject({ retryable: true, retryAfterMs: 5000 });
});
