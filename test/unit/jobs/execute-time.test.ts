import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { run, schema } from './fixtures.ts';

beforeEach(() => {
  vi.useFakeTimers();
});
afterEach(() => {
  vi.useRealTimers();
});

const TIMED_OUT = {
  kind: 'timed_out',
  error: { code: 'timeout', message: 'The run took longer than 5000 ms.' },
};
const FOREVER = new Promise<never>(() => {});

/** A handler's signal, and a promise of the moment it has it. */
function watch() {
  const { promise, resolve } = Promise.withResolvers<AbortSignal>();
  return { started: promise, onStart: resolve };
}

/** Rejects when the signal aborts, as fetch and timers do. */
function untilAborted(signal: AbortSignal): Promise<never> {
  const { promise, reject } = Promise.withResolvers<never>();
  signal.addEventListener('abort', () => reject(signal.reason as Error), { once: true });
  return promise;
}

test('a handler that listens to its signal and gives up has timed out, not failed', async () => {
  const outcome = run({ timeoutMs: 5000, run: ({ signal }) => untilAborted(signal) });
  await vi.advanceTimersByTimeAsync(5000);
  expect(await outcome).toEqual(TIMED_OUT);
});

test('a handler that ends well the moment it is told to stop has timed out all the same', async () => {
  const outcome = run({ timeoutMs: 5000, run: ({ signal }) => untilAborted(signal).catch(() => 'partial') });
  await vi.advanceTimersByTimeAsync(5000);
  expect(await outcome).toEqual(TIMED_OUT);
});

test('nobody waits for a handler that does not listen', async () => {
  const outcome = run({ timeoutMs: 5000, run: () => FOREVER });
  await vi.advanceTimersByTimeAsync(5000);
  expect(await outcome).toEqual(TIMED_OUT);
});

test('what a handler throws after its time is up is nobody’s unhandled rejection', async () => {
  const unhandled = vi.fn<() => void>();
  process.on('unhandledRejection', unhandled);
  const late = Promise.withResolvers<never>();
  const outcome = run({ timeoutMs: 5000, run: () => late.promise });
  await vi.advanceTimersByTimeAsync(5000);
  expect(await outcome).toEqual(TIMED_OUT);
  late.reject(new Error('too late'));
  vi.useRealTimers();
  await sleep(0); // a turn of the event loop, in which Node reports what nobody caught
  process.off('unhandledRejection', unhandled);
  expect(unhandled).not.toHaveBeenCalled();
});

test('a run that ends a millisecond before its time has ended well', async () => {
  const done = Promise.withResolvers<string>();
  const outcome = run({ timeoutMs: 5000, run: () => done.promise });
  await vi.advanceTimersByTimeAsync(4999);
  done.resolve('just in time');
  expect(await outcome).toEqual({ kind: 'value', text: '"just in time"' });
});

test('the signal says that it was the time', async () => {
  const { started, onStart } = watch();
  const outcome = run({ timeoutMs: 5000, run: ({ signal }) => (onStart(signal), FOREVER) });
  const signal = await started;
  expect(signal.aborted).toBe(false);
  await vi.advanceTimersByTimeAsync(5000);
  await outcome;
  expect(signal.reason).toMatchObject({ name: 'TimeoutError', message: 'The run took longer than 5000 ms.' });
});

test.each([
  ['an input schema', { input: schema(() => FOREVER) }],
  ['an output schema', { output: schema(() => FOREVER) }],
])('%s that never answers is ended by the timeout too', async (_what, definition) => {
  const settled = vi.fn<(outcome: unknown) => void>();
  void run({ timeoutMs: 5000, ...definition }).then(settled);
  await vi.advanceTimersByTimeAsync(60_000);
  expect(settled).toHaveBeenCalledWith(TIMED_OUT);
});

test('on shutdown the run is given back at once, and its signal says why', async () => {
  const shutdown = new AbortController();
  const { started, onStart } = watch();
  const outcome = run({ run: ({ signal }) => (onStart(signal), FOREVER) }, { shutdown: shutdown.signal });
  const signal = await started;
  shutdown.abort();
  expect(await outcome).toEqual({ kind: 'released' });
  expect(signal.reason).toMatchObject({ name: 'AbortError', message: 'The worker is shutting down.' });
});

test('a handler that rejects because of the shutdown was given back, not failed', async () => {
  const shutdown = new AbortController();
  const { started, onStart } = watch();
  const outcome = run({ run: ({ signal }) => (onStart(signal), untilAborted(signal)) }, { shutdown: shutdown.signal });
  await started;
  shutdown.abort();
  expect(await outcome).toEqual({ kind: 'released' });
});

test('a run that begins after the shutdown is given back, and its handler is never called', async () => {
  const handler = vi.fn<() => Promise<never>>(() => FOREVER);
  const outcome = run({ timeoutMs: 5000, run: handler }, { shutdown: AbortSignal.abort() });
  await vi.advanceTimersByTimeAsync(5000);
  expect(await outcome).toEqual({ kind: 'released' });
  expect(handler).not.toHaveBeenCalled();
});

test('a shutdown while the input is still being checked gives the run back, and its handler is never called', async () => {
  const shutdown = new AbortController();
  const checked = Promise.withResolvers<{ value: unknown }>();
  const handler = vi.fn<() => Promise<never>>(() => FOREVER);
  const outcome = run(
    { timeoutMs: 5000, input: schema(() => checked.promise), run: handler },
    { shutdown: shutdown.signal },
  );
  shutdown.abort();
  checked.resolve({ value: null });
  await vi.advanceTimersByTimeAsync(5000);
  expect(await outcome).toEqual({ kind: 'released' });
  expect(handler).not.toHaveBeenCalled();
});

test.each([
  ['succeeds', () => 1],
  ['fails', () => Promise.reject(new Error('no'))],
])('a run that %s leaves no timer and no listener behind', async (_how, handler) => {
  const shutdown = new AbortController();
  const added = vi.spyOn(shutdown.signal, 'addEventListener');
  const removed = vi.spyOn(shutdown.signal, 'removeEventListener');
  await run({ run: handler }, { shutdown: shutdown.signal });
  expect(vi.getTimerCount()).toBe(0);
  expect(removed.mock.calls.map(([, listener]) => listener)).toEqual(added.mock.calls.map(([, listener]) => listener));
});

test('a run that was given back leaves no timer behind', async () => {
  const shutdown = new AbortController();
  const { started, onStart } = watch();
  const outcome = run({ run: ({ signal }) => (onStart(signal), FOREVER) }, { shutdown: shutdown.signal });
  await started;
  expect(vi.getTimerCount()).toBe(1);
  shutdown.abort();
  await outcome;
  expect(vi.getTimerCount()).toBe(0);
});

test('a run that has ended is out of reach of its timeout and of the shutdown', async () => {
  const shutdown = new AbortController();
  const { started, onStart } = watch();
  await run({ run: ({ signal }) => onStart(signal) }, { shutdown: shutdown.signal });
  shutdown.abort();
  await vi.advanceTimersByTimeAsync(60_000);
  expect((await started).aborted).toBe(false);
});
