import type { AccountId, JobId, RunId } from '#domain/ids.ts';
import type { JobLogLevel } from '#domain/job.ts';
import { toCleanJson } from '#domain/json.ts';
import type { Connection, Database } from './database.ts';

export interface LogLine {
  /** Grows within a job; where to read on from. */
  readonly position: number;
  readonly level: JobLogLevel;
  readonly message: string;
  /** A JSON object. */
  readonly fieldsText: string | null;
  readonly createdAt: Date;
}

export interface LogRecord extends LogLine {
  readonly runId: RunId;
}

/**
 * Appends lines of a run while it is the job's own; answers whether it was. The lock on the queue's row makes the end of
 * the run wait for this commit: lines become visible in the order of their positions, from one run to the next, too.
 */
export async function insertLogLines(
  sql: Connection,
  run: { accountId: AccountId; jobId: JobId; runId: RunId },
  lines: readonly LogLine[],
): Promise<boolean> {
  const inserted = await sql`
    INSERT INTO ringback.job_logs (account_id, job_id, position, run_id, level, message, fields, created_at)
    SELECT item.account_id, item.job_id, line.position, item.run_id, line.level, line.message, line."fieldsText"::json, line."createdAt"
    FROM ringback.run_queue AS item
    CROSS JOIN json_to_recordset(${toCleanJson(lines)}::text::json) AS line (
      position bigint, level text, message text, "fieldsText" text, "createdAt" timestamptz)
    WHERE item.account_id = ${run.accountId} AND item.job_id = ${run.jobId} AND item.run_id = ${run.runId}
    FOR SHARE OF item`;
  return inserted.count > 0;
}

export interface LogPage {
  /** Lines beyond this position only. */
  readonly after: number;
  readonly limit: number;
  readonly levels: readonly JobLogLevel[];
}

/** Lines of a job in their order; older and newer partitions than the job are not looked at. Served by `job_logs_pkey`. */
export async function readLogLines(
  { sql }: Database,
  job: { accountId: AccountId; id: JobId; createdAt: Date; finishedAt: Date | null },
  { after, limit, levels }: LogPage,
): Promise<LogRecord[]> {
  const rows = await sql<Array<Omit<LogRecord, 'position'> & { position: string }>>`
    SELECT position, level, message, fields::text AS "fieldsText", created_at AS "createdAt", run_id AS "runId"
    FROM ringback.job_logs
    WHERE account_id = ${job.accountId} AND job_id = ${job.id} AND position > ${after}
      AND level = ANY (${[...levels]}::text[])
      -- The clocks of the processes may differ.
      AND created_at >= ${job.createdAt}::timestamptz - interval '1 day'
      AND created_at <= coalesce(${job.finishedAt}::timestamptz, now()) + interval '1 day'
    ORDER BY position LIMIT ${limit}`;
  return rows.map((row) => ({ ...row, position: Number(row.position) }));
}
