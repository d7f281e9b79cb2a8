import type { AccountId, JobId, RunId, WorkerId } from '#domain/ids.ts';
import type { RunHolder } from '#domain/run-holder.ts';
import type { Connection, Database } from './database.ts';

/** A run that is under way, and who may speak for it. */
export interface RunRef {
  readonly accountId: AccountId;
  readonly jobId: JobId;
  /** The fence. */
  readonly runId: RunId;
}

export interface JobRef {
  readonly accountId: AccountId;
  readonly jobId: JobId;
}

/**
 * Renews the leases of runs; answers those that were still theirs, and whether their client has called them off. `capped`
 * is for workers: a lease of theirs never outlives `deadline_at`. Without it only a runner's runs are renewed: one that was
 * handed over to a back end meanwhile would get a lease that nobody renews. By the later of two clocks: the database's may be
 * set back for a moment, and the statement may have waited. First those that nobody has locked: whoever holds one row must not keep
 * the leases of all others from being renewed.
 */
export async function renewLeases(
  sql: Connection,
  runs: readonly RunRef[],
  renewal: Renewal,
): Promise<readonly RenewedLease[]> {
  const free = await renewThose(sql, runs, renewal, sql`FOR NO KEY UPDATE SKIP LOCKED`);
  if (free.length === runs.length) return free;
  const done = new Set(free.map(({ runId }) => runId));
  const rest = runs.filter(({ runId }) => !done.has(runId));
  return [...free, ...(await renewThose(sql, rest, renewal, sql`FOR NO KEY UPDATE`))];
}

export interface Renewal {
  /** By the process's clock. */
  readonly now: Date;
  readonly leaseMs: number;
  readonly capped: boolean;
}

export interface RenewedLease {
  readonly runId: RunId;
  readonly leaseExpiresAt: Date;
  readonly cancelRequested: boolean;
}

type Fragment = ReturnType<Connection>;

async function renewThose(
  sql: Connection,
  runs: readonly RunRef[],
  { leaseMs, capped, now }: Renewal,
  locking: Fragment,
): Promise<readonly RenewedLease[]> {
  return sql<RenewedLease[]>`
    WITH held AS MATERIALIZED (
      SELECT item.account_id, item.job_id, item.run_id
      FROM json_to_recordset(${JSON.stringify(runs)}::text::json) AS run ("accountId" text, "jobId" text, "runId" text)
      CROSS JOIN LATERAL (
        SELECT account_id, job_id, run_id FROM ringback.run_queue AS item
        WHERE item.account_id = run."accountId" AND item.job_id = run."jobId" AND item.run_id = run."runId"
        ${locking}) AS item
      WHERE run."jobId" LIKE 'job\\_%' -- FEW_ROWS: see database.ts
    )
    UPDATE ringback.run_queue AS item SET lease_expires_at = CASE
      WHEN ${capped} THEN least(greatest(now(), ${now}) + ${leaseMs} * interval '1 ms', deadline_at)
      ELSE greatest(now(), ${now}) + ${leaseMs} * interval '1 ms' END
    FROM held
    WHERE item.account_id = held.account_id AND item.job_id = held.job_id AND item.run_id = held.run_id
      AND item.held_by = CASE WHEN ${capped} THEN 'worker' ELSE 'runner' END
      AND held.job_id LIKE 'job\\_%'
    RETURNING item.run_id AS "runId", lease_expires_at AS "leaseExpiresAt",
      cancel_requested_at IS NOT NULL AS "cancelRequested"`;
}

/** Makes ready what is due; answers the pools that got something. Served by `run_queue_delayed`; any number may call it. */
export async function promoteDue({ sql }: Database, now: Date, limit: number): Promise<ReadonlyMap<string, number>> {
  const pools = await sql<{ pool: string; items: number }[]>`
    WITH due AS MATERIALIZED (
      SELECT account_id, job_id FROM ringback.run_queue
      WHERE state = 'delayed' AND due_at <= ${now}
      ORDER BY due_at LIMIT ${limit}
      FOR UPDATE SKIP LOCKED
    ), promoted AS (
      UPDATE ringback.run_queue AS item SET state = 'ready' FROM due
      WHERE item.account_id = due.account_id AND item.job_id = due.job_id
      RETURNING item.pool
    )
    SELECT pool, count(*)::int AS items FROM promoted GROUP BY pool`;
  return new Map(pools.map(({ pool, items }) => [pool, items]));
}

export interface LapsedRun extends RunRef {
  readonly heldBy: RunHolder;
  /** True when the run had all the time it may take; otherwise whoever held it stopped renewing. */
  readonly timedOut: boolean;
  readonly timeoutMs: number;
  readonly cancelRequested: boolean;
}

export interface LapsedRunsWanted {
  readonly limit: number;
  readonly cancelGraceMs: number;
  readonly before: Date;
  /** Only the runs of these, though their leases have not run out. Not what a remote worker or a back end holds: it lives elsewhere. */
  readonly deadWorkers?: readonly WorkerId[] | null;
}

