import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import type { JobProgress } from '../../../src/domain/job.ts';
import { ProgressReport } from '../../../src/jobs/run/progress.ts';

beforeEach(() => {
  vi.useFakeTimers();
});
afterEach(() => {
  vi.useRealTimers();
});

/** A report, and what it has written so far. */
function start(initial: JobProgress | null = null) {
  const written: JobProgress[] = [];
  const progress = new ProgressReport(initial, async (latest) => void written.push(latest));
  return { progress, written };
}

test('the first report is written at once', async () => {
  const { progress, written } = start();
  progress.report(10, 'reading');
  await vi.advanceTimersByTimeAsync(0);
  expect(written).toEqual([{ percent: 10, message: 'reading' }]);
});

test('many reports are written four times a second at most, each time the latest', async () => {
  const { progress, written } = start();
  for (let ms = 0; ms < 1000; ms += 10) {
    progress.report(ms / 10);
    await vi.advanceTimersByTimeAsync(10);
  }
  await vi.advanceTimersByTimeAsync(250);
  expect(written.map(({ percent }) => percent)).toEqual([0, 24, 49, 74, 99]);
});

test('the last of many reports is written, however fast they came', async () => {
  const { progress, written } = start();
  for (let percent = 0; percent <= 100; percent++) progress.report(percent);
  await vi.advanceTimersByTimeAsync(1000);
  expect(written).toEqual([{ percent: 100 }]);
});

test('a report after a pause need not wait', async () => {
  const { progress, written } = start();
  progress.report(1);
  await vi.advanceTimersByTimeAsync(10_000);
  progress.report(2);
  await vi.advanceTimersByTimeAsync(0);
  expect(written).toHaveLength(2);
});

test('without a report nothing is written', async () => {
  const { written } = start({ percent: 40 });
  await vi.advanceTimersByTimeAsync(10_000);
  expect(written).toEqual([]);
});

test('a run that has ended writes nothing more: neither what waited nor what comes', async () => {
  const { progress, written } = start();
  progress.report(1);
  await vi.advanceTimersByTimeAsync(0);
  progress.report(2);
  progress.end();
  progress.report(3);
  await vi.advanceTimersByTimeAsync(10_000);
  expect(written).toEqual([{ percent: 1 }]);
  expect(vi.getTimerCount()).toBe(0);
});

test('a handler that goes on after its run has ended is not heard any more', async () => {
  const { progress, written } = start();
  progress.end();
  progress.report(1);
  await vi.advanceTimersByTimeAsync(10_000);
  expect(written).toEqual([]);
});

test('the latest report can be read before it is written; until then it is the earlier run’s', () => {
  const { progress } = start({ percent: 40, message: 'first run' });
  expect(progress.latest).toEqual({ percent: 40, message: 'first run' });
  progress.report(50);
  expect(progress.latest).toEqual({ percent: 50 });
});

test.each([
  [-5, 0],
  [-0.001, 0],
  [100.5, 100],
  [1e300, 100],
  [33.333, 33.333],
  [Number.NaN, 0],
  [Number.POSITIVE_INFINITY, 0],
  ['50', 0],
  [null, 0],
  [undefined, 0],
  [1n, 0],
  [{}, 0],
])('a report of %s percent counts as %d', (reported, percent) => {
  const { progress } = start();
  progress.report(reported as number);
  expect(progress.latest).toEqual({ percent });
});

test.each<[unknown, string]>([
  ['', ''],
  ['x'.repeat(501), 'x'.repeat(500)],
  [404, '404'],
  [Symbol('s'), 'Symbol(s)'],
])('the message %j is kept as text of 500 characters at most', (message, kept) => {
  const { progress } = start();
  progress.report(1, message);
  expect(progress.latest).toEqual({ percent: 1, message: kept });
});

test('a message that cannot be made text is no reason to fail a run', () => {
  const { progress } = start();
  progress.report(7, Object.create(null));
  expect(progress.latest).toMatchObject({ percent: 7 });
});

test.each([
  ['half a character', 'a\ud83db'],
  ['a NUL', 'a\0b'],
  ['a character where it is cut', `${'x'.repeat(499)}🚚`],
])('a message with %s becomes one that can be stored and read', (_what, message) => {
  const { progress } = start();
  progress.report(1, message);
  const kept = progress.latest?.message;
  expect(kept?.isWellFormed()).toBe(true);
  expect(kept).not.toContain('\0');
});

test('a clock that is set back does not hold reports up', async () => {
  const { progress, written } = start();
  progress.report(1);
  await vi.advanceTimersByTimeAsync(0);
  vi.setSystemTime(Date.now() - 3_600_000);
  progress.report(2);
  await vi.advanceTimersByTimeAsync(250);
  expect(written).toEqual([{ percent: 1 }, { percent: 2 }]);
});
