import { and, eq } from 'drizzle-orm';
import { type RunId, timeOf } from '#domain/ids.ts';
import type { EndedRunStatus, JobError, JobStatus } from '#domain/job.ts';
import type { RunHolder } from '#domain/run-holder.ts';
import type { Database } from './database.ts';
import { insertLogLines, type LogLine } from './job-logs.ts';
import { jobRecordColumns } from './job-columns.ts';
import type { JobRecord } from './jobs.ts';
import type { RunRef } from './run-queue.ts';
import { jobs } from './schema/jobs.ts';
import { runQueue } from './schema/run-queue.ts';

/** A job with the run that is under way, and who holds it. */
export interface HeldJob extends JobRecord {
  readonly runId: RunId;
  readonly heldBy: RunHolder;
  /** The latest upload of a result for this run. */
  readonly uploadId: string | null;
}

/** The job of a run, as long as that run is under way. Both rows by their primary keys. */
export async function findHeldJob({ orm }: Database, run: RunRef): Promise<HeldJob | undefined> {
  const rows = await orm
    .select({ ...jobRecordColumns, heldBy: runQueue.heldBy, uploadId: runQueue.uploadId })
    .from(runQueue)
    .innerJoin(jobs, and(eq(jobs.accountId, runQueue.accountId), eq(jobs.id, runQueue.jobId)))
    .where(and(eq(runQueue.accountId, run.accountId), eq(runQueue.jobId, run.jobId), eq(runQueue.runId, run.runId)));
  const [row] = rows;
  // Both are there while a run is under way (run_queue_lease); the types do not know.
  if (row === undefined || row.heldBy === null) return undefined;
  return { ...row, runId: run.runId, heldBy: row.heldBy };
}

/** What is on record of a run that is not under way: null where there is nothing, of the run or of its job. */
export interface RunOnRecord {
  readonly jobStatus: JobStatus;
  readonly runStatus: EndedRunStatus | null;
  readonly runError: JobError | null;
}

/** A run is recorded under the moment in its id, so that one partition is looked at. Undefined without the job. */
export async function findRunOnRecord({ sql }: Database, run: RunRef): Promise<RunOnRecord | undefined> {
  const rows = await sql<RunOnRecord[]>`
    SELECT job.status AS "jobStatus", run.status AS "runStatus", run.error AS "runError"
    FROM ringback.jobs AS job
    LEFT JOIN ringback.job_runs AS run ON run.account_id = job.account_id AND run.id = ${run.runId}
      AND run.job_id = job.id AND run.started_at = ${new Date(timeOf(run.runId))}
    WHERE job.account_id = ${run.accountId} AND job.id = ${run.jobId}`;
  return rows[0];
}

/**
 * Appends lines to a run's log. Calls for one run may come to several processes at once: the queue's row, locked, makes
 * them follow each other, so that no two lines get one position. Undefined when the run is not under way.
 * @param toLines makes the lines for a run of that number, whose log ends at that position (null: is empty)
 */
export async function appendLog(
  db: Database,
  run: RunRef,
  holders: readonly RunHolder[],
  toLines: (runNumber: number, lastPosition: number | null) => readonly LogLine[],
): Promise<readonly LogLine[] | undefined> {
  return db.transaction(async (tx) => {
    const held = await tx`
      SELECT FROM ringback.run_queue
      WHERE account_id = ${run.accountId} AND job_id = ${run.jobId} AND run_id = ${run.runId}
        AND held_by = ANY (${[...holders]}::text[])
      FOR UPDATE`;
    if (held.count === 0) return undefined;
    // A statement of its own: it must see what the one that we waited for has written.
    const [log] = await tx<[{ number: number; last: string | null }]>`
      SELECT run_count AS number, (
        SELECT max(position) FROM ringback.job_logs AS line
        WHERE line.account_id = job.account_id AND line.job_id = job.id AND line.run_id = job.run_id
          AND line.created_at >= job.run_started_at - interval '1 day') AS last
      FROM ringback.jobs AS job WHERE account_id = ${run.accountId} AND id = ${run.jobId}`;
    const lines = toLines(log.number, log.last === null ? null : Number(log.last));
    if (lines.length > 0) await insertLogLines(tx, run, lines);
    return lines;
  });
}
