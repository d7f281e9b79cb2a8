import type { AccountId, JobId, RunId } from '#domain/ids.ts';
import type { JobLogLevel } from '#domain/job.ts';
import { toCleanJson } from '#domain/json.ts';
import type { Connection, Database } from './database.ts';

export interface LogLine {
  /** Grows within a job; where to read on from. */
  readonly position: number;
  readonly level: JobLogLevel;
  readonly message: string;
  readonly fields: Readonly<Record<string, unknown>> | null;
  readonly createdAt: Date;
}

export interface LogRecord extends LogLine {
  readonly runId: RunId;
}

/** Appends lines of a run, while the run is the job's own; answers whether it was. */
export async function insertLogLines(
  sql: Connection,
  run: { accountId: AccountId; jobId: JobId; runId: RunId },
  lines: readonly LogLine[],
): Promise<boolean> {
  const inserted = await sql`
    INSERT INTO ringback.job_logs (account_id, job_id, position, run_id, level, message, fields, created_at)
    SELECT job.account_id, job.id, line.position, job.run_id, line.level, line.message, line.fields, line."createdAt"
    FROM ringback.jobs AS job
    CROSS JOIN json_to_recordset(${toCleanJson(lines)}::text::json) AS line (
      position bigint, level text, message text, fields json, "createdAt" timestamptz)
    WHERE job.account_id = ${run.accountId} AND job.id = ${run.jobId} AND job.run_id = ${run.runId}`;
  return inserted.count > 0;
}

/** Lines after a position, in their order; `since` is when the job was made: older partitions hold none of it. */
export async function readLogLines(
  { sql }: Database,
  job: { accountId: AccountId; jobId: JobId; since: Date },
  page: { after: number; limit: number },
): Promise<LogRecord[]> {
  return sql<LogRecord[]>`
    SELECT position, level, message, fields, created_at AS "createdAt", run_id AS "runId"
    FROM ringback.job_logs
    WHERE account_id = ${job.accountId} AND job_id = ${job.jobId} AND position > ${page.after}
      AND created_at >= ${job.since}::timestamptz - interval '1 day'
    ORDER BY position LIMIT ${page.limit}`.then((rows) =>
    rows.map((row) => ({ ...row, position: Number(row.position) })),
  );
}
