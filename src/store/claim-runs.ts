import { newId, type RunId } from '#domain/ids.ts';
import type { RunHolder } from '#domain/run-holder.ts';
import type { Connection, Database } from './database.ts';
import { isSubscribed } from './fan-out.ts';
import type { JobRecord } from './jobs.ts';

export interface RunClaim {
  readonly pool: string;
  /** Runs at most. */
  readonly limit: number;
  readonly workerId: string;
  readonly heldBy: RunHolder;
  readonly leaseMs: number;
  /** Lanes are looked at after this account, and around: `nextAccount` of the claim before, or empty. */
  readonly afterAccount: string;
  readonly now: Date;
  /** Runs of this pool at once, and of an account whose row says nothing; null for no limit. */
  readonly poolLimit: number | null;
  readonly accountLimit: number | null;
  /** Limits hold across processes only if claims that mind them come one after the other. */
  readonly exclusive: boolean;
}

/** A run that is ours: the job as it is now, its input, and how long the run may take. */
export interface ClaimedJob extends JobRecord {
  /** JSON as it was submitted. */
  readonly inputText: string;
  readonly runId: RunId;
  readonly runStartedAt: Date;
  readonly runTimeoutMs: number;
  /** The lease by the later of the database's clock and ours, the deadline by ours. */
  readonly leaseExpiresAt: Date;
  readonly deadlineAt: Date;
}

export interface Claimed {
  readonly jobs: readonly ClaimedJob[];
  /** True when the pool may hold more that could start now. */
  readonly more: boolean;
  readonly nextAccount: string;
}

/** Accounts that one claim looks at. Claims go round: the next one starts after the last account that got something. */
const MAX_LANES = 64;
/** Two digits of base 32 number the runs of one claim. */
const MAX_RUNS = 1000;
const BASE_32 = '0123456789abcdefghjkmnpqrstvwxyz';

/** Any number, as long as it is only ours: "rbclaims" in ASCII. */
const CLAIM_LOCK = '8241986454180162931';

/**
 * Starts runs: takes what is ready in a pool, marks the jobs, and records the event of each first run, in one statement.
 *
 * Fair by account: an account that has little running comes before one that has much, among equals they take turns, and
 * what there is to take is shared among those that wait. So somebody's backlog of 10,000 does not stand before somebody
 * else's single job, however few may run at once. `run_queue_ready` serves it: one probe for each account with something
 * ready (never more than MAX_LANES), then the front of each lane; the cost knows neither the backlog nor the number of job
 * types. SKIP LOCKED leaves to another claim what it is taking.
 */
export async function claimRuns(db: Database, claim: RunClaim): Promise<Claimed> {
  if (!claim.exclusive) return take(db.sql, claim);
  return db.transaction(async (tx) => {
    await tx`SELECT pg_advisory_xact_lock(${CLAIM_LOCK}::bigint)`;
    return take(tx, claim);
  });
}

