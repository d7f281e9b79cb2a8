import { createHash, randomBytes } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import type { AccountId, RunId } from '#domain/ids.ts';
import { FileResult, NonRetryableError, RetryAfterError } from '#jobs/type/define.ts';
import { openResult } from '#jobs/read/job-results.ts';
import { rescueRuns } from '#jobs/run/rescue.ts';
import { ResultKeeper } from '#jobs/run/result-keeper.ts';
import { openDatabase } from '#store/database.ts';
import { CHUNK_BYTES } from '#store/result-chunks.ts';
import { startTcpProxy } from '../../e2e/support/tcp-proxy.ts';
import { useDatabase } from '../../support/database.ts';
import { eventually } from '../../support/eventually.ts';
import { claimRun, insertJob, makeAccount } from '../../support/fixtures.ts';
import { endOfJob, jobType, readJob, runsOfJob, type SubmittedJob, submitJob } from '../../support/job-life.ts';
import { errorsIn } from '../../support/log.ts';
import { makeCanceler, rescueDeps, RESULT_LIMITS, startRunner } from '../../support/workers.ts';

const database = useDatabase();
const parts = () => ({ database });

const submit = () => submitJob(database);
const ended = (job: SubmittedJob) => endOfJob(database, job);
const runs = (job: SubmittedJob) => runsOfJob(database, job);
const file = (body: Uint8Array | AsyncIterable<Uint8Array>) => new FileResult(body, 'application/octet-stream');
const never = () => new Promise<never>(() => undefined);

async function storedBytes(job: SubmittedJob): Promise<Buffer> {
  const result = await openResult(database.db, await readJob(database, job));
  const pieces: Uint8Array[] = [];
  for await (const piece of result!.read({ first: 0, last: result!.bytes - 1 })) pieces.push(piece);
  return Buffer.concat(pieces);
}

/** Chunks of runs that are no job's result. */
const orphans = () => database.sql`
  SELECT run_id, count(*)::int FROM ringback.result_chunks AS chunk
  WHERE NOT EXISTS (SELECT FROM ringback.jobs WHERE result_run_id = chunk.run_id) GROUP BY run_id`;

async function chunkCount(job: SubmittedJob): Promise<number> {
  const { runId } = await readJob(database, job);
  const [row] = await database.sql<[{ chunks: number }]>`
    SELECT count(*)::int AS chunks FROM ringback.result_chunks WHERE run_id = ${runId}`;
  return row.chunks;
}

/** Three chunks, then nothing ever: a handler that does not listen. */
async function* stuck(): AsyncGenerator<Uint8Array> {
  for (let n = 0; n < 3; n++) yield randomBytes(CHUNK_BYTES);
  await never();
}

const untilStoring = (job: SubmittedJob) => eventually(async () => expect(await chunkCount(job)).toBe(3));

describe('a result of any shape is stored as it was', () => {
  async function* pieces(whole: Uint8Array, size: number): AsyncGenerator<Uint8Array> {
    for (let at = 0; at < whole.length; at += size) yield whole.subarray(at, at + size);
  }
  const odd = 2 * CHUNK_BYTES + 17;
  test.each<[string, number, number | undefined]>([
    ['nothing, as bytes', 0, undefined],
    ['nothing, as a stream', 0, 1],
    ['one byte', 1, undefined],
    ['one chunk exactly', CHUNK_BYTES, undefined],
    ['one chunk and a byte', CHUNK_BYTES + 1, undefined],
    ['three chunks exactly, in pieces of one chunk', 3 * CHUNK_BYTES, CHUNK_BYTES],
    ['pieces of one byte', CHUNK_BYTES + 100, 1],
    ['pieces that fit no chunk', odd, 999],
    ['one piece of several chunks', odd, undefined],
    ['the most there may be', RESULT_LIMITS.maxBytes, 65_536],
  ])('%s', async (_, length, size) => {
    const whole = randomBytes(length);
    const job = await submit();
    startRunner(parts(), [jobType(() => file(size === undefined ? whole : pieces(whole, size)))]);
    expect(await ended(job)).toMatchObject({
      status: 'succeeded',
      outputText: null,
      resultType: 'application/octet-stream',
      resultBytes: length,
      resultSha256: createHash('sha256').update(whole).digest(),
    });
    expect((await storedBytes(job)).equals(whole)).toBe(true);
  });

  test('empty pieces in between', async () => {
    const job = await submit();
    const body = async function* body() {
      for (const text of ['', 'a', '', '', 'b', '']) yield Buffer.from(text);
    };
    startRunner(parts(), [jobType(() => file(body()))]);
    await ended(job);
    expect((await storedBytes(job)).toString()).toBe('ab');
  });

  test('JSON that is too large to be inline, to the byte', async () => {
    const value = Array.from({ length: 20_000 }, (_, n) => ({ z: n, '1': -0.1 * n, a: 'ä€😀\u2028"\\' }));
    const job = await submit();
    startRunner(parts(), [jobType(() => value)]);
    expect(await ended(job)).toMatchObject({ status: 'succeeded', outputText: null, resultType: 'application/json' });
    expect((await storedBytes(job)).toString()).toBe(JSON.stringify(value));
  });

  test('JSON at the bound is inline, and a byte more is not', async () => {
    const text = (bytes: number) => 'x'.repeat(bytes - 2); // the quotes
    const [inline, apart] = [await submit(), await submit()];
    const bound = RESULT_LIMITS.inlineBytes;
    startRunner(parts(), [jobType(({ job }) => text(job.id === inline.id ? bound : bound + 1))]);
    expect(await ended(inline)).toMatchObject({ outputText: JSON.stringify(text(bound)), resultRunId: null });
    expect(await ended(apart)).toMatchObject({ outputText: null, resultBytes: bound + 1 });
  });
});

