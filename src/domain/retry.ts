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

/** Spreads a delay by 20 % to each side, so that what failed together is not retried together. */
function jitter(delayMs: number, random: number): number {
  return Math.round(delayMs * (1 - JITTER + 2 * JITTER * random));
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
  return new Date(input.now.getTime() + Math.max(jitter(delayMs, input.random), askedMs));
}

const RUN_BACKOFF_BASE = SECOND;
const RUN_BACKOFF_CAP = 5 * MINUTE;

/** When to run a job again after `failures` failed runs: 1 s, 2 s, 4 s ... up to 5 minutes, with jitter. */
export function nextRunAt(failures: number, now: Date, random: number): Date {
  const delayMs = Math.min(RUN_BACKOFF_BASE * 2 ** (failures - 1), RUN_BACKOFF_CAP);
  return new Date(now.getTime() + jitter(delayMs, random));
}

const HTTP_DATE =
  /^(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun), \d{2} (?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec) \d{4} \d{2}:\d{2}:\d{2} GMT$/;

/** Milliseconds that a `Retry-After` field asks for (RFC 9110, 10.2.3: seconds or a date); null when it is neither. */
export function parseRetryAfter(value: string | undefined, now: Date): number | null {
  const text = value?.trim() ?? '';
  if (/^\d+$/.test(text)) return Number(text) * SECOND;
  if (!HTTP_DATE.test(text)) return null;
  const at = Date.parse(text);
  return Number.isNaN(at) ? null : Math.max(0, at - now.getTime());
}
