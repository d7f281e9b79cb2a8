import { and, asc, eq, getTableColumns, inArray } from 'drizzle-orm';
import type { AccountId, JobId } from '#domain/ids.ts';
import type { Database } from './database.ts';
import type { JobRecord } from './jobs.ts';
import { jobRuns, jobs } from './schema/jobs.ts';

const { input: _input, ...columns } = getTableColumns(jobs);

export async function findJob({ orm }: Database, accountId: AccountId, id: JobId): Promise<JobRecord | undefined> {
  const rows = await orm
    .select(columns)
    .from(jobs)
    .where(and(eq(jobs.accountId, accountId), eq(jobs.id, id)));
  return rows[0];
}

/** Those that are there, in no order. One statement an account. */
export async function findJobs(
  { orm }: Database,
  refs: ReadonlyArray<{ accountId: AccountId; jobId: JobId }>,
): Promise<JobRecord[]> {
  const byAccount = Map.groupBy(refs, ({ accountId }) => accountId);
  const found = await Promise.all(
    [...byAccount].map(([accountId, ofAccount]) => {
      const ids = ofAccount.map(({ jobId }) => jobId);
      return orm
        .select(columns)
        .from(jobs)
        .where(and(eq(jobs.accountId, accountId), inArray(jobs.id, ids)));
    }),
  );
  return found.flat();
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
