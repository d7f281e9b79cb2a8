import vm from 'node:vm';
import { expect, test } from 'vitest';
import { z } from 'zod';
import { NonRetryableError } from '../../../src/jobs/type/define.ts';
import type { Stopped } from '../../../src/jobs/run/execute.ts';
import type { HandlerOutcome } from '../../../src/jobs/run/handler.ts';
import { failure, run, schema } from './fixtures.ts';

function errorOf(outcome: HandlerOutcome | Stopped): string {
  if (outcome.kind !== 'failed') throw new Error(`the run has ${outcome.kind}`);
  return outcome.error.message;
}

test.each([
  ['an object', { rows: 3 }, '{"rows":3}'],
  ['null', null, 'null'],
  ['nothing', undefined, 'null'],
  ['false', false, 'false'],
  ['an empty string', '', '""'],
  ['a date', new Date(0), '"1970-01-01T00:00:00.000Z"'],
  ['a frozen object', Object.freeze({ a: 1 }), '{"a":1}'],
  ['text beyond ASCII', 'Zoë 🚚', '"Zoë 🚚"'],
])('a handler that returns %s succeeds with it', async (_what, output, text) => {
  expect(await run({ run: () => output })).toEqual({ kind: 'value', text });
  expect(await run({ run: async () => output })).toEqual({ kind: 'value', text });
});

test.each([
  ['an Error', new Error('no stock'), 'Error: no stock'],
  ['an Error of its own class', new RangeError('too far'), 'RangeError: too far'],
  ['an Error without a message', new Error(''), expect.stringMatching(/^Error/)],
  ['a frozen Error', Object.freeze(new Error('cold')), 'Error: cold'],
  ['a DOMException', new DOMException('gone', 'AbortError'), 'AbortError: gone'],
  ['a string', 'no stock', 'The handler threw "no stock", which is not an Error.'],
  ['null', null, 'The handler threw null, which is not an Error.'],
  ['undefined', undefined, 'The handler threw undefined, which is not an Error.'],
  ['an object', { status: 502 }, 'The handler threw {"status":502}, which is not an Error.'],
  ['a frozen object', Object.freeze({ status: 502 }), 'The handler threw {"status":502}, which is not an Error.'],
  ['an object without a prototype', Object.create(null), 'The handler threw {}, which is not an Error.'],
  ['a BigInt', 1n, 'The handler threw bigint, which is not an Error.'],
  ['a symbol', Symbol('s'), 'The handler threw symbol, which is not an Error.'],
  ['a function', () => 1, 'The handler threw function, which is not an Error.'],
  ['a string with a NUL', 'a\0b', expect.stringMatching(/, which is not an Error\.$/)],
  ['a promise', Promise.resolve(1), 'The handler threw {}, which is not an Error.'],
])('a handler that throws %s fails the run, to be tried again', async (_what, thrown, message) => {
  const throws = () => {
    throw thrown;
  };
  expect(await run({ run: throws })).toMatchObject(failure('handler_error', message, true));
  expect(await run({ run: async () => throws() })).toMatchObject(failure('handler_error', message, true));
});

test.each([
  ['whose message cannot be read', Object.defineProperty(new Error('x'), 'message', { get: explode })],
  ['whose name is a symbol', Object.assign(new Error('x'), { name: Symbol('s') })],
  ['whose message is a symbol', Object.assign(new Error('x'), { message: Symbol('s') })],
  ['behind a proxy that answers nothing', new Proxy(new Error('x'), { get: explode, getPrototypeOf: explode })],
])('an Error %s fails the run like any other: nothing escapes', async (_what, thrown) => {
  const outcome = run({
    run: () => {
      throw thrown;
    },
  });
  await expect(outcome).resolves.toMatchObject(failure('handler_error', expect.any(String), true));
});

test('an Error from another realm keeps its message', async () => {
  const foreign: unknown = vm.runInNewContext('new TypeError("from elsewhere")');
  const outcome = await run({ run: () => Promise.reject(foreign) });
  expect(outcome).toMatchObject(failure('handler_error', 'TypeError: from elsewhere', true));
});

