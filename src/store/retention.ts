import type { AccountId, DeliveryId, JobId } from '#domain/ids.ts';
import type { Database } from './database.ts';

export interface AccountRetention {
  readonly accountId: AccountId;
  /** Null for what the configuration says. */
  readonly retentionDays: number | null;
}

/** The account that follows one, or the first. */
export async function findNextAccount({ sql }: Database, after: AccountId | ''): Promise<AccountRetention | undefined> {
  const [account] = await sql<AccountRetention[]>`
    SELECT account_id AS "accountId", retention_days AS "retentionDays" FROM ringback.accounts
    WHERE account_id > ${after} ORDER BY account_id LIMIT 1`;
  return account;
}

export interface OldJob {
  readonly id: JobId;
  /** Over for long enough, and nobody is left to be told. */
  readonly isDue: boolean;
  readonly resultBytes: number;
}

/** The next jobs of an account, oldest first, by `jobs_pkey`; and by `deliveries_of_job` whether they are still needed. */
export async function findOldJobs(
  { sql }: Database,
  accountId: AccountId,
  page: { after: JobId; below: JobId; finishedBefore: Date; limit: number },
): Promise<OldJob[]> {
  return sql<OldJob[]>`
    SELECT id, coalesce(result_bytes, 0)::float8 AS "resultBytes",
      coalesce(finished_at < ${page.finishedBefore}, false) AND (
        SELECT count(*) FROM ringback.deliveries AS delivery
        WHERE delivery.job_id = job.id AND delivery.status IN ('pending', 'held')) = 0 AS "isDue"
    FROM ringback.jobs AS job
    WHERE account_id = ${accountId} AND id > ${page.after} AND id < ${page.below}
    ORDER BY id LIMIT ${page.limit}`;
}

/**
 * Takes jobs away with their deliveries and stored results, and leaves tombstones; answers how many. Runs, events, attempts
 * and logs stay until their partitions go. Two keepers at once: the second waits for the first's rows, and finds them gone. A
 * delivery that is taken up again meanwhile stays, and by its foreign key so does everything of this statement.
 *
 * A job's deliveries and runs are named by its id alone, which is unique: with the account beside it, PostgreSQL would read
 * the account's part of their primary keys for each job (docs/decisions/0003).
 */
export async function retireJobs(
  { sql }: Database,
  accountId: AccountId,
  /** `ids` in their order. */
  { ids, finishedBefore, now }: { ids: readonly JobId[]; finishedBefore: Date; now: Date },
): Promise<number> {
  const [retired] = await sql<[{ jobs: number }]>`
    WITH removed AS (
      DELETE FROM ringback.jobs
      WHERE account_id = ${accountId} AND id = ANY (${ids}::text[]) AND finished_at < ${finishedBefore}
        AND id >= ${ids[0] ?? ''} AND id <= ${ids.at(-1) ?? ''} -- for plans that take the list for a filter
      RETURNING *
    ), tombstone AS (
      INSERT INTO ringback.job_tombstones (account_id, id, type, status, created_at, finished_at, expired_at)
      SELECT account_id, id, type, status, created_at, finished_at, ${now} FROM removed
    ), told AS (
      DELETE FROM ringback.deliveries AS delivery USING removed
      WHERE delivery.job_id = removed.id AND delivery.status NOT IN ('pending', 'held')
        AND removed.id LIKE 'job\\_%' -- FEW_ROWS: see database.ts
    ), result AS MATERIALIZED (
      SELECT result_run_id AS run_id FROM removed WHERE result_run_id IS NOT NULL
      UNION
      -- What a run left behind that died before it could take its chunks away.
      SELECT run.id FROM removed
      JOIN ringback.job_runs AS run ON run.job_id = removed.id
        AND run.started_at >= removed.created_at AND run.started_at <= removed.finished_at
      WHERE removed.id LIKE 'job\\_%'
    ), chunk AS (
      DELETE FROM ringback.result_chunks AS chunk USING result
      WHERE chunk.account_id = ${accountId} AND chunk.run_id = result.run_id AND result.run_id LIKE 'run\\_%'
    )
    SELECT count(*)::int AS jobs FROM removed`;
  return retired.jobs;
}

/**
 * Takes away old deliveries of events that are no job's, as retired jobs take theirs with them: what has yet to be sent stays.
 * Looks at so many of the account's deliveries, oldest first; answers the last it looked at, undefined when there were fewer.
 * Served by `deliveries_pkey`: what is older than the jobs that are kept is little else.
 */
export async function deleteNotices(
  { sql }: Database,
  accountId: AccountId,
  page: { after: DeliveryId; below: DeliveryId; limit: number },
): Promise<DeliveryId | undefined> {
  const [looked] = await sql<[{ last: DeliveryId | null; deliveries: number }]>`
    WITH looked AS MATERIALIZED (
      SELECT id, job_id FROM ringback.deliveries
      WHERE account_id = ${accountId} AND id > ${page.after} AND id < ${page.below}
      ORDER BY id LIMIT ${page.limit}
    ), deleted AS (
      DELETE FROM ringback.deliveries AS delivery USING looked
      WHERE delivery.account_id = ${accountId} AND delivery.id = looked.id AND looked.job_id IS NULL
        AND delivery.status NOT IN ('pending', 'held') AND looked.id LIKE 'dlv\\_%' -- FEW_ROWS: see database.ts
    )
    SELECT max(id) AS last, count(*)::int AS deliveries FROM looked`;
  return looked.deliveries < page.limit ? undefined : (looked.last ?? undefined);
}
