import type { ATTEMPT_TRIGGERS } from '#domain/attempt.ts';
import type { DeliveryOrder } from '#domain/endpoint-policy.ts';
import type { AccountId, AttemptId, DeliveryId, EndpointId, EventId, JobId, WorkerId } from '#domain/ids.ts';
import type { Connection, Database } from './database.ts';

/** An attempt under way. */
export interface AttemptRef {
  readonly accountId: AccountId;
  readonly deliveryId: DeliveryId;
  /** The fence. */
  readonly attemptId: AttemptId;
}

/**
 * Renews the leases of attempts; answers those that were still theirs. By the later of two clocks: the
 * database's may be set back for a moment, and the statement may have waited. First those that nobody has locked, so that somebody who
 * holds one row cannot keep the leases of all others from being renewed.
 */
export async function renewAttempts(
  sql: Connection,
  attempts: readonly AttemptRef[],
  lease: Lease,
): Promise<ReadonlySet<AttemptId>> {
  const free = await renewThose(sql, attempts, lease, sql`FOR NO KEY UPDATE SKIP LOCKED`);
  if (free.size === attempts.length) return free;
  const rest = attempts.filter(({ attemptId }) => !free.has(attemptId));
  return new Set([...free, ...(await renewThose(sql, rest, lease, sql`FOR NO KEY UPDATE`))]);
}

/** How long it lasts, and from when: by the process's clock. */
export interface Lease {
  readonly leaseMs: number;
  readonly now: Date;
}

type Fragment = ReturnType<Connection>;

async function renewThose(
  sql: Connection,
  attempts: readonly AttemptRef[],
  { leaseMs, now }: Lease,
  locking: Fragment,
): Promise<ReadonlySet<AttemptId>> {
  const renewed = await sql<{ attemptId: AttemptId }[]>`
    WITH held AS MATERIALIZED (
      SELECT item.account_id, item.delivery_id, item.attempt_id
      FROM json_to_recordset(${JSON.stringify(attempts)}::text::json) AS attempt (
        "accountId" text, "deliveryId" text, "attemptId" text)
      CROSS JOIN LATERAL (
        SELECT account_id, delivery_id, attempt_id FROM ringback.delivery_queue AS item
        WHERE item.account_id = attempt."accountId" AND item.delivery_id = attempt."deliveryId"
          AND item.attempt_id = attempt."attemptId"
        ${locking}) AS item
      WHERE attempt."deliveryId" LIKE 'dlv\\_%' -- FEW_ROWS: see database.ts
    )
    UPDATE ringback.delivery_queue AS item SET lease_expires_at = greatest(now(), ${now}) + ${leaseMs} * interval '1 ms'
    FROM held
    WHERE item.account_id = held.account_id AND item.delivery_id = held.delivery_id AND item.attempt_id = held.attempt_id
      AND held.delivery_id LIKE 'dlv\\_%'
    RETURNING item.attempt_id AS "attemptId"`;
  return new Set(renewed.map(({ attemptId }) => attemptId));
}

/**
 * Gives attempts back that were claimed and not made: their deliveries are as they were before the claim, and no attempt is on
 * record. Their endpoints are passed over until `pausedUntil`, or the next claim would take the same again. The queue's rows are
 * locked before those of the endpoints, here as everywhere.
 */
export async function giveBackAttempts(
  sql: Connection,
  attempts: readonly AttemptRef[],
  pausedUntil: Date,
): Promise<void> {
  await sql`
    WITH given_back AS (
      UPDATE ringback.delivery_queue AS item SET
        state = 'ready', attempt_id = NULL, worker_id = NULL, leased_at = NULL, lease_expires_at = NULL
      FROM json_to_recordset(${JSON.stringify(attempts)}::text::json) AS attempt (
        "accountId" text, "deliveryId" text, "attemptId" text)
      WHERE item.account_id = attempt."accountId" AND item.delivery_id = attempt."deliveryId"
        AND item.attempt_id = attempt."attemptId"
        AND attempt."deliveryId" LIKE 'dlv\\_%' -- FEW_ROWS: see database.ts
      RETURNING item.account_id, item.endpoint_id
    )
    UPDATE ringback.endpoint_lanes AS lane SET blocked_until = ${pausedUntil}
    FROM (SELECT DISTINCT account_id, endpoint_id FROM given_back) AS endpoint
    WHERE lane.account_id = endpoint.account_id AND lane.endpoint_id = endpoint.endpoint_id`;
}

