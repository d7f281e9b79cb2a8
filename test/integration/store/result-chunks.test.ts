import { randomBytes } from 'node:crypto';
import { expect, test } from 'vitest';
import { newId } from '#domain/ids.ts';
import { endRuns } from '#store/end-runs.ts';
import { CHUNK_BYTES, deleteChunks, findResultBody, insertChunk, readChunk } from '#store/result-chunks.ts';
import type { RunRef } from '#store/run-queue.ts';
import { useDatabase } from '../../support/database.ts';
import { eventually } from '../../support/eventually.ts';
import { claimRun, insertJob, makeAccount, runEnd } from '../../support/fixtures.ts';

const database = useDatabase();

/** A run under way. */
async function startRun() {
  const { accountId } = await makeAccount(database.db);
  const claimed = await claimRun(database.db, await insertJob(database.db, accountId));
  const run: RunRef = { accountId, jobId: claimed.id, runId: claimed.runId };
  return { claimed, run };
}

const chunksOf = (run: RunRef) =>
  database.sql`SELECT number FROM ringback.result_chunks WHERE run_id = ${run.runId} ORDER BY number`;

const readWhole = (run: RunRef, number: number) =>
  readChunk(database.sql, run, { number, from: 0, length: CHUNK_BYTES });

test.each([
  ['nothing', Buffer.alloc(0)],
  ['every byte', Buffer.from(Array.from({ length: 256 }, (_, n) => n))],
  ['a whole chunk', randomBytes(CHUNK_BYTES)],
])('a chunk of %s comes back as it was', async (_, bytes) => {
  const { run } = await startRun();
  expect(await insertChunk(database.sql, run, 0, bytes)).toBe(true);
  expect(Buffer.from((await readWhole(run, 0))!)).toEqual(bytes);
  expect(await readWhole(run, 1)).toBeUndefined();
});

test('a part of a chunk is read, and no more than there is of it', async () => {
  const { run } = await startRun();
  const bytes = randomBytes(1000);
  await insertChunk(database.sql, run, 0, bytes);
  const read = async (from: number, length: number) => {
    const part = await readChunk(database.sql, run, { number: 0, from, length });
    return Buffer.from(part!);
  };
  expect(await read(0, 1)).toEqual(bytes.subarray(0, 1));
  expect(await read(300, 400)).toEqual(bytes.subarray(300, 700));
  expect(await read(999, 400)).toEqual(bytes.subarray(999));
  expect(await read(1000, 400)).toEqual(Buffer.alloc(0));
});

test('a part of a larger buffer is stored, and no more of it', async () => {
  const { run } = await startRun();
  await insertChunk(database.sql, run, 0, Buffer.from('-middle-').subarray(1, 7));
  expect(Buffer.from((await readWhole(run, 0))!).toString()).toBe('middle');
});

test('a chunk that is stored again, as after a lost answer, is there once', async () => {
  const { run } = await startRun();
  for (const text of ['once', 'again']) expect(await insertChunk(database.sql, run, 0, Buffer.from(text))).toBe(true);
  expect(Buffer.from((await readWhole(run, 0))!).toString()).toBe('again');
});

test('a run that is not the job’s own stores nothing', async () => {
  const { claimed, run } = await startRun();
  const bytes = Buffer.from('late');
  const others = [
    { ...run, runId: newId('run', Date.now()) },
    { ...run, accountId: newId('acc', Date.now()) },
    { ...run, jobId: newId('job', Date.now()) },
  ];
  for (const other of others) expect(await insertChunk(database.sql, other, 0, bytes)).toBe(false);
  await endRuns(database.sql, [runEnd(claimed)]);
  expect(await insertChunk(database.sql, run, 0, bytes)).toBe(false);
  expect(await chunksOf(run)).toHaveLength(0);
});

test('the end of a run waits for the chunk that is being stored, so that none can come after it', async () => {
  const { claimed, run } = await startRun();
  const stored = Promise.withResolvers<void>();
  const gate = Promise.withResolvers<void>();
  const storing = database.db.transaction(async (tx) => {
    await insertChunk(tx, run, 0, Buffer.from('in time'));
    stored.resolve();
    await gate.promise;
  });
  await stored.promise;
  let ended = false;
  const ending = endRuns(database.sql, [runEnd(claimed)]).then((ids) => {
    ended = true;
    return ids;
  });
  await eventually(async () => {
    const waiting =
      await database.sql`SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()`;
    expect(waiting).toHaveLength(1);
  });
  expect(ended).toBe(false);
  gate.resolve();
  await storing;
  expect((await ending).has(run.jobId)).toBe(true);
  expect(await chunksOf(run)).toHaveLength(1);
});

test('storing a chunk does not wait for the disk, and what else the connection does still does', async () => {
  const { run } = await startRun();
  const one = database.open({ max: 1 });
  const setting = async () => (await one.sql`SHOW synchronous_commit`)[0]!['synchronous_commit'] as string;
  const before = await setting();
  await one.transaction(async (tx) => {
    await insertChunk(tx, run, 0, Buffer.from('x'));
    expect((await tx`SHOW synchronous_commit`)[0]).toEqual({ synchronous_commit: 'off' });
  });
  expect(await setting()).toBe(before);
});

test('deleting takes the chunks of one run only', async () => {
  const [one, other] = [await startRun(), await startRun()];
  for (const { run } of [one, other]) {
    for (const number of [0, 1]) await insertChunk(database.sql, run, number, Buffer.from('x'));
  }
  await deleteChunks(database.sql, one.run);
  expect(await chunksOf(one.run)).toHaveLength(0);
  expect(await chunksOf(other.run)).toHaveLength(2);
});

test('where a result is: as text when it is inline, else how long its chunks are', async () => {
  const [inline, stored] = [await startRun(), await startRun()];
  await endRuns(database.sql, [runEnd(inline.claimed, { outputText: '{"b":1e400,"a":1.0,"b":2}' })]);
  for (const [number, text] of ['four', 'two'].entries())
    await insertChunk(database.sql, stored.run, number, Buffer.from(text));
  const result = { contentType: 'text/plain', bytes: 7, sha256: '00'.repeat(32) };
  await endRuns(database.sql, [runEnd(stored.claimed, { outputText: null, result })]);
  const find = ({ run }: { run: RunRef }) => findResultBody(database.db, run.accountId, run.jobId);
  expect(await find(inline)).toEqual({ outputText: '{"b":1e400,"a":1.0,"b":2}', chunkBytes: null });
  expect(await find(stored)).toEqual({ outputText: null, chunkBytes: 4 });
  expect(await find({ run: { ...stored.run, accountId: inline.run.accountId } })).toBeUndefined();
});