/**
 * Runs whose lease has run out, and those that were called off and have not stopped within `cancelGraceMs`: both by the clock of
 * the database and by `before`, so that a jump of the one ends no lease. Not those that are locked: whoever kept their worker from
 * ending them, or from renewing their lease, is at it still.
 */
export async function findLapsedRuns(
  { sql }: Database,
  { limit, cancelGraceMs, before, deadWorkers = null }: LapsedRunsWanted,
): Promise<LapsedRun[]> {
  return sql<LapsedRun[]>`
    SELECT account_id AS "accountId", job_id AS "jobId", run_id AS "runId", held_by AS "heldBy",
      deadline_at <= now() AND held_by <> 'runner' AS "timedOut", timeout_ms AS "timeoutMs",
      cancel_requested_at IS NOT NULL AS "cancelRequested"
    FROM ringback.run_queue
    WHERE state = 'leased'
      AND CASE WHEN ${deadWorkers}::text[] IS NULL
        THEN lease_expires_at < least(now(), ${before})
          OR cancel_requested_at < ${before}::timestamptz - ${cancelGraceMs} * interval '1 ms'
        ELSE held_by = 'runner' AND worker_id = ANY (${deadWorkers}::text[]) END
    LIMIT ${limit}
    FOR NO KEY UPDATE SKIP LOCKED`;
}

/** Jobs that were not started in time. Served by `run_queue_expiring`. */
export async function findExpiredJobs({ sql }: Database, now: Date, limit: number): Promise<JobRef[]> {
  return sql<JobRef[]>`
    SELECT account_id AS "accountId", job_id AS "jobId" FROM ringback.run_queue
    WHERE expires_at <= ${now} AND state <> 'leased'
    ORDER BY expires_at LIMIT ${limit}`;
}

/**
 * Marks the run of a job that is under way, whichever it is, as called off, and answers which; undefined when none is. The
 * queue's row first, as everywhere: whoever holds the run reads it there.
 */
export async function requestCancel({ sql }: Database, job: JobRef, now: Date): Promise<RunId | undefined> {
  const [marked] = await sql<{ runId: RunId }[]>`
    WITH item AS (
      UPDATE ringback.run_queue SET cancel_requested_at = coalesce(cancel_requested_at, ${now})
      WHERE account_id = ${job.accountId} AND job_id = ${job.jobId} AND state = 'leased'
      RETURNING account_id, job_id, run_id
    )
    UPDATE ringback.jobs AS job SET
      cancel_requested_at = coalesce(cancel_requested_at, ${now}),
      updated_at = CASE WHEN cancel_requested_at IS NULL THEN ${now} ELSE updated_at END
    FROM item WHERE job.account_id = item.account_id AND job.id = item.job_id
    RETURNING item.run_id AS "runId"`;
  return marked?.runId;
}

/** Hands a run over to the back end that answered 202: nobody renews its lease, which lasts until the run's time is up. */
export async function deferRun(sql: Connection, run: RunRef): Promise<boolean> {
  const deferred = await sql`
    UPDATE ringback.run_queue SET held_by = 'backend', lease_expires_at = deadline_at
    WHERE account_id = ${run.accountId} AND job_id = ${run.jobId} AND run_id = ${run.runId}`;
  return deferred.count === 1;
}

/** The pools that hold something, ready or not: few, so that hopping from one to the next is cheap. */
export async function listReadyPools({ sql }: Database): Promise<string[]> {
  const pools = await sql<{ pool: string }[]>`
    WITH RECURSIVE pool AS (
      (SELECT pool FROM ringback.run_queue WHERE state = 'ready' ORDER BY pool LIMIT 1)
      UNION ALL
      SELECT next.pool FROM pool CROSS JOIN LATERAL (
        SELECT item.pool FROM ringback.run_queue AS item
        WHERE state = 'ready' AND item.pool > pool.pool ORDER BY item.pool LIMIT 1) AS next
    )
    SELECT pool FROM pool`;
  return pools.map(({ pool }) => pool);
}

/** Those of the pools that hold something ready: one probe of `run_queue_ready` each. */
export async function findReadyPools({ sql }: Database, pools: readonly string[]): Promise<string[]> {
  const ready = await sql<{ pool: string }[]>`
    SELECT given.pool FROM unnest(${[...pools]}::text[]) AS given (pool)
    CROSS JOIN LATERAL (
      SELECT FROM ringback.run_queue AS item WHERE item.pool = given.pool AND state = 'ready' LIMIT 1) AS item`;
  return ready.map(({ pool }) => pool);
}

/** Moves what waits in a pool that nobody takes from any more to the pool that its type is in now. */
export async function moveToPool(
  { sql }: Database,
  move: { from: string; type: string; to: string; limit: number },
): Promise<number> {
  const moved = await sql`
    UPDATE ringback.run_queue SET pool = ${move.to}
    WHERE (account_id, job_id) IN (
      SELECT account_id, job_id FROM ringback.run_queue
      WHERE pool = ${move.from} AND state = 'ready' AND type = ${move.type}
      LIMIT ${move.limit} FOR UPDATE SKIP LOCKED)`;
  return moved.count;
}