describe('a result that cannot be kept leaves nothing behind', () => {
  async function* endless(): AsyncGenerator<Uint8Array> {
    for (;;) yield randomBytes(CHUNK_BYTES);
  }
  async function* after(bytes: number, failure: unknown): AsyncGenerator<Uint8Array> {
    yield randomBytes(bytes);
    throw failure;
  }

  test.each<[string, () => unknown]>([
    ['an endless stream', () => file(endless())],
    ['too many bytes at once', () => file(Buffer.alloc(RESULT_LIMITS.maxBytes + 1))],
    ['too much JSON', () => 'x'.repeat(RESULT_LIMITS.maxBytes)],
  ])('%s fails the job: it would be too large the next time, too', async (_, handler) => {
    const job = await submit();
    startRunner(parts(), [jobType(handler, { retry: { maxRuns: 5 } })]);
    const { status, error } = await ended(job);
    expect({ status, error }).toEqual({
      status: 'failed',
      error: { code: 'result_too_large', message: expect.stringContaining(String(RESULT_LIMITS.maxBytes)) },
    });
    expect(await runs(job)).toEqual([[1, 'failed', 'result_too_large']]);
    expect(await orphans()).toEqual([]);
  });

  test.each<[string, unknown]>([
    ['text', 'text'],
    ['a list', [1, 2]],
    ['an ArrayBuffer', new ArrayBuffer(4)],
    ['nothing', undefined],
  ])('a stream of %s fails the job', async (_, piece) => {
    const job = await submit();
    const body = async function* body() {
      yield randomBytes(CHUNK_BYTES);
      yield piece as Uint8Array;
    };
    startRunner(parts(), [jobType(() => file(body()), { retry: { maxRuns: 5 } })]);
    expect((await ended(job)).error).toEqual({
      code: 'invalid_output',
      message: 'A piece of the result is not bytes.',
    });
    expect(await runs(job)).toHaveLength(1);
    expect(await orphans()).toEqual([]);
  });

  test('a stream that breaks off fails its run, and the next one starts anew', async () => {
    const job = await submit();
    const whole = randomBytes(2 * CHUNK_BYTES);
    const handler = ({ run }: { run: { number: number } }) =>
      file(run.number === 1 ? after(5 * CHUNK_BYTES, new Error('the disk went away')) : whole);
    startRunner(parts(), [jobType(handler, { retry: { minDelayMs: 0 } })]);
    expect(await ended(job)).toMatchObject({ status: 'succeeded', resultBytes: whole.length, runCount: 2 });
    expect(await runs(job)).toEqual([
      [1, 'failed', 'handler_error'],
      [2, 'succeeded', null],
    ]);
    expect((await storedBytes(job)).equals(whole)).toBe(true);
    expect(await orphans()).toEqual([]);
  });

  test('a stream may say that it makes no sense to try again, and when it does', async () => {
    const [one, other] = [await submit(), await submit()];
    const failure = (id: string) =>
      id === one.id ? new NonRetryableError('gone') : new RetryAfterError('busy', 60_000);
    startRunner(parts(), [jobType(({ job }) => file(after(CHUNK_BYTES, failure(job.id))))]);
    expect((await ended(one)).error?.message).toContain('gone');
    await eventually(async () => {
      const { nextRunAt } = await readJob(database, other);
      expect(nextRunAt!.getTime() - Date.now()).toBeGreaterThan(50_000);
    });
    expect(await orphans()).toEqual([]);
  });
});

