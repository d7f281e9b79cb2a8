import { parseHttpDate } from './http-date.ts';

const SECOND = 1000;
const MINUTE = 60 * SECOND;
const HOUR = 60 * MINUTE;

/** Delays before each attempt of a delivery, in milliseconds: ten attempts over about three days. */
export const DEFAULT_DELIVERY_SCHEDULE: readonly number[] = [
  0,
  5 * SECOND,
  5 * MINUTE,
  30 * MINUTE,
  2 * HOUR,
  5 * HOUR,
  10 * HOUR,
  14 * HOUR,
  20 * HOUR,
  24 * HOUR,
];

const JITTER = 0.2;
const LONGEST_RETRY_AFTER = 24 * HOUR;

/** Spreads a delay by a share of it to each side, so that what failed together is not retried together. */
function jitter(delayMs: number, share: number, random: number): number {
  return Math.round(delayMs * (1 - share + 2 * share * random));
}

/**
 * When to try a delivery again after `attemptsMade` attempts, or null when the schedule is used up. A receiver
 * that asks for more time (`retryAfterMs`) gets it, up to 24 hours. `random` is in [0, 1).
 */
export function nextAttemptAt(input: {
  schedule: readonly number[];
  attemptsMade: number;
  now: Date;
  random: number;
  retryAfterMs: number | null;
}): Date | null {
  const delayMs = input.schedule[input.attemptsMade];
  if (delayMs === undefined) return null;
  const askedMs = Math.min(input.retryAfterMs ?? 0, LONGEST_RETRY_AFTER);
  return new Date(input.now.getTime() + Math.max(jitter(delayMs, JITTER, input.random), askedMs));
}

/** How often a failed run is tried again, and when. Delays in milliseconds. */
export interface RetryPolicy {
  /** Runs in all before the job fails. */
  readonly maxRuns: number;
  readonly minDelayMs: number;
  /** Each delay is this many times the one before, up to `maxDelayMs`. */
  readonly factor: number;
  readonly maxDelayMs: number;
  /** Spreads each delay by this share to both sides: 0 to 1. */
  readonly jitter: number;
}

/** Three runs: after 1 s, then after 2 s. */
export const DEFAULT_RETRY_POLICY: RetryPolicy = {
  maxRuns: 3,
  minDelayMs: SECOND,
  factor: 2,
  maxDelayMs: 5 * MINUTE,
  jitter: JITTER,
};

/**
 * When to run a job again after `failures` failed runs, or null when there were enough. Work that asks for more time
 * (`retryAfterMs`) gets it, up to 24 hours. `random` is in [0, 1).
 */
export function nextRunAt(
  policy: RetryPolicy,
  input: { failures: number; now: Date; random: number; retryAfterMs: number | null },
): Date | null {
  const { failures, now, random } = input;
  if (failures >= policy.maxRuns) return null;
  const delayMs = Math.min(policy.minDelayMs * policy.factor ** (failures - 1), policy.maxDelayMs);
  const askedMs = Math.min(input.retryAfterMs ?? 0, LONGEST_RETRY_AFTER);
  return new Date(now.getTime() + Math.max(jitter(delayMs, policy.jitter, random), askedMs));
}

/** Milliseconds that a `Retry-After` field asks for (RFC 9110, 10.2.3: seconds or a date, in any of its forms); null when it is neither. */
export function parseRetryAfter(value: string | undefined, now: Date): number | null {
  const text = value?.trim() ?? '';
  if (/^\d+$/.test(text)) return Number(text) * SECOND;
  const at = parseHttpDate(text, now);
  return at === undefined ? null : Math.max(0, at.getTime() - now.getTime());
}
