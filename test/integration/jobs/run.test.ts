import { beforeEach, describe, expect, test } from 'vitest';
import { z } from 'zod';
import { type AccountId, type JobId, uuidOf } from '#domain/ids.ts';
import { findJob, listRuns } from '#store/job-reads.ts';
import type { JobRecord } from '#store/jobs.ts';
import { type AnyJobDefinition, defineJob, type JobContext, NonRetryableError } from '../../../src/jobs/define.ts';
import { viewJob } from '../../../src/jobs/job-view.ts';
import { useDatabase } from '../../support/database.ts';
import { eventually } from '../../support/eventually.ts';
import { insertJob, type MadeEndpoint, makeAccount, makeEndpoint } from '../../support/fixtures.ts';
import { errorsIn } from '../../support/log.ts';
import { useQueues } from '../../support/queues.ts';
import { PUBLIC_URL, startRunner } from '../../support/workers.ts';

const database = useDatabase();
const queues = useQueues(database);

beforeEach(async () => {
  await database.sql`DELETE FROM pgboss.job`;
});

type Handler = (context: JobContext<unknown>) => unknown;

const type = (run: Handler, more: Partial<AnyJobDefinition> = {}): AnyJobDefinition => ({
  ...defineJob({ type: 'test.job', input: z.unknown(), run: run as never }),
  ...more,
});
const run = (definition: AnyJobDefinition) => startRunner({ database, queues: queues.get() }, [definition]);

/** Stores and queues a job, as a submission does. */
async function submit(inputText = '{"n":1}', callback = false) {
  const { accountId } = await makeAccount(database.db);
  const endpoint: MadeEndpoint | undefined = callback ? await makeEndpoint(database.db, accountId) : undefined;
  const job = await insertJob(database.db, accountId, { inputText }, endpoint);
  await queues.get().runs.insert(database.sql, [{ id: uuidOf(job.id), data: { accountId, jobId: job.id } }]);
  return { accountId, id: job.id, endpoint };
}

type Submitted = { accountId: AccountId; id: JobId };

const read = async ({ accountId, id }: Submitted): Promise<JobRecord> => (await findJob(database.db, accountId, id))!;
const ended = (job: Submitted) =>
  eventually(async () => {
    const found = await read(job);
    expect(found.finishedAt).not.toBeNull();
    return found;
  });
const runsOf = async ({ accountId, id }: Submitted) =>
  (await listRuns(database.db, accountId, id)).map(({ number, status, error }) => [
    number,
    status,
    error?.code ?? null,
  ]);
const queued = () => database.sql<{ name: string }[]>`SELECT name FROM pgboss.job`;

/** The callback's body, as it was rendered when the job ended. */
async function bodyOf({ id }: Submitted) {
  const rows = await database.sql<{ body: Buffer }[]>`
    SELECT body FROM ringback.events WHERE job_id = ${id} AND body IS NOT NULL`;
  return JSON.parse(rows[0]!.body.toString()) as { type: string; sequence: number; data: { job: unknown } };
}