describe('a run that is stopped while its result is stored leaves nothing behind', () => {
  test('when its time is up', async () => {
    const job = await submitJob(database, { runTimeoutMs: 1000 });
    startRunner(parts(), [jobType(() => file(stuck()), { retry: { maxRuns: 1 } })]);
    await untilStoring(job);
    expect((await ended(job)).error).toMatchObject({ code: 'timeout' });
    await eventually(async () => expect(await orphans()).toEqual([]));
  });

  test('when it is canceled: at once, as its result comes to nothing', async () => {
    const job = await submit();
    const definitions = [jobType(() => file(stuck()))];
    const { worker } = startRunner(parts(), definitions, { cancelGraceMs: 600_000 });
    await untilStoring(job);
    await makeCanceler(parts(), definitions, { signalCancel: (id) => worker.cancel(id) }).cancel(job.accountId, job.id);
    expect(await ended(job)).toMatchObject({ status: 'canceled' });
    await eventually(async () => expect(await orphans()).toEqual([]));
  });

  test('when its worker shuts down: it is given back, and its chunks are gone before the worker is', async () => {
    const job = await submit();
    const { worker } = startRunner(parts(), [jobType(() => file(stuck()))]);
    await untilStoring(job);
    await worker.stop(0);
    expect(await orphans()).toEqual([]);
    expect(await readJob(database, job)).toMatchObject({ status: 'in_progress', runId: null, failureCount: 0 });
  });

  test('when its handler comes with a result after that', async () => {
    const job = await submitJob(database, { runTimeoutMs: 100 });
    const late = Promise.withResolvers<FileResult>();
    const read: string[] = [];
    const body = async function* body() {
      read.push('read');
      yield randomBytes(CHUNK_BYTES);
    };
    // Not for what other tests have left behind.
    const handler = ({ job: { id } }: { job: { id: string } }) => (id === job.id ? late.promise : null);
    startRunner(parts(), [jobType(handler, { retry: { maxRuns: 1 } })]);
    await ended(job);
    late.resolve(file(body()));
    await late.promise;
    await new Promise(setImmediate);
    expect(read).toEqual([]);
    expect(await orphans()).toEqual([]);
  });

  test('when its worker is gone: the rescue takes what it has stored', async () => {
    const { accountId } = await makeAccount(database.db);
    const definitions = [jobType(() => null)];
    const job = await claimRun(database.db, await insertJob(database.db, accountId), { leaseMs: 50 });
    const run = { accountId, jobId: job.id, runId: job.runId };
    const abort = new AbortController();
    const storing = new ResultKeeper(database.db, RESULT_LIMITS).store(run, stuck(), abort.signal);
    await eventually(async () => expect((await orphans())[0]).toMatchObject({ count: 3 }));
    await eventually(async () => {
      await rescueRuns(rescueDeps(parts(), definitions));
      expect(await runsOfJob(database, { accountId, id: job.id, endpoint: undefined })).toHaveLength(1);
    });
    expect(await orphans()).toEqual([]);
    abort.abort(new Error('the process ends'));
    await expect(storing).rejects.toThrow('the process ends');
  });
});

test('a stale run that goes on storing is refused, and takes nothing from the run in its place', async () => {
  const job = await submitJob(database, { pool: 'elsewhere' });
  const stale = await claimRun(database.db, job, { leaseMs: 1 });
  await eventually(async () => {
    await rescueRuns(rescueDeps(parts(), [jobType(() => null, { retry: { minDelayMs: 0 } })]));
    expect(await runs(job)).toHaveLength(1);
  });
  const keeper = new ResultKeeper(database.db, RESULT_LIMITS);
  const { signal } = new AbortController();
  const run = { accountId: job.accountId, jobId: job.id, runId: stale.runId };
  const body = (async function* body() {
    yield randomBytes(10);
  })();
  const kept = await keeper.keep(run, { kind: 'file', contentType: 'text/plain', body }, signal);
  expect(kept).toMatchObject({ kind: 'failed' });
  expect(await orphans()).toEqual([]);
});

