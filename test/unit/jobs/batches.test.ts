import { expect, test } from 'vitest';
import { Batches } from '../../../src/jobs/run/batches.ts';

/** Answers each number with its double, once `open` is called for that batch; keeps what each batch was asked. */
function doubling(options: { maxQuestions?: number; maxBatches?: number } = {}) {
  const asked: number[][] = [];
  const open: Array<(error?: Error) => void> = [];
  const batches = new Batches<number, number>({
    maxQuestions: 10,
    maxBatches: 1,
    ...options,
    answer: async (questions) => {
      asked.push([...questions]);
      const { promise, resolve, reject } = Promise.withResolvers<void>();
      open.push((error) => (error === undefined ? resolve() : reject(error)));
      await promise;
      return questions.map((question) => 2 * question);
    },
  });
  const turn = () => new Promise((resolve) => void setImmediate(() => setImmediate(resolve)));
  return { batches, asked, open, turn };
}

test('what is asked in one turn is asked together, and each gets its own answer', async () => {
  const { batches, asked, open, turn } = doubling();
  const answers = Promise.all([1, 2, 3].map((question) => batches.add(question)));
  await turn();
  open[0]!();
  expect(await answers).toEqual([2, 4, 6]);
  expect(asked).toEqual([[1, 2, 3]]);
});

test('what comes while a batch is under way gathers for the next', async () => {
  const { batches, asked, open, turn } = doubling();
  const first = batches.add(1);
  await turn();
  const others = [batches.add(2), batches.add(3)];
  await turn();
  expect(asked).toEqual([[1]]);
  open[0]!();
  expect(await first).toBe(2);
  await turn();
  open[1]!();
  expect(await Promise.all(others)).toEqual([4, 6]);
  expect(asked).toEqual([[1], [2, 3]]);
});

test('a batch is no larger, and no more are under way, than they may be', async () => {
  const { batches, asked, open, turn } = doubling({ maxQuestions: 2, maxBatches: 2 });
  const answers = Promise.all([1, 2, 3, 4, 5].map((question) => batches.add(question)));
  await turn();
  await turn();
  expect(asked).toEqual([
    [1, 2],
    [3, 4],
  ]);
  open[1]!();
  await turn();
  await turn();
  open[0]!();
  open[2]!();
  expect(await answers).toEqual([2, 4, 6, 8, 10]);
});

test('a batch that fails fails those who were in it, and nobody else', async () => {
  const { batches, open, turn } = doubling();
  const failing = [batches.add(1), batches.add(2)].map((answer) => answer.catch((error: Error) => error.message));
  await turn();
  const next = batches.add(3);
  open[0]!(new Error('away'));
  expect(await Promise.all(failing)).toEqual(['away', 'away']);
  await turn();
  open[1]!();
  expect(await next).toBe(6);
});