/** Makes ready what is due; answers how many. Served by `delivery_queue_delayed`; any number may call it. */
export async function promoteDueDeliveries({ sql }: Database, now: Date, limit: number): Promise<number> {
  const promoted = await sql`
    WITH due AS MATERIALIZED (
      SELECT account_id, delivery_id FROM ringback.delivery_queue
      WHERE state = 'delayed' AND due_at <= ${now}
      ORDER BY due_at LIMIT ${limit}
      FOR UPDATE SKIP LOCKED
    )
    UPDATE ringback.delivery_queue AS item SET state = 'ready' FROM due
    WHERE item.account_id = due.account_id AND item.delivery_id = due.delivery_id`;
  return promoted.count;
}

export interface Advanced {
  /** Deliveries that may be sent now. */
  readonly advanced: number;
  /** Jobs of which some were given up: to be advanced once more, after the commit. */
  readonly again: readonly JobId[];
}

/**
 * Lets the first of what waits for an endpoint of each job go, if it is `behind`; what tells of a progress and has something later
 * waiting after it is not sent any more, unless it is under way. To be called after the commit of whatever put a delivery behind
 * another, or took one out of the way of others, as this itself does: whoever commits last sees all, so that none is left behind
 * by two at once. It waits for nobody, so that two of them cannot wait for each other: who holds a row lets go what follows it.
 * Served by `delivery_queue_of_job`; only what is queued is looked at, for a long job has told much.
 */
export async function advanceJobs(sql: Connection, jobIds: readonly JobId[], now: Date): Promise<Advanced> {
  const [done] = await sql<[Advanced]>`
    WITH waiting AS MATERIALIZED (
      SELECT item.account_id, item.delivery_id, item.job_id, item.endpoint_id, item.position, item.state,
        delivery.event_type = 'job.progress' AND item.state <> 'leased'
          AND item.position < max(item.position) OVER (PARTITION BY item.job_id, item.endpoint_id) AS is_outdated
      FROM unnest(${[...new Set(jobIds)]}::text[]) AS job (id)
      CROSS JOIN LATERAL (SELECT * FROM ringback.delivery_queue AS item WHERE item.job_id = job.id) AS item
      CROSS JOIN LATERAL (
        SELECT event_type FROM ringback.deliveries AS delivery
        WHERE delivery.account_id = item.account_id AND delivery.id = item.delivery_id LIMIT 1) AS delivery -- ONE_BY_ONE
    ), outdated AS MATERIALIZED (
      SELECT item.account_id, item.delivery_id
      FROM waiting CROSS JOIN LATERAL (
        SELECT account_id, delivery_id FROM ringback.delivery_queue AS item
        WHERE item.account_id = waiting.account_id AND item.delivery_id = waiting.delivery_id AND item.state <> 'leased'
        FOR UPDATE SKIP LOCKED) AS item
      WHERE waiting.is_outdated
    ), unqueued AS (
      DELETE FROM ringback.delivery_queue AS item USING outdated
      WHERE item.account_id = outdated.account_id AND item.delivery_id = outdated.delivery_id
        AND outdated.delivery_id LIKE 'dlv\\_%' -- FEW_ROWS: see database.ts
      RETURNING outdated.*, item.job_id
    ), superseded AS (
      UPDATE ringback.deliveries AS delivery SET
        status = 'superseded', next_attempt_at = NULL, updated_at = ${now}, finished_at = ${now}
      FROM unqueued WHERE delivery.account_id = unqueued.account_id AND delivery.id = unqueued.delivery_id
        AND unqueued.delivery_id LIKE 'dlv\\_%'
    ), first AS (
      SELECT DISTINCT ON (job_id, endpoint_id) account_id, delivery_id, state FROM waiting
      WHERE delivery_id NOT IN (SELECT delivery_id FROM unqueued)
      ORDER BY job_id, endpoint_id, position
    ), free AS MATERIALIZED (
      SELECT item.account_id, item.delivery_id
      FROM first CROSS JOIN LATERAL (
        SELECT account_id, delivery_id FROM ringback.delivery_queue AS item
        WHERE item.account_id = first.account_id AND item.delivery_id = first.delivery_id AND item.state = 'behind'
        FOR UPDATE SKIP LOCKED) AS item
      WHERE first.state = 'behind'
    ), advanced AS (
      UPDATE ringback.delivery_queue AS item SET state = 'ready' FROM free
      WHERE item.account_id = free.account_id AND item.delivery_id = free.delivery_id AND free.delivery_id LIKE 'dlv\\_%'
      RETURNING item.delivery_id
    )
    SELECT (SELECT count(*)::int FROM advanced) AS advanced, ARRAY(SELECT DISTINCT job_id FROM unqueued) AS again`;
  return done;
}