describe('when the database goes away while a result is stored', () => {
  const setUp = async () => {
    const proxy = await startTcpProxy(database.url);
    const db = openDatabase({ url: proxy.url, applicationName: 'ringback-test', max: 2, pooled: false });
    const { accountId } = await makeAccount(database.db);
    const job = await claimRun(database.db, await insertJob(database.db, accountId), { leaseMs: 60_000 });
    return { proxy, db, run: { accountId, jobId: job.id, runId: job.runId } };
  };
  const fileOutcome = (body: AsyncIterable<Uint8Array>) => ({ kind: 'file', contentType: 'text/plain', body }) as const;

  test('the stream waits until it is back, and nothing is missing', async () => {
    const { proxy, db, run } = await setUp();
    const whole = randomBytes(6 * CHUNK_BYTES + 1);
    const { promise: isCut, resolve: cut } = Promise.withResolvers<void>();
    async function* body(): AsyncGenerator<Uint8Array> {
      for (let at = 0; at < whole.length; at += CHUNK_BYTES) {
        if (at === 3 * CHUNK_BYTES) cut(await proxy.cut());
        yield whole.subarray(at, at + CHUNK_BYTES);
      }
    }
    const keeping = new ResultKeeper(db, RESULT_LIMITS).keep(run, fileOutcome(body()), new AbortController().signal);
    await isCut;
    const stored = await database.sql`SELECT FROM ringback.result_chunks WHERE run_id = ${run.runId}`;
    expect(stored).toHaveLength(3);
    await proxy.restore();
    expect(await keeping).toMatchObject({
      kind: 'succeeded',
      result: { bytes: whole.length, sha256: createHash('sha256').update(whole).digest('hex') },
    });
    expect(await joined(run)).toEqual(whole);
    await db.close();
  });

  test('a run that is stopped meanwhile does not wait', async () => {
    const { proxy, db, run } = await setUp();
    await proxy.cut();
    const abort = new AbortController();
    const body = (async function* body() {
      yield randomBytes(CHUNK_BYTES);
    })();
    const keeping = new ResultKeeper(db, RESULT_LIMITS).keep(run, fileOutcome(body), abort.signal);
    abort.abort(new Error('shutdown'));
    expect(await keeping).toMatchObject({ kind: 'failed' });
    await db.close();
  });

  async function joined({ accountId, runId }: { accountId: AccountId; runId: RunId }): Promise<Buffer> {
    const chunks = await database.sql<{ bytes: Buffer }[]>`
      SELECT bytes FROM ringback.result_chunks WHERE account_id = ${accountId} AND run_id = ${runId} ORDER BY number`;
    return Buffer.concat(chunks.map(({ bytes }) => bytes));
  }
});

test('what the database refuses is told to the operator, not to the client', async () => {
  const faults: unknown[] = [];
  const { accountId } = await makeAccount(database.db);
  const job = await claimRun(database.db, await insertJob(database.db, accountId));
  const run = { accountId, jobId: job.id, runId: job.runId };
  await database.sql`ALTER TABLE ringback.result_chunks ADD CONSTRAINT refused CHECK (octet_length(bytes) < 3) NOT VALID`;
  const keeper = new ResultKeeper(database.db, RESULT_LIMITS, (fault) => faults.push(fault));
  const body = (async function* body() {
    yield Buffer.from('three');
  })();
  const kept = await keeper.keep(run, { kind: 'file', contentType: 'text/plain', body }, new AbortController().signal);
  await database.sql`ALTER TABLE ringback.result_chunks DROP CONSTRAINT refused`;
  expect(kept).toMatchObject({
    kind: 'failed',
    error: { code: 'handler_error', message: 'The result could not be stored.' },
    retryable: true,
  });
  expect(faults).toMatchObject([{ code: '23514' }]);
});

test('a file of a type that may not stand in a header fails the job, unread', async () => {
  const job = await submit();
  let read = false;
  const body = async function* body() {
    read = true;
    yield Buffer.from('x');
  };
  const { lines } = startRunner(parts(), [jobType(() => new FileResult(body(), 'text/html\r\nset-cookie: a=b'))]);
  expect((await ended(job)).error).toMatchObject({ code: 'invalid_output' });
  expect(read).toBe(false);
  expect(errorsIn(lines)).toEqual([]);
});
