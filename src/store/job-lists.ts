import type { AccountId, JobId } from '#domain/ids.ts';
import type { JobStatus } from '#domain/job.ts';
import type { Database } from './database.ts';
import { jobColumns } from './job-columns.ts';
import type { JobRecord } from './jobs.ts';

/** Which jobs of an account. */
export interface JobMatch {
  /** Null for any, as with the statuses. */
  readonly types: readonly string[] | null;
  readonly statuses: readonly JobStatus[] | null;
  /** Every one of these; empty for whatever they have. */
  readonly metadata: Readonly<Record<string, string>>;
  /** The lowest id that fits, and the one that all are below: ids sort by time. */
  readonly from: JobId;
  readonly below: JobId;
}

export interface Scanned {
  /** Newest first. */
  readonly jobs: readonly JobRecord[];
  /** The job that was looked at last, when the page is not full and there may be more. */
  readonly stoppedAt: JobId | null;
}

interface Scan {
  readonly limit: number;
  /** Jobs to look at, at most. */
  readonly look: number;
}

/**
 * Newest first, by `jobs_pkey` backwards. Looks at `look` jobs at most, however rare those that match: 2,000 take 3 to 5 ms
 * among 200,000. Both subselects have one snapshot, so that the second finds what the first looked at last.
 */
export async function scanJobs({ sql }: Database, accountId: AccountId, match: JobMatch, scan: Scan): Promise<Scanned> {
  const { types, statuses, from, below } = match;
  const { limit, look } = scan;
  const rows = await sql<ScanRow[]>`
    WITH page AS MATERIALIZED (
      SELECT job.* FROM (
        SELECT * FROM ringback.jobs
        WHERE account_id = ${accountId} AND id < ${below} AND id >= ${from}
        ORDER BY id DESC LIMIT ${look}) AS job
      WHERE (${types}::text[] IS NULL OR type = ANY (${types}::text[]))
        AND (${statuses}::text[] IS NULL OR status = ANY (${statuses}::text[]))
        AND metadata @> ${JSON.stringify(match.metadata)}::text::jsonb
      ORDER BY id DESC LIMIT ${limit}
    )
    SELECT stop.id AS "stoppedAt", ${jobColumns(sql)}
    FROM (SELECT CASE WHEN (SELECT count(*) FROM page) < ${limit} THEN (
      SELECT id FROM ringback.jobs
      WHERE account_id = ${accountId} AND id < ${below} AND id >= ${from}
      ORDER BY id DESC OFFSET ${look - 1} LIMIT 1) END AS id) AS stop
    LEFT JOIN page ON true
    ORDER BY page.id DESC`;
  return toScanned(rows);
}

/**
 * The same for jobs that have not ended: those have a row in the queue, so that what is over need not be looked at.
 *
 * ONE_BY_ONE: joined plainly, a plan made while the tables were small reads all jobs of the account and looks for the ids
 * among them (216,000 buffers for 500 of 8,000 jobs, instead of 1,500). A LIMIT keeps the look-up by key as it stands.
 */
export async function scanOpenJobs(
  { sql }: Database,
  accountId: AccountId,
  match: JobMatch,
  scan: Scan,
): Promise<Scanned> {
  const { types, statuses, from, below } = match;
  const { limit, look } = scan;
  const rows = await sql<ScanRow[]>`
    WITH page AS MATERIALIZED (
      SELECT job.* FROM (
        SELECT job_id FROM ringback.run_queue
        WHERE account_id = ${accountId} AND job_id < ${below} AND job_id >= ${from}
        ORDER BY job_id DESC LIMIT ${look}) AS item
      CROSS JOIN LATERAL (
        SELECT * FROM ringback.jobs WHERE account_id = ${accountId} AND id = item.job_id LIMIT 1) AS job -- ONE_BY_ONE
      WHERE (${types}::text[] IS NULL OR type = ANY (${types}::text[]))
        AND (${statuses}::text[] IS NULL OR status = ANY (${statuses}::text[]))
        AND metadata @> ${JSON.stringify(match.metadata)}::text::jsonb
      ORDER BY item.job_id DESC LIMIT ${limit}
    )
    SELECT stop.id AS "stoppedAt", ${jobColumns(sql)}
    FROM (SELECT CASE WHEN (SELECT count(*) FROM page) < ${limit} THEN (
      SELECT job_id FROM ringback.run_queue
      WHERE account_id = ${accountId} AND job_id < ${below} AND job_id >= ${from}
      ORDER BY job_id DESC OFFSET ${look - 1} LIMIT 1) END AS id) AS stop
    LEFT JOIN page ON true
    ORDER BY page.id DESC`;
  return toScanned(rows);
}

type ScanRow = { stoppedAt: JobId | null } & (JobRecord | { id: null });

function toScanned(rows: readonly ScanRow[]): Scanned {
  const jobs = rows.flatMap(({ stoppedAt: _stop, ...job }) => (job.id === null ? [] : [job]));
  return { jobs, stoppedAt: rows[0]?.stoppedAt ?? null };
}

/**
 * Newest first, by what their metadata holds: `jobs_by_metadata` finds every job that has it, of whatever account. Undefined
 * when those are more than `most`: then the index is no help, and nothing else was looked at.
 */
export async function findJobsByMetadata(
  { sql }: Database,
  accountId: AccountId,
  match: JobMatch,
  { limit, most }: { limit: number; most: number },
): Promise<readonly JobRecord[] | undefined> {
  const { types, statuses, from, below } = match;
  const rows = await sql<Array<{ found: number } & (JobRecord | { id: null })>>`
    WITH found AS MATERIALIZED (
      SELECT account_id, id, type, status FROM ringback.jobs
      WHERE metadata @> ${JSON.stringify(match.metadata)}::text::jsonb AND metadata <> '{}'
      LIMIT ${most + 1}
    ), total AS MATERIALIZED (
      SELECT count(*)::int AS jobs FROM found
    ), matching AS MATERIALIZED (
      SELECT account_id, id FROM found
      WHERE (SELECT jobs FROM total) <= ${most}
        AND account_id = ${accountId} AND id < ${below} AND id >= ${from}
        AND (${types}::text[] IS NULL OR type = ANY (${types}::text[]))
        AND (${statuses}::text[] IS NULL OR status = ANY (${statuses}::text[]))
      ORDER BY id DESC LIMIT ${limit}
    )
    SELECT total.jobs AS found, ${jobColumns(sql)}
    FROM total LEFT JOIN (
      matching CROSS JOIN LATERAL (
        SELECT * FROM ringback.jobs
        WHERE account_id = matching.account_id AND id = matching.id LIMIT 1) AS page) ON true -- ONE_BY_ONE
    ORDER BY page.id DESC`;
  if ((rows[0]?.found ?? 0) > most) return undefined;
  return rows.flatMap(({ found: _found, ...job }) => (job.id === null ? [] : [job]));
}