/** Lets go what `advanceJobs` should have: its process died first. Served by `delivery_queue_of_job`. */
export async function advanceStranded({ sql }: Database, limit: number): Promise<number> {
  const advanced = await sql`
    WITH stranded AS MATERIALIZED (
      SELECT account_id, delivery_id FROM ringback.delivery_queue AS item
      WHERE state = 'behind' AND job_id IS NOT NULL AND NOT EXISTS (
        SELECT FROM ringback.delivery_queue AS earlier
        WHERE earlier.job_id = item.job_id AND earlier.endpoint_id = item.endpoint_id AND earlier.position < item.position)
      LIMIT ${limit}
      FOR UPDATE SKIP LOCKED
    )
    UPDATE ringback.delivery_queue AS item SET state = 'ready' FROM stranded
    WHERE item.account_id = stranded.account_id AND item.delivery_id = stranded.delivery_id AND item.state = 'behind'`;
  return advanced.count;
}

/** An attempt that nobody speaks for any more. */
export interface LapsedAttempt extends AttemptRef {
  readonly eventId: EventId;
  readonly jobId: JobId | null;
  readonly endpointId: EndpointId;
  readonly url: string;
  readonly trigger: (typeof ATTEMPT_TRIGGERS)[number];
  /** Attempts recorded before this one; and when the schedule began, null for once and no more. */
  readonly attemptCount: number;
  readonly scheduleFrom: number | null;
  /** Of those recorded, the last ones in a row that were lost with their courier. */
  readonly interruptions: number;
  /** The endpoint's own, in milliseconds. */
  readonly retrySchedule: readonly number[] | null;
  readonly ordering: DeliveryOrder;
  readonly workerId: WorkerId;
  readonly startedAt: Date;
}

/** Those whose attempts are taken from them though their leases have not run out; null for those whose leases have. */
export type DeadWorkers = readonly WorkerId[] | null;

/**
 * Attempts whose lease has run out, by the database's clock and by `before`: their courier died, or cannot reach the database. Not
 * those that are locked: whoever kept their courier from recording them, or from renewing their lease, is at it still.
 */
export async function findLapsedAttempts(
  { sql }: Database,
  { limit, before, deadWorkers = null }: { limit: number; before: Date; deadWorkers?: DeadWorkers },
): Promise<LapsedAttempt[]> {
  return sql<LapsedAttempt[]>`
    SELECT item.account_id AS "accountId", item.delivery_id AS "deliveryId", item.attempt_id AS "attemptId",
      item.event_id AS "eventId", delivery.job_id AS "jobId", item.endpoint_id AS "endpointId", endpoint.url,
      item.trigger, delivery.attempt_count AS "attemptCount", delivery.schedule_from AS "scheduleFrom",
      CASE WHEN delivery.attempt_count > 0 THEN (
        SELECT count(*)::int FROM ringback.delivery_attempts AS attempt
        WHERE attempt.delivery_id = item.delivery_id AND attempt.error_code = 'courier_lost' AND attempt.number > coalesce((
          SELECT max(number) FROM ringback.delivery_attempts AS other
          WHERE other.delivery_id = item.delivery_id AND other.error_code IS DISTINCT FROM 'courier_lost'), 0))
        ELSE 0 END AS interruptions,
      to_json(endpoint.retry_schedule) AS "retrySchedule", endpoint.ordering, item.worker_id AS "workerId", item.leased_at AS "startedAt"
    FROM ringback.delivery_queue AS item
    JOIN ringback.deliveries AS delivery ON delivery.account_id = item.account_id AND delivery.id = item.delivery_id
    JOIN ringback.endpoints AS endpoint ON endpoint.account_id = item.account_id AND endpoint.id = item.endpoint_id
    WHERE item.state = 'leased'
      AND CASE WHEN ${deadWorkers}::text[] IS NULL THEN item.lease_expires_at < least(now(), ${before})
        ELSE item.worker_id = ANY (${deadWorkers}::text[]) END
    LIMIT ${limit}
    FOR NO KEY UPDATE OF item SKIP LOCKED`;
}