describe('a run that succeeds', () => {
  test('leaves output, run and event, and nothing in the queue', async () => {
    const job = await submit('{"n":[1,2]}');
    const seen: unknown[] = [];
    const { lines, announced } = run(
      type(({ input, job: about, run: current }) => {
        seen.push({ input, about, number: current.number });
        return { z: 1, a: [null] };
      }),
    );
    expect(await ended(job)).toMatchObject({
      status: 'succeeded',
      output: { z: 1, a: [null] },
      runCount: 1,
      sequence: 3,
    });
    const about = { id: job.id, type: 'test.job', accountId: job.accountId };
    expect(seen).toEqual([{ input: { n: [1, 2] }, about, number: 1 }]);
    expect(await runsOf(job)).toEqual([[1, 'succeeded', null]]);
    expect(await queued()).toEqual([]);
    expect(announced()).toBe(0);
    expect(errorsIn(lines)).toEqual([]);
  });

  test('with a callback queues its delivery, announces it, and has rendered its body once', async () => {
    const job = await submit('1', true);
    const { announced } = run(type(() => ({ answer: 42 })));
    const row = await ended(job);
    const body = await bodyOf(job);
    expect(body).toMatchObject({ type: 'job.succeeded', sequence: 3 });
    // The very representation that a status request gives.
    expect(body.data.job).toEqual(JSON.parse(JSON.stringify(viewJob(row, PUBLIC_URL))));
    await eventually(() => expect(announced()).toBe(1));
    expect(await database.sql`SELECT data ->> 'endpointId' AS endpoint FROM pgboss.job`).toEqual([
      { endpoint: job.endpoint!.id },
    ]);
  });

  test.each<[string, unknown, unknown]>([
    ['nothing', undefined, null],
    ['null', null, null],
    ['false', false, false],
    ['a Date', new Date(0), '1970-01-01T00:00:00.000Z'],
    ['NaN', Number.NaN, null],
    ['an empty string', '', ''],
  ])('and returns %s has that as its output, in the status and in the callback', async (_, value, output) => {
    const job = await submit('1', true);
    run(type(() => value));
    const row = await ended(job);
    expect(row).toMatchObject({ status: 'succeeded', output });
    expect((await bodyOf(job)).data.job).toMatchObject({ status: 'succeeded', output });
  });

  test('has the output its schema made of it', async () => {
    const job = await submit();
    run(type(() => ({ a: ' x ', secret: 1 }), { output: z.object({ a: z.string().trim() }) }));
    expect((await ended(job)).output).toEqual({ a: 'x' });
  });

  test('shows its progress while it runs, and keeps the last', async () => {
    const job = await submit('1', true);
    const gate = Promise.withResolvers<void>();
    run(
      type(async ({ progress }) => {
        progress(10, 'first');
        progress(400, 'second');
        await gate.promise;
      }),
    );
    const shown = { percent: 100, message: 'second' };
    await eventually(async () => expect(await read(job)).toMatchObject({ status: 'in_progress', progress: shown }));
    gate.resolve();
    expect((await ended(job)).progress).toEqual(shown);
    expect((await bodyOf(job)).data.job).toMatchObject({ progress: shown });
  });

  test('keeps the progress that it reported last, however soon it ended after that', async () => {
    const job = await submit('1', true);
    run(
      type(({ progress }) => {
        progress(99, 'as good as done');
        return 1;
      }),
    );
    const last = { percent: 99, message: 'as good as done' };
    expect((await ended(job)).progress).toEqual(last);
    expect((await bodyOf(job)).data.job).toMatchObject({ progress: last });
  });
});

