import { expect, test } from 'vitest';
import { systemResolver } from '#egress/resolve.ts';

/** A system's resolver with so many threads, of which each stays with its name until that is answered. */
function stage(threads: number) {
  let time = 0;
  const asked: string[] = [];
  const waiting: Array<() => void> = [];
  const answers = new Map<string, () => void>();
  let busy = 0;
  const lookup = async (host: string) => {
    if (busy >= threads) await new Promise<void>((resolve) => waiting.push(resolve));
    busy++;
    asked.push(host);
    if (host.startsWith('stall')) await new Promise<void>((resolve) => answers.set(host, resolve));
    busy--;
    waiting.shift()?.();
    if (host.endsWith('.invalid')) throw new Error('ENOTFOUND');
    return [{ address: '192.0.2.1' }];
  };
  return {
    resolve: systemResolver(lookup, () => time),
    asked,
    /** That name server answers, after so long. */
    answer: async (host: string, afterMs: number) => {
      time += afterMs;
      answers.get(host)!();
      await settled();
    },
  };
}

/** Until all that can go on has gone on. */
const settled = () => new Promise((resolve) => setImmediate(resolve));
const STALLING = Array.from({ length: 8 }, (_, index) => `stall${index}.example`);

test('equal questions in flight share one answer', async () => {
  const { resolve, asked, answer } = stage(4);
  const both = [resolve('stall.example'), resolve('stall.example')];
  await settled();
  await answer('stall.example', 5);
  expect(await Promise.all(both)).toEqual([['192.0.2.1'], ['192.0.2.1']]);
  expect(asked).toEqual(['stall.example']);
});

test('names that were slow take one thread together, and the others are resolved meanwhile', async () => {
  const { resolve, asked, answer } = stage(4);
  // The first time nobody knows.
  for (const host of STALLING) {
    const slow = resolve(host);
    await settled();
    await answer(host, 5000);
    await slow;
  }
  asked.length = 0;
  const stalled = STALLING.map((host) => resolve(host));
  expect(await resolve('healthy.example')).toEqual(['192.0.2.1']);
  expect(asked).toEqual([STALLING[0], 'healthy.example']);
  for (const host of STALLING) await answer(host, 5000);
  expect(await Promise.all(stalled), 'in their turn').toHaveLength(8);
});

test('a slow name that answers in time again waits for nobody', async () => {
  const { resolve, asked, answer } = stage(4);
  const [first, second] = ['stall1.example', 'stall2.example'];
  for (const [host, afterMs] of [
    [first, 5000],
    [second, 5000],
    [second, 10],
  ] as const) {
    const slow = resolve(host);
    await settled();
    await answer(host, afterMs);
    await slow;
  }
  const waits = resolve(first);
  const goes = resolve(second);
  await settled();
  expect(asked.slice(-2)).toEqual([first, second]);
  await answer(second, 1);
  await answer(first, 1);
  await Promise.all([waits, goes]);
});

test('a slow name that is not found gives its place to the next', async () => {
  const { resolve, answer } = stage(4);
  const names = ['stall1.invalid', 'stall2.invalid'];
  for (let round = 0; round < 2; round++) {
    const answered = Promise.allSettled(names.map((host) => resolve(host)));
    await settled();
    for (const host of names) await answer(host, 5000);
    expect((await answered).map(({ status }) => status)).toEqual(['rejected', 'rejected']);
  }
});
