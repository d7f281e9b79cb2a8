import { beforeEach, describe, expect, test } from 'vitest';
import { z } from 'zod';
import { type AnyJobDefinition, NonRetryableError } from '../../../src/jobs/type/define.ts';
import { jobJson } from '../../../src/jobs/read/job-view.ts';
import { useDatabase } from '../../support/database.ts';
import { eventually } from '../../support/eventually.ts';
import {
  callbackBody,
  endOfJob,
  type Handler,
  jobType,
  readJob,
  runsOfJob,
  type SubmittedJob,
  submitJob,
} from '../../support/job-life.ts';
import { errorsIn } from '../../support/log.ts';
import { PUBLIC_URL, RESULT_LIMITS, startRunner } from '../../support/workers.ts';

const database = useDatabase();

beforeEach(async () => {
  await database.sql`DELETE FROM ringback.delivery_queue`;
  await database.sql`DELETE FROM ringback.run_queue`;
});

const parts = () => ({ database });
const submit = (options?: Parameters<typeof submitJob>[1]) => submitJob(database, options);
const run = (definition: AnyJobDefinition) => startRunner(parts(), [definition]);
const read = (job: SubmittedJob) => readJob(database, job);
const ended = (job: SubmittedJob) => endOfJob(database, job);
const runs = (job: SubmittedJob) => runsOfJob(database, job);
const body = (job: SubmittedJob) => callbackBody(database, job);

describe('a run that fails', () => {
  test('is tried again after a pause, and the job succeeds', async () => {
    const job = await submit();
    const startedAt: number[] = [];
    run(
      jobType(({ run: { number } }) => {
        startedAt.push(Date.now());
        if (number === 1) throw new Error('not yet');
        return number;
      }),
    );
    const waiting = await eventually(async () => {
      const found = await read(job);
      expect(found).toMatchObject({ status: 'in_progress', runId: null, failureCount: 1, error: null });
      return found;
    });
    expect(await ended(job)).toMatchObject({ status: 'succeeded', outputText: '2', failureCount: 1, runCount: 2 });
    expect(startedAt[1]).toBeGreaterThanOrEqual(waiting.nextRunAt!.getTime());
    expect(startedAt[1]! - startedAt[0]!, 'a second, less a fifth').toBeGreaterThanOrEqual(800);
    expect(await runs(job)).toEqual([
      [1, 'failed', 'handler_error'],
      [2, 'succeeded', null],
    ]);
  });

  test('in its last run fails the job, with an event and a callback that says the same', async () => {
    const job = await submit({ withCallback: true });
    const { lines } = run(
      jobType(
        () => {
          throw new RangeError('out of range');
        },
        { retry: { maxRuns: 1 } },
      ),
    );
    const error = { code: 'handler_error', message: 'RangeError: out of range' };
    const row = await ended(job);
    expect(row).toMatchObject({ status: 'failed', error, outputText: null, sequence: 3 });
    const callback = await body(job);
    expect(callback.type).toBe('job.failed');
    expect(callback.data.job).toEqual(JSON.parse(jobJson(row, PUBLIC_URL)));
    expect(errorsIn(lines), 'a handler’s failure is no fault of ours').toEqual([]);
  });

  test('with a NonRetryableError fails the job at once', async () => {
    const job = await submit();
    run(
      jobType(
        () => {
          throw new NonRetryableError('no such customer');
        },
        { retry: { maxRuns: 5 } },
      ),
    );
    expect((await ended(job)).error).toEqual({
      code: 'handler_error',
      message: 'NonRetryableError: no such customer',
    });
    expect(await runs(job)).toEqual([[1, 'failed', 'handler_error']]);
  });

  test('before it begins, when its type was done elsewhere and a handler would get another number', async () => {
    const job = await submit({ inputText: '{"id":[9007199254740993]}' });
    run(jobType(() => expect.fail('must not be called')));
    const { error } = await ended(job);
    expect(error?.code).toBe('invalid_input');
    expect(error?.message).toMatch(/\/id\/0 cannot be represented: 9007199254740993 would become 9007199254740992/);
  });

  test.each<[string, unknown, RegExp]>([
    ['a string', 'oops', /"oops"/],
    ['nothing', undefined, /undefined/],
    ['null', null, /null/],
    ['an object', { a: 1 }, /\{"a":1\}/],
    ['a BigInt', 1n, /bigint/],
    ['a symbol', Symbol('x'), /symbol/],
    ['an Error without a message', new Error(), /^Error: $/],
    ['an Error of a megabyte', new Error('x'.repeat(1_000_000)), /^Error: x{1993}$/],
  ])('because its handler throws %s fails the job with a message', async (_, thrown, message) => {
    const job = await submit();
    const { lines } = run(jobType(() => Promise.reject(thrown), { retry: { maxRuns: 1 } }));
    const { error } = await ended(job);
    expect(error).toEqual({ code: 'handler_error', message: expect.stringMatching(message) });
    expect(errorsIn(lines)).toEqual([]);
  });

  test.each([
    ['U+0000', 'a\0b'],
    ['half a surrogate pair', 'a\ud83d'],
  ])('with a message that PostgreSQL cannot hold (%s) says the same in status and callback', async (_, message) => {
    const job = await submit({ withCallback: true });
    run(
      jobType(
        () => {
          throw new Error(message);
        },
        { retry: { maxRuns: 1 } },
      ),
    );
    const row = await ended(job);
    expect(row.error!.message).toContain('\uFFFD');
    expect((await body(job)).data.job).toMatchObject({ error: row.error });
  });
});