test('a NonRetryableError fails the job, thrown or rejected', async () => {
  const thrown = new NonRetryableError('no such customer');
  const expected = failure('handler_error', 'NonRetryableError: no such customer', false);
  expect(await run({ run: () => Promise.reject(thrown) })).toMatchObject(expected);
  expect(
    await run({
      run: () => {
        throw thrown;
      },
    }),
  ).toMatchObject(expected);
});

test.each([
  ['an endless message', 'x'.repeat(1_000_000)],
  ['an endless message of characters that are two units each', '🚚'.repeat(5000)],
  ['a NUL', 'a\0b'],
  ['half a character', 'a\ud83db'],
])('%s becomes a message of 2,000 characters at most that any JSON parser takes', async (_what, text) => {
  const outcome = await run({ run: () => Promise.reject(new Error(text)) });
  const message = errorOf(outcome);
  expect(message.length).toBeLessThanOrEqual(2000);
  expect(message.isWellFormed()).toBe(true);
  expect(message).not.toContain('\0');
});

const cycle: unknown[] = [];
cycle.push(cycle);

test.each([
  ['a BigInt', 1n, /BigInt/],
  ['a cycle', cycle, /circular/],
  ['a NUL', { a: '\0' }, /U\+0000/],
  ['half a character', '\ud83d', /unpaired surrogate/],
  ['a function', () => 1, /a function cannot be serialised/],
  ['a symbol', Symbol('s'), /a symbol cannot be serialised/],
  ['a toJSON that throws', { toJSON: explode }, /boom/],
])('a handler that returns %s fails the job: again, it would do the same', async (_what, output, message) => {
  const expected = failure('invalid_output', expect.stringMatching(message), false);
  expect(await run({ run: async () => output })).toEqual(expected);
});

test('a result that its schema parses is stored as parsed', async () => {
  const output = z.object({ total: z.coerce.number() });
  const outcome = await run({ output, run: () => ({ total: '12.50', secret: 'dropped' }) });
  expect(outcome).toEqual({ kind: 'value', text: '{"total":12.5}' });
});

test('a result that does not fit its schema fails the job with each place, up to five', async () => {
  const output = z.array(z.number());
  const outcome = await run({ output, run: () => [1, 'a', 'b', 'c', 'd', 'e', 'f'] });
  expect(outcome).toMatchObject({ retryable: false, error: { code: 'invalid_output' } });
  expect(errorOf(outcome).match(/\/\d: /g)).toEqual(['/1: ', '/2: ', '/3: ', '/4: ', '/5: ']);
  expect(await run({ output, run: () => 'none' })).toMatchObject({
    error: { message: expect.stringContaining(' /: ') },
  });
});

test.each([
  ['throws', schema(explode)],
  ['rejects', schema(() => Promise.reject(new Error('boom')))],
])('a schema that %s fails the job, on the way in and on the way out', async (_how, broken) => {
  const input = await run({ input: broken });
  expect(input).toEqual(failure('invalid_input', "The input's schema threw: Error: boom", false));
  const output = await run({ output: broken });
  expect(output).toEqual(failure('invalid_output', "The output's schema threw: Error: boom", false));
});

test('an input that no longer fits its type fails the job and never reaches the handler', async () => {
  let called = false;
  const outcome = await run(
    { input: z.object({ a: z.object({ b: z.number() }) }), run: () => (called = true) },
    { input: { a: { b: 'x' } } },
  );
  expect(outcome).toEqual(failure('invalid_input', expect.stringMatching(/no longer fits the type: \/a\/b /), false));
  expect(called).toBe(false);
});

test('the handler is given its input as parsed, its job and its run', async () => {
  const input = z.object({ n: z.coerce.number() });
  const outcome = await run(
    { input, run: ({ input: given, job, run: thisRun }) => ({ given, job, run: thisRun }) },
    { input: { n: '7', extra: true } },
  );
  expect(JSON.parse((outcome as { text: string }).text)).toEqual({
    given: { n: 7 },
    job: { id: 'job_1', type: 'test.job', accountId: 'acc_1' },
    run: { id: 'run_1', number: 1 },
  });
});

function explode(): never {
  throw new Error('boom');
}
