import { randomBytes } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import { newId } from '#domain/ids.ts';
import { JobQueries } from '#jobs/read/job-queries.ts';
import { type JobResult, READ_BYTES, ResultCutError } from '#jobs/read/job-results.ts';
import { ResultKeeper } from '#jobs/run/result-keeper.ts';
import { endRuns } from '#store/end-runs.ts';
import { CHUNK_BYTES } from '#store/result-chunks.ts';
import { useDatabase } from '../../support/database.ts';
import { claimRun, insertJob, makeAccount, runEnd } from '../../support/fixtures.ts';
import { REAL_CLOCK, RESULT_LIMITS } from '../../support/workers.ts';

const database = useDatabase();
const queries = () => new JobQueries({ db: database.db, clock: REAL_CLOCK, polls: { after: () => 1 } });

async function startJob() {
  const { accountId } = await makeAccount(database.db);
  return claimRun(database.db, await insertJob(database.db, accountId));
}

async function inlineResult(outputText: string): Promise<JobResult> {
  const job = await startJob();
  await endRuns(database.sql, [runEnd(job, { outputText })]);
  return found(await queries().result(job.accountId, job.id));
}

async function storedResult(whole: Uint8Array) {
  const job = await startJob();
  const run = { accountId: job.accountId, jobId: job.id, runId: job.runId };
  const stored = await new ResultKeeper(database.db, RESULT_LIMITS).store(run, [whole], new AbortController().signal);
  await endRuns(database.sql, [runEnd(job, { outputText: null, result: { contentType: 'image/png', ...stored } })]);
  return { job, run, open: async () => found(await queries().result(job.accountId, job.id)) };
}

function found(result: Awaited<ReturnType<JobQueries['result']>>): JobResult {
  if (!result.ok) throw new Error(result.code);
  return result.value;
}

async function read(result: JobResult, first = 0, last = result.bytes - 1): Promise<Buffer> {
  const pieces: Uint8Array[] = [];
  for await (const piece of result.read({ first, last })) pieces.push(piece);
  return Buffer.concat(pieces);
}

test.each(['null', '{"b":1e400,"a":1.0,"b":12345678901234567890}', '"ä😀"', '[ 1 ,\n2 ]'])(
  'an inline result is given as it is stored: %s',
  async (text) => {
    const result = await inlineResult(text);
    expect(result).toMatchObject({ contentType: 'application/json', bytes: Buffer.byteLength(text) });
    expect((await read(result)).toString()).toBe(text);
    expect((await read(result, 1, 2)).equals(Buffer.from(text).subarray(1, 3))).toBe(true);
  },
);

describe('a stored result', () => {
  const whole = randomBytes(3 * CHUNK_BYTES + 100);
  const end = whole.length - 1;
  test.each([
    ['all of it', 0, end],
    ['its first byte', 0, 0],
    ['its last byte', end, end],
    ['a chunk exactly', CHUNK_BYTES, 2 * CHUNK_BYTES - 1],
    ['a byte to each side of a border', CHUNK_BYTES - 1, CHUNK_BYTES],
    ['from the middle of one chunk to the middle of another', CHUNK_BYTES + 10, 3 * CHUNK_BYTES + 20],
    ['a part of a chunk', 100, 200],
  ])('gives %s', async (_, first, last) => {
    const { open } = await storedResult(whole);
    expect((await read(await open(), first, last)).equals(whole.subarray(first, last + 1))).toBe(true);
  });

  test('of nothing gives nothing', async () => {
    const { open } = await storedResult(Buffer.alloc(0));
    const result = await open();
    expect(result.bytes).toBe(0);
    expect((await read(result)).length).toBe(0);
  });

  test('reads by the length that its chunks have, should an earlier version have cut them otherwise', async () => {
    const job = await startJob();
    const pieces = ['four', 'four', 'two'].map((text) => Buffer.from(text));
    for (const [number, bytes] of pieces.entries())
      await database.sql`INSERT INTO ringback.result_chunks VALUES (${job.accountId}, ${job.runId}, ${number}, ${bytes})`;
    const result = { contentType: 'text/plain', bytes: 11, sha256: '00'.repeat(32) };
    await endRuns(database.sql, [runEnd(job, { outputText: null, result })]);
    expect((await read(found(await queries().result(job.accountId, job.id)), 3, 9)).toString()).toBe('rfourtw');
  });

  const drop = (runId: string, from: number) =>
    database.sql`DELETE FROM ringback.result_chunks WHERE run_id = ${runId} AND number >= ${from}`;

  test('is not read before it is asked for, and one piece ahead after that', async () => {
    const { run, open } = await storedResult(whole);
    const pieces = (await open()).read({ first: 0, last: end })[Symbol.asyncIterator]();
    const first = await pieces.next();
    expect(Buffer.from(first.value as Uint8Array).equals(whole.subarray(0, READ_BYTES))).toBe(true);
    // In two pieces each.
    expect(CHUNK_BYTES).toBe(2 * READ_BYTES);
    await drop(run.runId, 1);
    // The second one was on its way; the third had not been asked for.
    expect((await pieces.next()).done).toBe(false);
    await expect(pieces.next()).rejects.toThrow(ResultCutError);

    const unread = await storedResult(whole);
    const later = (await unread.open()).read({ first: 0, last: end })[Symbol.asyncIterator]();
    await drop(unread.run.runId, 0);
    await expect(later.next()).rejects.toThrow(ResultCutError);
  });

  test('breaks off where a chunk is not as long as it must be', async () => {
    const { run, open } = await storedResult(whole);
    await database.sql`
      UPDATE ringback.result_chunks SET bytes = substring(bytes FROM 2) WHERE run_id = ${run.runId} AND number = 1`;
    const result = await open();
    expect((await read(result, 0, CHUNK_BYTES - 1)).length).toBe(CHUNK_BYTES);
    await expect(read(result)).rejects.toThrow(ResultCutError);
  });

  test('whose reader stops is not read any further, and nothing is left unhandled', async () => {
    const { run, open } = await storedResult(whole);
    const unhandled: unknown[] = [];
    const hear = (reason: unknown) => void unhandled.push(reason);
    process.on('unhandledRejection', hear);
    const result = await open();
    await database.sql`
      UPDATE ringback.result_chunks SET bytes = substring(bytes FOR ${READ_BYTES}::int) WHERE run_id = ${run.runId} AND number = 0`;
    for await (const _ of result.read({ first: 0, last: end })) break;
    await database.sql`SELECT 1`;
    process.off('unhandledRejection', hear);
    expect(unhandled).toEqual([]);
  });

  test('whose chunks are gone is a fault, not a result', async () => {
    const { run, open } = await storedResult(whole);
    await drop(run.runId, 0);
    await expect(open()).rejects.toThrow(ResultCutError);
  });
});

test('another account’s result is not there', async () => {
  const { job } = await storedResult(Buffer.from('mine'));
  const { accountId } = await makeAccount(database.db);
  expect(await queries().result(accountId, job.id)).toMatchObject({ ok: false, code: 'job_not_found' });
  expect(await queries().result(accountId, newId('job', 1))).toMatchObject({ ok: false, code: 'job_not_found' });
});
