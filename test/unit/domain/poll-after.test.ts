import { describe, expect, test } from 'vitest';
import { type Lane, type Outlook, type PendingJob, pollAfterSeconds, queueTimeMs } from '#domain/poll-after.ts';

const NOW = new Date('2026-01-31T12:00:00Z');
const ago = (ms: number) => new Date(NOW.getTime() - ms);
const ahead = (ms: number) => new Date(NOW.getTime() + ms);
const UNKNOWN: Outlook = { runMs: null, queueMs: null };

function waitingJob(changes: Partial<PendingJob> = {}): PendingJob {
  return { status: 'queued', createdAt: NOW, runAt: null, nextRunAt: null, runningSince: null, ...changes };
}

function runningJob(sinceMs: number): PendingJob {
  return waitingJob({ status: 'in_progress', createdAt: ago(sinceMs + 60_000), runningSince: ago(sinceMs) });
}

describe('a job that runs', () => {
  test.each([
    [0, 20_000, 20],
    [5000, 20_000, 15],
    [19_500, 20_000, 1],
    [0, 1_500, 2], // rounded up: a second early is a request for nothing
    [0, 3, 1],
  ])('after %d ms of the %d ms that runs take is asked for in %d s', (sinceMs, runMs, seconds) => {
    expect(pollAfterSeconds(runningJob(sinceMs), { runMs, queueMs: 50_000 }, NOW)).toBe(seconds);
  });

  test('and is overdue is asked for less and less often', () => {
    const seconds = [20_000, 24_000, 40_000, 100_000, 3_600_000].map((sinceMs) =>
      pollAfterSeconds(runningJob(sinceMs), { runMs: 20_000, queueMs: 0 }, NOW),
    );
    expect(seconds).toEqual([1, 1, 5, 20, 600]);
  });

  test('of a type that nothing is known of is judged by how long it runs', () => {
    expect(pollAfterSeconds(runningJob(40_000), UNKNOWN, NOW)).toBe(10);
  });
});

describe('a job that waits', () => {
  test('waits for its turn, and then for its run', () => {
    expect(pollAfterSeconds(waitingJob(), { runMs: 5000, queueMs: 30_000 }, NOW)).toBe(35);
  });

  test.each([
    ['run_at', waitingJob({ runAt: ahead(90_000) })],
    ['next_run_at', waitingJob({ status: 'in_progress', runAt: ago(1), nextRunAt: ahead(90_000) })],
  ])('is not asked for before its %s, known type or not', (_, job) => {
    expect(pollAfterSeconds(job, { runMs: 5000, queueMs: 0 }, NOW)).toBe(95);
    expect(pollAfterSeconds(job, UNKNOWN, NOW)).toBe(90);
  });

  test.each([
    [-60_000, 1], // the clock of another machine
    [0, 1],
    [4000, 1],
    [4001, 2],
    [116_001, 30],
    [86_400_000, 30],
  ])('and of which nothing is known is asked for, after %d ms, in %d s', (waitedMs, seconds) => {
    expect(pollAfterSeconds(waitingJob({ createdAt: ago(waitedMs) }), UNKNOWN, NOW)).toBe(seconds);
    expect(pollAfterSeconds(waitingJob({ createdAt: ago(waitedMs) }), { runMs: 9, queueMs: null }, NOW)).toBe(seconds);
  });

  test('is asked for within ten minutes, however long it will take', () => {
    expect(pollAfterSeconds(waitingJob({ runAt: ahead(86_400_000) }), UNKNOWN, NOW)).toBe(600);
    expect(pollAfterSeconds(waitingJob(), { runMs: 1, queueMs: Number.MAX_VALUE }, NOW)).toBe(600);
  });
});

describe('the time in the queue', () => {
  /** A run a second became due until now. */
  function lane(waiting: number, isWhole = true): Lane {
    return { waiting, isWhole, oldestDueAt: ago(waiting * 1000), newestDueAt: NOW };
  }
  const queueTime = (lanes: Record<string, Lane>, account: string, dueAt = NOW, runsPerMs: number | null = 0.01) =>
    queueTimeMs({ lanes: new Map(Object.entries(lanes)), runsPerMs }, account, dueAt);

  test('is what the runs before it take', () => {
    expect(queueTime({ a: lane(100) }, 'a')).toBe(10_000);
  });

  test('counts what became due before, not after', () => {
    expect(queueTime({ a: lane(100) }, 'a', ago(75_000))).toBe(2500);
    expect(queueTime({ a: lane(100) }, 'a', ago(100_000))).toBe(0);
    expect(queueTime({ a: lane(100) }, 'a', ahead(60_000))).toBe(10_000);
  });

  test('does not depend on the backlog of another account', () => {
    expect(queueTime({ noisy: lane(10_000) }, 'a')).toBe(0);
    expect(queueTime({ noisy: lane(10_000), a: lane(2) }, 'a')).toBe(400);
    expect(queueTime({ noisy: lane(10_000), a: lane(2) }, 'noisy')).toBe(1_000_200);
  });

  test('goes on beyond what was looked at, as dense as that was', () => {
    const front: Lane = { waiting: 100, isWhole: false, oldestDueAt: ago(1000_000), newestDueAt: ago(900_000) };
    expect(queueTime({ a: front }, 'a')).toBe(100_000);
    const atOnce: Lane = { ...front, newestDueAt: front.oldestDueAt };
    expect(queueTime({ a: atOnce }, 'a')).toBe(10_000);
  });

  test('is nothing without a queue, and not known while nothing runs', () => {
    expect(queueTime({}, 'a', NOW, null)).toBe(0);
    expect(queueTime({ a: lane(3) }, 'a', NOW, null)).toBeNull();
  });
});