describe('a result that cannot be stored fails the job at once', () => {
  const cycle: { self?: unknown } = {};
  cycle.self = cycle;
  test.each<[string, unknown]>([
    ['a BigInt', { n: 1n }],
    ['a cycle', cycle],
    ['a string with U+0000', ['a\0b']],
    ['half a surrogate pair', '\udc00'],
    ['a function', () => 1],
    [
      'a value that throws when it is serialised',
      {
        toJSON: () => {
          throw new Error('not me');
        },
      },
    ],
  ])('%s', async (_, value) => {
    const job = await submit();
    const { lines } = run(jobType(() => value, { retry: { maxRuns: 5 } }));
    expect(await ended(job)).toMatchObject({ status: 'failed', error: { code: 'invalid_output' }, runCount: 1 });
    expect(errorsIn(lines)).toEqual([]);
  });

  test('one that is larger than the limit, with nothing of it left behind', async () => {
    const job = await submit();
    const { lines } = run(jobType(() => 'x'.repeat(RESULT_LIMITS.maxBytes), { retry: { maxRuns: 5 } }));
    expect(await ended(job)).toMatchObject({ status: 'failed', error: { code: 'result_too_large' }, runCount: 1 });
    const chunks = await database.sql`SELECT FROM ringback.result_chunks WHERE account_id = ${job.accountId}`;
    expect(chunks).toHaveLength(0);
    expect(errorsIn(lines)).toEqual([]);
  });

  test('a result that is not what the type promised, naming the place', async () => {
    const job = await submit();
    run(jobType(() => ({ items: [{ n: 'x' }] }), { output: z.object({ items: z.array(z.object({ n: z.int() })) }) }));
    expect((await ended(job)).error).toEqual({
      code: 'invalid_output',
      message: expect.stringContaining('/items/0/n: '),
    });
  });
});

test('an input that no longer fits its type fails the job without calling the handler', async () => {
  const job = await submit({ inputText: '{"n":"text"}' });
  run(jobType(() => expect.fail('it was called'), { input: z.object({ n: z.int() }), retry: { maxRuns: 5 } }));
  expect(await ended(job)).toMatchObject({ status: 'failed', error: { code: 'invalid_input' }, runCount: 1 });
});

test('a type that this process does not know is left for one that does', async () => {
  const job = await submit();
  run(jobType(() => null, { type: 'test.other' }));
  await eventually(async () => expect(await runs(job)).toEqual([[1, 'failed', 'unknown_job_type']]));
  expect(await read(job)).toMatchObject({ status: 'in_progress', nextRunAt: expect.any(Date) });
});

describe('a run that takes too long', () => {
  test('is timed out, its signal aborts, and the last one fails the job', async () => {
    const job = await submit({ runTimeoutMs: 50 });
    const reasons: unknown[] = [];
    const handler: Handler = ({ signal }) =>
      new Promise((_, reject) => {
        signal.addEventListener('abort', () => {
          reasons.push(signal.reason);
          reject(signal.reason as Error);
        });
      });
    run(jobType(handler, { retry: { maxRuns: 1 } }));
    expect(await ended(job)).toMatchObject({
      status: 'failed',
      error: { code: 'timeout', message: 'The run took longer than 50 ms.' },
    });
    expect(await runs(job)).toEqual([[1, 'timed_out', 'timeout']]);
    expect(reasons).toMatchObject([{ name: 'TimeoutError' }]);
  });

  test('is given no more time than its type has by now, whatever it was queued with', async () => {
    const job = await submit({ runTimeoutMs: 86_400_000 });
    run(jobType(() => new Promise(() => {}), { timeoutMs: 50, retry: { maxRuns: 1 } }));
    expect(await ended(job)).toMatchObject({ error: { message: 'The run took longer than 50 ms.' } });
  });

  test('does not keep the worker, should its handler never end', async () => {
    const job = await submit({ runTimeoutMs: 50 });
    run(jobType(() => new Promise(() => {}), { retry: { maxRuns: 1 } }));
    expect(await ended(job)).toMatchObject({ error: { code: 'timeout' } });
  });
});
