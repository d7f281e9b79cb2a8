import type { AccountId } from '#domain/ids.ts';
import type { Database } from './database.ts';

/** What an account may submit; null for no limit. */
export interface SubmissionLimits {
  /** Submissions a second, in the long run; a second's worth of them, one at least, may come at once. */
  readonly perSecond: number | null;
  /** Jobs that have not ended. */
  readonly maxPending: number | null;
}

/** The limits that accounts have of their own; accounts without any are left out. */
export async function readSubmissionLimits({ sql }: Database): Promise<Map<AccountId, SubmissionLimits>> {
  const rows = await sql<Array<SubmissionLimits & { accountId: AccountId }>>`
    SELECT account_id AS "accountId", submissions_per_second AS "perSecond", max_pending AS "maxPending"
    FROM ringback.accounts WHERE submissions_per_second IS NOT NULL OR max_pending IS NOT NULL`;
  return new Map(rows.map(({ accountId, ...limits }) => [accountId, limits]));
}

export interface Admitted {
  /** Of those that asked. */
  readonly admitted: number;
  /** Places left among the jobs that have not ended, before this; null without such a limit. */
  readonly room: number | null;
  /** Submissions that could follow at once, and milliseconds until it is a second's worth again; null without a rate. */
  readonly remaining: number | null;
  readonly fullInMs: number | null;
}

/**
 * Admits as many of `count` submissions as the account may make now, in one statement, which is exact across processes:
 * the row's lock lets one after the other in. The rate is a leaky bucket by the generic cell rate algorithm (ITU-T I.371):
 * one timestamp says until when the account's submissions are paid for. By the database's clock. Pending jobs are counted
 * by `run_queue_pkey`, up to the limit; those that other processes store at this very moment are not seen yet.
 */
export async function admitSubmissions(
  { sql }: Database,
  accountId: AccountId,
  count: number,
  { perSecond, maxPending }: SubmissionLimits,
): Promise<Admitted | undefined> {
  const [row] = await sql<Admitted[]>`
    WITH account AS MATERIALIZED (
      -- No more than can have been paid: a clock that was ahead when it was written must not keep the account waiting.
      SELECT account_id, least(greatest(1, ${perSecond}::float8) / ${perSecond}::float8,
        greatest(0, extract(epoch FROM submissions_paid_until - now())::float8)) AS paid_s
      FROM ringback.accounts WHERE account_id = ${accountId} FOR NO KEY UPDATE
    ), room AS (
      SELECT account_id, coalesce(paid_s, 0) AS paid_s,
        greatest(0, ${maxPending}::int - (SELECT count(*) FROM (
          SELECT FROM ringback.run_queue WHERE run_queue.account_id = account.account_id
          LIMIT ${maxPending}::int) AS pending))::int AS room,
        floor((greatest(1, ${perSecond}::float8) / ${perSecond}::float8 - coalesce(paid_s, 0)) * ${perSecond}::float8 + 1e-6)::int
          AS burst
      FROM account
    ), decided AS (
      SELECT *, greatest(0, least(${count}::int,
        CASE WHEN ${maxPending}::int IS NOT NULL THEN room END, burst)) AS admitted
      FROM room
    )
    UPDATE ringback.accounts AS account SET submissions_paid_until = CASE
      WHEN ${perSecond}::float8 IS NULL THEN submissions_paid_until
      ELSE now() + (paid_s + admitted / ${perSecond}::float8) * interval '1 s' END
    FROM decided WHERE account.account_id = decided.account_id
    RETURNING admitted, CASE WHEN ${maxPending}::int IS NOT NULL THEN room END AS room, burst - admitted AS remaining,
      1000 * (paid_s + admitted / ${perSecond}::float8) AS "fullInMs"`;
  return row;
}

/** Above this many rows the queue's depth is PostgreSQL's own count of live rows, kept by its statistics. */
const COUNTED = 10_000;

/** Jobs that have not ended, of all accounts: exact while they are few, else as the statistics have it a moment ago. */
export async function queueDepth({ sql }: Database): Promise<number> {
  const [row] = await sql<[{ counted: number; estimated: number }]>`
    SELECT
      (SELECT count(*)::int FROM (SELECT FROM ringback.run_queue LIMIT ${COUNTED}) AS a_few) AS counted,
      coalesce(pg_stat_get_live_tuples('ringback.run_queue'::regclass), 0)::int AS estimated`;
  return row.counted < COUNTED ? row.counted : Math.max(row.counted, row.estimated);
}
