import { expect, test } from 'vitest';
import {
  DEFAULT_DELIVERY_SCHEDULE,
  DEFAULT_RETRY_POLICY,
  nextAttemptAt,
  nextRunAt,
  parseRetryAfter,
  type RetryPolicy,
} from '#domain/retry.ts';

const NOW = new Date('2026-01-31T12:00:00Z');
const DAY = 86_400_000;
const LOWEST = 0;
const MIDDLE = 0.5;
const HIGHEST = 1 - Number.EPSILON / 2; // the largest that Math.random() may return

/** Milliseconds until the attempt that follows `attemptsMade`, or null. */
function wait(attemptsMade: number, random: number, retryAfterMs: number | null = null): number | null {
  const schedule = DEFAULT_DELIVERY_SCHEDULE;
  const at = nextAttemptAt({ schedule, attemptsMade, now: NOW, random, retryAfterMs });
  return at === null ? null : at.getTime() - NOW.getTime();
}

test('the default schedule is ten attempts: at once, 5 s, 5 min, 30 min, 2 h, 5 h, 10 h, 14 h, 20 h, 24 h', () => {
  const seconds = [0, 5, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000, 86_400];
  expect(DEFAULT_DELIVERY_SCHEDULE).toEqual(seconds.map((delay) => delay * 1000));
});

test.each([1, 2, 3, 4, 5, 6, 7, 8, 9])('after %d attempts the next is due within 20 %% of its delay', (made) => {
  const delay = DEFAULT_DELIVERY_SCHEDULE[made]!;
  expect(wait(made, LOWEST)).toBe(delay * 0.8);
  expect(wait(made, MIDDLE)).toBe(delay);
  expect(wait(made, HIGHEST)).toBe(delay * 1.2);
});

test.each([10, 11, 1_000_000])(
  'after %d attempts the schedule is used up, even when more time is asked for',
  (made) => {
    expect(wait(made, MIDDLE)).toBeNull();
    expect(wait(made, MIDDLE, 60_000)).toBeNull();
  },
);

test('an empty schedule has no next attempt', () => {
  expect(nextAttemptAt({ schedule: [], attemptsMade: 0, now: NOW, random: 0, retryAfterMs: null })).toBeNull();
});

test.each([
  ['nothing', null, 5000],
  ['0 s', 0, 5000],
  ['less than the schedule', 1000, 5000],
  ['more than the schedule', 60_000, 60_000],
  ['exactly a day', DAY, DAY],
  ['more than a day', DAY + 1, DAY],
  ['an eternity', Number.MAX_SAFE_INTEGER, DAY],
])('a receiver that asks for %s gets the longer of that and the schedule, up to a day', (_asked, askedMs, waitMs) => {
  expect(wait(1, MIDDLE, askedMs)).toBe(waitMs);
});

test('jitter never makes an attempt earlier than the receiver asked for', () => {
  expect(wait(1, LOWEST, 5000)).toBe(5000);
});

test.each([
  ['0', 0],
  ['1', 1000],
  ['120', 120_000],
  ['007', 7000],
  [' 30 ', 30_000],
  ['999999999', 999_999_999_000],
  ['Sat, 31 Jan 2026 12:01:00 GMT', 60_000],
  ['Sat, 31 Jan 2026 12:00:00 GMT', 0],
  ['Sat, 31 Jan 2026 11:59:59 GMT', 0], // past: the receiver's clock, or a slow answer
  ['Thu, 01 Jan 1970 00:00:00 GMT', 0],
  ['Saturday, 31-Jan-26 12:01:00 GMT', 60_000],
  ['Sat Jan 31 12:01:00 2026', 60_000],
  ['Sun Feb  1 12:00:00 2026', DAY],
])('Retry-After: %j asks for %d ms', (value, ms) => {
  expect(parseRetryAfter(value, NOW)).toBe(ms);
});

