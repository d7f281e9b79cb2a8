import type { Connection, Database } from './database.ts';
import type { RunRef } from './run-queue.ts';

/** Gives a run a token, whose hash this is, that may tell its end. False when the run is not under way any more. */
export async function offerCompletion(sql: Connection, run: RunRef, hash: Uint8Array): Promise<boolean> {
  const offered = await sql`
    UPDATE ringback.run_queue SET completion_hash = ${hash}
    WHERE account_id = ${run.accountId} AND job_id = ${run.jobId} AND run_id = ${run.runId}`;
  return offered.count === 1;
}

/** The run under way whose token has that hash. Served by `run_queue_completion`. */
export async function findCompletion({ sql }: Database, hash: Uint8Array): Promise<RunRef | undefined> {
  const rows = await sql<RunRef[]>`
    SELECT account_id AS "accountId", job_id AS "jobId", run_id AS "runId"
    FROM ringback.run_queue WHERE completion_hash = ${hash}`;
  return rows[0];
}
