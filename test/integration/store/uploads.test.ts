import { randomUUID } from 'node:crypto';
import { expect, test } from 'vitest';
import type { RunHolder } from '#domain/run-holder.ts';
import { endRuns } from '#store/end-runs.ts';
import { abandonUpload, beginUpload, insertUploadedChunk, type Upload } from '#store/uploads.ts';
import { useDatabase } from '../../support/database.ts';
import { eventually } from '../../support/eventually.ts';
import { claimRun, insertJob, inTransaction, makeAccount, runEnd } from '../../support/fixtures.ts';

const database = useDatabase();
const WORKERS: readonly RunHolder[] = ['worker'];

/** A run of a remote worker, and uploads of its result. */
async function start() {
  const { accountId } = await makeAccount(database.db);
  const run = await claimRun(database.db, await insertJob(database.db, accountId), { heldBy: 'worker' });
  const upload = (): Upload => ({ accountId, jobId: run.id, runId: run.runId, uploadId: randomUUID() });
  return { run, upload };
}

const begin = (upload: Upload, holders = WORKERS) => beginUpload(database.db, upload, holders);
const insert = (upload: Upload, number: number, text: string) =>
  insertUploadedChunk(database.sql, upload, number, Buffer.from(text));
const abandon = (upload: Upload) => abandonUpload(database.sql, upload);

async function stored({ runId }: Upload): Promise<string> {
  const chunks = await database.sql<{ bytes: Uint8Array }[]>`
    SELECT bytes FROM ringback.result_chunks WHERE run_id = ${runId} ORDER BY number`;
  return chunks.map(({ bytes }) => Buffer.from(bytes).toString()).join();
}

/** The end of the run with what an upload has stored; answers whether it was written. */
async function endWith(run: Awaited<ReturnType<typeof start>>['run'], { uploadId }: Upload): Promise<boolean> {
  const result = { contentType: 'text/plain', bytes: 1, sha256: '00'.repeat(32), uploadId };
  return (await endRuns(database.sql, [runEnd(run, { outputText: null, result })])).has(run.id);
}

test('an upload that began later throws away what the earlier one has stored, and alone goes on', async () => {
  const { upload } = await start();
  const [first, second] = [upload(), upload()];
  expect(await begin(first)).toBe(true);
  expect(await insert(first, 0, 'first 0')).toBe(true);
  expect(await begin(second)).toBe(true);
  expect(await stored(first)).toBe('');
  expect(await insert(first, 1, 'first 1')).toBe(false);
  expect(await insert(second, 0, 'second 0')).toBe(true);
  await abandon(first);
  expect(await stored(second)).toBe('second 0');
  await abandon(second);
  expect(await stored(second)).toBe('');
});

test('an upload whose place was taken when it was complete does not end the run', async () => {
  const { run, upload } = await start();
  const [first, second] = [upload(), upload()];
  await begin(first);
  await insert(first, 0, 'first');
  await begin(second);
  await insert(second, 0, 'second');
  expect(await endWith(run, first)).toBe(false);
  expect(await endWith(run, second)).toBe(true);
  await abandon(first);
  await abandon(second);
  expect(await stored(second), 'it is the result').toBe('second');
});

test('a piece that is being stored when another upload begins is thrown away with the others', async () => {
  const { upload } = await start();
  const [first, second] = [upload(), upload()];
  await begin(first);
  const begun = await inTransaction(database.db, async (tx) => {
    expect(await insertUploadedChunk(tx, first, 0, Buffer.from('first'))).toBe(true);
    const waiting = begin(second);
    await eventually(async () => {
      const blocked = await database.sql`
        SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`;
      expect(blocked).toHaveLength(1);
    });
    return { waiting };
  });
  expect(await begun.waiting).toBe(true);
  expect(await stored(first)).toBe('');
  expect(await insert(second, 0, 'second')).toBe(true);
});

test('nothing is stored for a run that is over, or that somebody of another kind holds', async () => {
  const { run, upload } = await start();
  expect(await begin(upload(), ['runner', 'backend'])).toBe(false);
  const late = upload();
  await begin(late);
  await insert(late, 0, 'early');
  expect(await begin({ ...upload(), runId: 'run_other' as never })).toBe(false);
  await endRuns(database.sql, [runEnd(run)]);
  expect(await insert(late, 1, 'late')).toBe(false);
  expect(await begin(upload())).toBe(false);
  await abandon(late);
  expect(await stored(late), 'the job has another output').toBe('');
});