test.each([
  undefined,
  '',
  '   ',
  '-1',
  '+5',
  '1.5',
  '1e3',
  '0x10',
  'Infinity',
  'NaN',
  'soon',
  '120 seconds',
  '120, 5',
  '１２０',
  '120\0',
  'Sat, 31 Jan 2026 12:01:00',
  'Sat, 31 Jan 2026 12:01:00 +0100',
  'sat, 31 jan 2026 12:01:00 gmt',
  'Sat, 99 Jan 2026 12:01:00 GMT',
  'Sat, 31 Jan 2026 25:61:61 GMT',
  '2026-01-31T12:01:00Z',
])('Retry-After: %j is neither seconds nor a date', (value) => {
  expect(parseRetryAfter(value, NOW)).toBeNull();
});

test('a field as long as a header may be costs no more than a moment', () => {
  const started = performance.now();
  expect(parseRetryAfter(`${'9'.repeat(100_000)}x`, NOW)).toBeNull();
  expect(parseRetryAfter(`${' '.repeat(100_000)}x`, NOW)).toBeNull();
  expect(performance.now() - started).toBeLessThan(500);
});

// RFC 9110 puts no bound on the digits: who asks for ages is given the longest wait there is, not the shortest.
test.each(['86401', '9999999999', '9'.repeat(30), 'Fri, 31 Dec 9999 23:59:59 GMT'])(
  'Retry-After: %s is honoured up to a day',
  (value) => {
    expect(wait(1, MIDDLE, parseRetryAfter(value, NOW))).toBe(DAY);
  },
);

test.each([
  [1, 1000],
  [2, 2000],
  [3, 4000],
  [9, 256_000],
  [10, 300_000],
  [100, 300_000],
  [5000, 300_000],
])('after %d failed runs the next is %d ms away, give or take 20 %%', (failures, delayMs) => {
  const waits = [LOWEST, MIDDLE, HIGHEST].map((random) => runWait({ maxRuns: 10_000 }, { failures, random }));
  expect(waits).toEqual([delayMs * 0.8, delayMs, delayMs * 1.2]);
});

test('by default a job has three runs', () => {
  expect([1, 2, 3, 4].map((failures) => runWait({}, { failures }))).toEqual([1000, 2000, null, null]);
});

test.each<[string, Partial<RetryPolicy>, (number | null)[]]>([
  ['one run', { maxRuns: 1 }, [null, null, null]],
  ['no pause', { minDelayMs: 0 }, [0, 0, 0]],
  ['the same pause each time', { factor: 1 }, [1000, 1000, 1000]],
  ['a steep slope', { factor: 100 }, [1000, 100_000, 300_000]],
  ['a cap below its first pause', { maxDelayMs: 10 }, [10, 10, 10]],
])('a policy of %s is kept', (_what, policy, waits) => {
  const most = { maxRuns: 10, ...policy };
  expect([1, 2, 3].map((failures) => runWait(most, { failures }))).toEqual(waits);
});

test.each([
  [0, [1000, 1000, 1000]],
  [0.5, [500, 1000, 1500]],
  [1, [0, 1000, 2000]],
])('jitter of %d spreads a pause of a second to %j ms', (jitter, waits) => {
  expect([LOWEST, MIDDLE, HIGHEST].map((random) => runWait({ jitter }, { random }))).toEqual(waits);
});

test.each([
  ['nothing', null, 1000],
  ['less than the policy', 10, 1000],
  ['more than the policy', 60_000, 60_000],
  ['more than the longest pause of the policy', 3_600_000, 3_600_000],
  ['more than a day', DAY + 1, DAY],
  ['an eternity', Number.POSITIVE_INFINITY, DAY],
])('work that asks for %s gets the longer of that and the policy, up to a day', (_what, retryAfterMs, waitMs) => {
  expect(runWait({}, { retryAfterMs })).toBe(waitMs);
});

test('a policy that grows beyond what numbers can hold still ends at its cap', () => {
  const endless = { maxRuns: 100_000, factor: 100, minDelayMs: DAY, maxDelayMs: DAY };
  expect(runWait(endless, { failures: 99_999 })).toBe(DAY);
});

/** Milliseconds until the run that follows, or null. */
function runWait(
  changes: Partial<RetryPolicy>,
  { failures = 1, random = MIDDLE, retryAfterMs = null as number | null } = {},
): number | null {
  const at = nextRunAt({ ...DEFAULT_RETRY_POLICY, ...changes }, { failures, now: NOW, random, retryAfterMs });
  return at === null ? null : at.getTime() - NOW.getTime();
}