async function take(sql: Connection, claim: RunClaim): Promise<Claimed> {
  const { pool, workerId, heldBy, leaseMs, afterAccount, now, poolLimit, accountLimit } = claim;
  const limit = Math.min(claim.limit, MAX_RUNS);
  // The ids of one claim share their time and most of their random bits; the last two digits count (RFC 9562, 6.2).
  const ids = newId('run', now.getTime()).slice('run_'.length, -2);
  const tells = sql`(leased.tells_start OR coalesce('job.started' = ANY (job.callback_events), false))`;
  const rows = await sql<Row[]>`
    WITH RECURSIVE walk AS (
      SELECT ${afterAccount}::text COLLATE "C" AS account_id, 0 AS number, false AS wrapped
      UNION ALL
      SELECT next.account_id, walk.number + 1, next.wrapped
      FROM walk CROSS JOIN LATERAL (
        -- The next account; after the last of them the first, up to where the walk began.
        (SELECT account_id, walk.wrapped FROM ringback.run_queue
          WHERE pool = ${pool} AND state = 'ready' AND account_id > walk.account_id
            AND (NOT walk.wrapped OR account_id <= ${afterAccount})
          ORDER BY account_id LIMIT 1)
        UNION ALL
        (SELECT account_id, true FROM ringback.run_queue
          WHERE pool = ${pool} AND state = 'ready' AND NOT walk.wrapped AND account_id <= ${afterAccount}
          ORDER BY account_id LIMIT 1)
        LIMIT 1) AS next
      WHERE walk.number < ${MAX_LANES}
    ), lane AS (
      SELECT * FROM walk WHERE number > 0
    ), running AS MATERIALIZED (
      SELECT pool, account_id, count(*)::int AS runs FROM ringback.run_queue
      WHERE state = 'leased' GROUP BY pool, account_id
    ), room AS (
      SELECT greatest(0, least(
        ${limit}, ${poolLimit}::int - (SELECT coalesce(sum(runs), 0) FROM running WHERE running.pool = ${pool})))::int AS places
    ), candidate AS (
      SELECT lane.account_id, lane.number, coalesce(sum(running.runs), 0)::int AS runs,
        coalesce(account.max_running, ${accountLimit}::int) AS most
      FROM lane
      JOIN ringback.accounts AS account ON account.account_id = lane.account_id
      LEFT JOIN running ON running.account_id = lane.account_id
      GROUP BY lane.account_id, lane.number, account.max_running
    ), share AS (
      SELECT account_id, number AS lane, least(places / lanes + (rank <= places % lanes)::int, most - runs) AS places,
        EXISTS (SELECT FROM ringback.endpoints AS endpoint
          WHERE ${isSubscribed(sql, sql`ranked.account_id`, sql`'job.started'`)}) AS tells_start
      FROM room CROSS JOIN (
        SELECT *, row_number() OVER (ORDER BY runs, number) AS rank, count(*) OVER () AS lanes
        FROM candidate WHERE most IS NULL OR runs < most) AS ranked
    ), picked AS MATERIALIZED (
      SELECT item.account_id, item.job_id, share.lane, share.tells_start, (row_number() OVER ())::int AS number
      FROM share CROSS JOIN LATERAL (
        SELECT account_id, job_id FROM ringback.run_queue AS item
        WHERE pool = ${pool} AND state = 'ready' AND item.account_id = share.account_id
          AND (expires_at IS NULL OR expires_at > ${now})
        ORDER BY priority DESC, due_at, job_id
        LIMIT share.places
        FOR UPDATE SKIP LOCKED) AS item
    ), leased AS (
      UPDATE ringback.run_queue AS item SET
        state = 'leased',
        run_id = 'run_' || ${ids}::text || substr(${BASE_32}, number / 32 + 1, 1) || substr(${BASE_32}, number % 32 + 1, 1),
        worker_id = ${workerId},
        held_by = ${heldBy},
        -- A runner minds the time itself, and may take a moment longer to write down that it is up.
        lease_expires_at = CASE WHEN ${heldBy} = 'worker'
          THEN least(greatest(now(), ${now}) + ${leaseMs} * interval '1 ms', ${now}::timestamptz + timeout_ms * interval '1 ms')
          ELSE greatest(now(), ${now}) + ${leaseMs} * interval '1 ms' END,
        deadline_at = ${now}::timestamptz + timeout_ms * interval '1 ms',
        expires_at = NULL
      FROM picked
      WHERE item.account_id = picked.account_id AND item.job_id = picked.job_id
      RETURNING item.account_id, item.job_id, item.run_id, item.timeout_ms, item.lease_expires_at, item.deadline_at,
        picked.lane, picked.tells_start
    ), started AS (
      UPDATE ringback.jobs AS job SET
        status = 'in_progress',
        run_count = run_count + 1,
        sequence = sequence + (run_count = 0 AND NOT ${tells})::int,
        is_start_untold = is_start_untold OR (run_count = 0 AND ${tells}),
        started_at = coalesce(started_at, ${now}),
        run_id = leased.run_id,
        run_started_at = ${now},
        worker_id = ${workerId},
        next_run_at = NULL,
        updated_at = ${now}
      FROM leased
      WHERE job.account_id = leased.account_id AND job.id = leased.job_id AND job.status IN ('queued', 'in_progress')
      RETURNING job.*, leased.timeout_ms AS run_timeout_ms, leased.lease_expires_at, leased.deadline_at, leased.lane
    ), event AS (
      -- One event a run at most: the run's own number is as good as one of its own. Where somebody is to be told, whoever
      -- works the run off writes it, with what is told, before the work begins.
      INSERT INTO ringback.events (account_id, id, type, job_id, sequence, created_at)
      SELECT account_id, 'evt_' || substr(run_id, 5), 'job.started', id, sequence, ${now} FROM started WHERE run_count = 1 AND NOT is_start_untold
    )
    SELECT
      account_id AS "accountId", id, type, status, input::text AS "inputText", output::text AS "outputText", error,
      progress, metadata, priority,
      timeout_ms AS "timeoutMs", retry, run_at AS "runAt", expires_at AS "expiresAt", schedule_id AS "scheduleId",
      scheduled_for AS "scheduledFor", result_run_id AS "resultRunId", result_type AS "resultType",
      result_bytes AS "resultBytes",
      result_sha256 AS "resultSha256", callback_endpoint_id AS "callbackEndpointId", callback_url AS "callbackUrl",
      callback_events AS "callbackEvents", run_count AS "runCount", failure_count AS "failureCount", sequence,
      is_start_untold AS "isStartUntold",
      created_at AS "createdAt", updated_at AS "updatedAt", started_at AS "startedAt", run_id AS "runId",
      run_started_at AS "runStartedAt", worker_id AS "workerId", next_run_at AS "nextRunAt",
      cancel_requested_at AS "cancelRequestedAt", finished_at AS "finishedAt", run_timeout_ms AS "runTimeoutMs",
      lease_expires_at AS "leaseExpiresAt", deadline_at AS "deadlineAt",
      lane, looked.*, (SELECT places FROM room)
    FROM (
      SELECT max(number) AS lanes, bool_or(wrapped) AS wrapped, max(account_id) FILTER (WHERE NOT wrapped) AS "lastAccount"
      FROM walk) AS looked LEFT JOIN started ON true`;
  return answer(rows, limit);
}

/** A run that was started, or nulls; and what the claim saw, the same in every row. */
type Row = (({ readonly lane: number } & ClaimedJob) | { readonly lane: null }) & {
  readonly lanes: number;
  /** The walk went past the last account. */
  readonly wrapped: boolean;
  readonly lastAccount: string;
  readonly places: number;
};

/** The rows are the jobs, with a few members too many: to copy forty of them without those costs 15 us a run. */
function answer(rows: readonly Row[], limit: number): Claimed {
  const [{ lanes, wrapped, lastAccount, places }] = rows as [Row];
  const jobs: ClaimedJob[] = [];
  let [last, nextAccount] = [0, ''];
  for (const row of rows) {
    if (row.lane === null) continue;
    jobs.push(row);
    if (row.lane > last) [last, nextAccount] = [row.lane, row.accountId];
  }
  if (jobs.length > 0) return { jobs, more: jobs.length >= limit || lanes > 1, nextAccount };
  // Nothing may start in these lanes, whose accounts have as much running as they may: go on behind them, once around.
  const goesOn = lanes === MAX_LANES && !wrapped && places > 0;
  return { jobs, more: goesOn, nextAccount: goesOn ? lastAccount : '' };
}
