import { and, asc, eq, sql } from 'drizzle-orm';
import type { AccountId, JobId } from '#domain/ids.ts';
import type { Database } from './database.ts';
import { jobRecordColumns } from './job-columns.ts';
import type { JobRecord } from './jobs.ts';
import { jobRuns, jobs } from './schema/jobs.ts';

export async function findJob({ orm }: Database, accountId: AccountId, id: JobId): Promise<JobRecord | undefined> {
  const rows = await orm
    .select(jobRecordColumns)
    .from(jobs)
    .where(and(eq(jobs.accountId, accountId), eq(jobs.id, id)));
  return rows[0];
}

/** Those that are there, in no order. One statement, whatever their number. */
export async function findJobs(
  { orm }: Database,
  refs: ReadonlyArray<{ accountId: AccountId; jobId: JobId }>,
): Promise<JobRecord[]> {
  const wanted = JSON.stringify(refs.map(({ accountId, jobId }) => ({ accountId, jobId })));
  return orm
    .select(jobRecordColumns)
    .from(jobs)
    .where(
      sql`(${jobs.accountId}, ${jobs.id}) IN (
        SELECT "accountId", "jobId" FROM json_to_recordset(${wanted}::text::json) AS wanted ("accountId" text, "jobId" text)
        WHERE "jobId" LIKE 'job\\_%')`, // FEW_ROWS: see database.ts
    );
}

export interface SeenJob {
  readonly accountId: AccountId;
  readonly jobId: JobId;
  readonly sequence: number;
  readonly updatedAt: Date;
}

/** Which of these are not as they were seen any more: changed, or gone. Served by `jobs_pkey`. */
export async function findChangedJobs({ sql: query }: Database, seen: readonly SeenJob[]): Promise<JobId[]> {
  const changed = await query<{ jobId: JobId }[]>`
    SELECT seen."jobId"
    FROM json_to_recordset(${JSON.stringify(seen)}::text::json) AS seen (
      "accountId" text, "jobId" text, sequence int, "updatedAt" timestamptz)
    LEFT JOIN ringback.jobs AS job ON job.account_id = seen."accountId" AND job.id = seen."jobId"
    WHERE seen."jobId" LIKE 'job\\_%' -- FEW_ROWS: see database.ts
      AND (job.sequence IS DISTINCT FROM seen.sequence OR job.updated_at IS DISTINCT FROM seen."updatedAt")`;
  return changed.map(({ jobId }) => jobId);
}

export type RunRecord = Readonly<typeof jobRuns.$inferSelect>;

/** The runs of a job in their order. Served by `job_runs_of_job`. */
export async function listRuns({ orm }: Database, accountId: AccountId, jobId: JobId): Promise<RunRecord[]> {
  return orm
    .select()
    .from(jobRuns)
    .where(and(eq(jobRuns.accountId, accountId), eq(jobRuns.jobId, jobId)))
    .orderBy(asc(jobRuns.number));
}
