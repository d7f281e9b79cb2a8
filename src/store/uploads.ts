import type { RunHolder } from '#domain/run-holder.ts';
import type { Connection, Database } from './database.ts';
import type { RunRef } from './run-queue.ts';

/**
 * A result that comes over HTTP is stored while its run is under way, and may come twice: a worker whose connection broke
 * sends it again, to another process perhaps, while this one still waits for the rest of the first. All pieces of a run
 * stand under one key, so only one upload may write them: the one that began last, which the queue's row names.
 */
export interface Upload extends RunRef {
  readonly uploadId: string;
}

/** Begins an upload, and throws away what an earlier one has stored. False when the run is not under way. */
export async function beginUpload(db: Database, upload: Upload, holders: readonly RunHolder[]): Promise<boolean> {
  return db.transaction(async (tx) => {
    // Waits for a piece that the earlier upload is storing, and keeps it from storing another.
    const begun = await tx`
      UPDATE ringback.run_queue SET upload_id = ${upload.uploadId}
      WHERE account_id = ${upload.accountId} AND job_id = ${upload.jobId} AND run_id = ${upload.runId}
        AND held_by = ANY (${[...holders]}::text[])`;
    if (begun.count === 0) return false;
    await tx`
      DELETE FROM ringback.result_chunks WHERE account_id = ${upload.accountId} AND run_id = ${upload.runId}`;
    return true;
  });
}

/**
 * Stores a piece. False when the run is over, or another upload has begun: nothing of this one is wanted any more. Its
 * commit does not wait for the disk: see `insertChunk`.
 */
export async function insertUploadedChunk(
  sql: Connection,
  upload: Upload,
  number: number,
  bytes: Uint8Array,
): Promise<boolean> {
  const inserted = await sql`
    WITH held AS (
      SELECT account_id, run_id
      FROM ringback.run_queue AS item CROSS JOIN set_config('synchronous_commit', 'off', true)
      WHERE account_id = ${upload.accountId} AND job_id = ${upload.jobId} AND run_id = ${upload.runId}
        AND upload_id = ${upload.uploadId}
      FOR SHARE OF item
    )
    INSERT INTO ringback.result_chunks (account_id, run_id, number, bytes)
    SELECT account_id, run_id, ${number}::int, ${Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length)}::bytea FROM held`;
  return inserted.count === 1;
}

/** Throws away what an upload has stored, unless another one stores there by now, or it is the job's result. */
export async function abandonUpload(sql: Connection, upload: Upload): Promise<void> {
  await sql`
    DELETE FROM ringback.result_chunks
    WHERE account_id = ${upload.accountId} AND run_id = ${upload.runId}
      AND NOT EXISTS (
        SELECT FROM ringback.run_queue
        WHERE account_id = ${upload.accountId} AND job_id = ${upload.jobId} AND run_id = ${upload.runId}
          AND upload_id <> ${upload.uploadId})
      AND NOT EXISTS (
        SELECT FROM ringback.jobs
        WHERE account_id = ${upload.accountId} AND id = ${upload.jobId} AND result_run_id = ${upload.runId})`;
}