describe('a run that fails', () => {
  test('is tried again after a pause, and the job succeeds', async () => {
    const job = await submit();
    const startedAt: number[] = [];
    run(
      type(({ run: { number } }) => {
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
    expect(await ended(job)).toMatchObject({ status: 'succeeded', output: 2, failureCount: 1, runCount: 2 });
    expect(startedAt[1]).toBeGreaterThanOrEqual(waiting.nextRunAt!.getTime());
    expect(startedAt[1]! - startedAt[0]!, 'a second, less a fifth').toBeGreaterThanOrEqual(800);
    expect(await runsOf(job)).toEqual([
      [1, 'failed', 'handler_error'],
      [2, 'succeeded', null],
    ]);
  });

  test('in its last run fails the job, with an event and a callback that says the same', async () => {
    const job = await submit('1', true);
    const { lines } = run(
      type(
        () => {
          throw new RangeError('out of range');
        },
        { maxRuns: 1 },
      ),
    );
    const error = { code: 'handler_error', message: 'RangeError: out of range' };
    const row = await ended(job);
    expect(row).toMatchObject({ status: 'failed', error, output: null, sequence: 3 });
    const body = await bodyOf(job);
    expect(body.type).toBe('job.failed');
    expect(body.data.job).toEqual(JSON.parse(JSON.stringify(viewJob(row, PUBLIC_URL))));
    expect(errorsIn(lines), 'a handler’s failure is no fault of ours').toEqual([]);
  });

  test('with a NonRetryableError fails the job at once', async () => {
    const job = await submit();
    run(
      type(
        () => {
          throw new NonRetryableError('no such customer');
        },
        { maxRuns: 5 },
      ),
    );
    expect((await ended(job)).error).toEqual({
      code: 'handler_error',
      message: 'NonRetryableError: no such customer',
    });
    expect(await runsOf(job)).toEqual([[1, 'failed', 'handler_error']]);
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
    const { lines } = run(type(() => Promise.reject(thrown), { maxRuns: 1 }));
    const { error } = await ended(job);
    expect(error).toEqual({ code: 'handler_error', message: expect.stringMatching(message) });
    expect(errorsIn(lines)).toEqual([]);
  });

  test.each([
    ['U+0000', 'a\0b'],
    ['half a surrogate pair', 'a\ud83d'],
  ])('with a message that PostgreSQL cannot hold (%s) says the same in status and callback', async (_, message) => {
    const job = await submit('1', true);
    run(
      type(
        () => {
          throw new Error(message);
        },
        { maxRuns: 1 },
      ),
    );
    const row = await ended(job);
    expect(row.error!.message).toContain('\uFFFD');
    expect((await bodyOf(job)).data.job).toMatchObject({ error: row.error });
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
    ['more than a mebibyte', 'x'.repeat(1024 * 1024)],
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
    const { lines } = run(type(() => value, { maxRuns: 5 }));
    expect(await ended(job)).toMatchObject({ status: 'failed', error: { code: 'invalid_output' }, runCount: 1 });
    expect(errorsIn(lines)).toEqual([]);
  });

  test('a result that is not what the type promised, naming the place', async () => {
    const job = await submit();
    run(type(() => ({ items: [{ n: 'x' }] }), { output: z.object({ items: z.array(z.object({ n: z.int() })) }) }));
    expect((await ended(job)).error).toEqual({
      code: 'invalid_output',
      message: expect.stringContaining('/items/0/n: '),
    });
  });
});

test('an input that no longer fits its type fails the job without calling the handler', async () => {
  const job = await submit('{"n":"text"}');
  run(type(() => expect.fail('it was called'), { input: z.object({ n: z.int() }), maxRuns: 5 }));
  expect(await ended(job)).toMatchObject({ status: 'failed', error: { code: 'invalid_input' }, runCount: 1 });
});

test('a type that this process does not know is left for one that does', async () => {
  const job = await submit();
  run(type(() => null, { type: 'test.other' }));
  await eventually(async () => expect(await runsOf(job)).toEqual([[1, 'failed', 'unknown_job_type']]));
  expect(await read(job)).toMatchObject({ status: 'in_progress', nextRunAt: expect.any(Date) });
});

describe('a run that takes too long', () => {
  test('is timed out, its signal aborts, and the last one fails the job', async () => {
    const job = await submit();
    const reasons: unknown[] = [];
    const handler: Handler = ({ signal }) =>
      new Promise((_, reject) => {
        signal.addEventListener('abort', () => {
          reasons.push(signal.reason);
          reject(signal.reason as Error);
        });
      });
    run(type(handler, { timeoutMs: 50, maxRuns: 1 }));
    expect(await ended(job)).toMatchObject({
      status: 'failed',
      error: { code: 'timeout', message: 'The run took longer than 50 ms.' },
    });
    expect(await runsOf(job)).toEqual([[1, 'timed_out', 'timeout']]);
    expect(reasons).toMatchObject([{ name: 'TimeoutError' }]);
  });

  test('does not keep the worker, should its handler never end', async () => {
    const job = await submit();
    run(type(() => new Promise(() => {}), { timeoutMs: 50, maxRuns: 1 }));
    expect(await ended(job)).toMatchObject({ error: { code: 'timeout' } });
  });
});
