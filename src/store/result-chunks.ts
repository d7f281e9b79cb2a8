import type { AccountId, JobId, RunId } from '#domain/ids.ts';
import type { Connection, Database } from './database.ts';
import type { RunRef } from './run-queue.ts';

/**
 * Bytes of every chunk of a result but the last. As hex they are a string of 120 KiB, which is young garbage; from 128 KiB
 * on it would be a large object, and a result of 50 MB would take 40 MB more of memory (docs/decisions/0014).
 */
export const CHUNK_BYTES = 60 * 1024;

export interface ResultKey {
  readonly accountId: AccountId;
  /** The run that made it. */
  readonly runId: RunId;
}

/**
 * Stores a chunk while the run is the job's own; answers whether it was. The lock on the queue's row makes the end of the
 * run wait for this commit, so that what is deleted after a run has ended is all there will ever be. Storing a chunk again,
 * when a broken connection left it open whether it was stored, changes nothing.
 *
 * Its commit does not wait for the disk: the chunk counts for nothing before the run's end has committed, and that commit
 * brings everything before it to the disk as well.
 */
export async function insertChunk(sql: Connection, run: RunRef, number: number, bytes: Uint8Array): Promise<boolean> {
  const inserted = await sql`
    INSERT INTO ringback.result_chunks (account_id, run_id, number, bytes)
    SELECT account_id, run_id, ${number}::int, ${Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length)}::bytea
    FROM ringback.run_queue AS item CROSS JOIN set_config('synchronous_commit', 'off', true)
    WHERE account_id = ${run.accountId} AND job_id = ${run.jobId} AND run_id = ${run.runId}
    FOR SHARE OF item
    ON CONFLICT (account_id, run_id, number) DO UPDATE SET bytes = excluded.bytes`;
  return inserted.count === 1;
}

/**
 * Up to `length` bytes of one chunk, from the offset `from` on; undefined when there is no such chunk. PostgreSQL reads no more of
 * it than that: chunks are stored out of line, and not compressed.
 */
export async function readChunk(
  sql: Connection,
  key: ResultKey,
  { number, from, length }: { readonly number: number; readonly from: number; readonly length: number },
): Promise<Uint8Array | undefined> {
  const [row] = await sql<{ bytes: Uint8Array }[]>`
    SELECT substring(bytes FROM ${from}::int + 1 FOR ${length}::int) AS bytes FROM ringback.result_chunks
    WHERE account_id = ${key.accountId} AND run_id = ${key.runId} AND number = ${number}`;
  return row?.bytes;
}

export interface ResultBody {
  /** An inline result as it was stored: parsed and serialised again, 1e400 would be null. */
  readonly outputText: string | null;
  /** Of a result in chunks: how long each of them is but the last. They may be older than `CHUNK_BYTES`. */
  readonly chunkBytes: number | null;
}

/** Where a job's result is. A length needs no look at the bytes: they are out of line, and not compressed. */
export async function findResultBody(
  { sql }: Database,
  accountId: AccountId,
  jobId: JobId,
): Promise<ResultBody | undefined> {
  const [row] = await sql<ResultBody[]>`
    SELECT output::text AS "outputText", (
      SELECT octet_length(bytes) FROM ringback.result_chunks AS chunk
      WHERE chunk.account_id = job.account_id AND chunk.run_id = job.result_run_id AND number = 0) AS "chunkBytes"
    FROM ringback.jobs AS job WHERE account_id = ${accountId} AND id = ${jobId}`;
  return row;
}

/** Of a run whose result nobody will read. */
export async function deleteChunks(sql: Connection, key: ResultKey): Promise<void> {
  await sql`DELETE FROM ringback.result_chunks WHERE account_id = ${key.accountId} AND run_id = ${key.runId}`;
}
