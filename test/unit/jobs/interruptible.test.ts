import { setImmediate as turn } from 'node:timers/promises';
import { describe, expect, test } from 'vitest';
import { interruptible } from '#jobs/run/interruptible.ts';

const never = () => new Promise<never>(() => undefined);

async function collect<T>(source: AsyncIterable<T>): Promise<T[]> {
  const items: T[] = [];
  for await (const item of source) items.push(item);
  return items;
}

test.each([
  ['a list', [1, 2, 3]],
  [
    'a stream',
    (async function* numbers() {
      yield* [1, 2, 3];
    })(),
  ],
])('%s comes through as it is', async (_, source) => {
  expect(await collect(interruptible<number>(source, new AbortController().signal))).toEqual([1, 2, 3]);
});

test('what the source throws comes through, whether it throws or rejects', async () => {
  const error = new Error('broken');
  const throwing = {
    [Symbol.iterator]: () => ({
      next: () => {
        throw error;
      },
    }),
  };
  const rejecting = { [Symbol.asyncIterator]: () => ({ next: () => Promise.reject(error) }) };
  const { signal } = new AbortController();
  await expect(collect(interruptible(throwing, signal))).rejects.toBe(error);
  await expect(collect(interruptible(rejecting, signal))).rejects.toBe(error);
});

describe('an abort', () => {
  test('ends a source that never yields, with its reason', async () => {
    const abort = new AbortController();
    const reading = collect(interruptible({ [Symbol.asyncIterator]: () => ({ next: never }) }, abort.signal));
    abort.abort(new Error('enough'));
    await expect(reading).rejects.toThrow('enough');
  });

  test('before the first step keeps the source from being read, but ends it', async () => {
    const calls: string[] = [];
    const source = {
      [Symbol.asyncIterator]: () => ({
        next: async () => (calls.push('next'), { done: true as const, value: undefined }),
        return: async () => (calls.push('return'), { done: true as const, value: undefined }),
      }),
    };
    await expect(collect(interruptible(source, AbortSignal.abort(new Error('enough'))))).rejects.toThrow('enough');
    expect(calls).toEqual(['return']);
  });

  test('lets the source clean up, and does not wait for it', async () => {
    const abort = new AbortController();
    let cleaned = false;
    async function* source() {
      try {
        yield 1;
        yield 2;
      } finally {
        cleaned = true;
        await never();
      }
    }
    const reading = (async () => {
      for await (const _ of interruptible(source(), abort.signal)) abort.abort(new Error('enough'));
    })();
    await expect(reading).rejects.toThrow('enough');
    expect(cleaned).toBe(true);
  });

  test('is not disturbed by a source that fails as it is ended', async () => {
    const unhandled: unknown[] = [];
    const hear = (reason: unknown) => void unhandled.push(reason);
    process.on('unhandledRejection', hear);
    const { promise, reject } = Promise.withResolvers<never>();
    const abort = new AbortController();
    const source = {
      [Symbol.asyncIterator]: () => ({ next: () => promise, return: () => Promise.reject(new Error('return')) }),
    };
    const reading = collect(interruptible(source, abort.signal));
    abort.abort(new Error('enough'));
    await expect(reading).rejects.toThrow('enough');
    reject(new Error('too late'));
    await turn();
    process.off('unhandledRejection', hear);
    expect(unhandled).toEqual([]);
  });
});

test('a reader that stops early ends the source', async () => {
  let ended = false;
  async function* source() {
    try {
      for (;;) yield 1;
    } finally {
      ended = true;
    }
  }
  for await (const _ of interruptible(source(), new AbortController().signal)) break;
  expect(ended).toBe(true);
});
