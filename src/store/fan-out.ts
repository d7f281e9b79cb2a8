import type { Connection } from './database.ts';

/**
 * CTEs that make deliveries of events and queue them. They go on from `told`, a row an event: account_id, job_id (null for what is
 * no job's event), event_id, event_type, told_at; delivery_id and endpoint_id, for the endpoint that the job has named; is_told, when
 * earlier events of the job have been told. An endpoint without a delivery is left out: an event about itself. `target` has a row a
 * delivery, `is_due` where it is to be sent.
 *
 * An endpoint that keeps the order of a job gets what follows an earlier event as `behind`, whether or not that one is
 * still queued: only after the commit can that be known, see `advanceJobs`.
 *
 * Positions are drawn here, not by the table, so that both rows of a delivery come from `target`: joined with what an INSERT
 * returns, each would be compared with each. They are drawn after the job's row is locked, so those of a job are in its order.
 */
export const fanOut = (sql: Connection) => sql`
    receiver AS (
      SELECT told.*, told.delivery_id AS new_id, endpoint.id AS receiver_id, endpoint.status AS receiver_status, endpoint.ordering,
        endpoint.deleted_at
      FROM told CROSS JOIN LATERAL (
        SELECT * FROM ringback.endpoints WHERE account_id = told.account_id AND id = told.endpoint_id LIMIT 1) AS endpoint
      WHERE told.delivery_id IS NOT NULL
      UNION ALL
      SELECT told.*, 'dlv_' || substr(told.event_id, 5, 22)
          || lpad(to_hex(row_number() OVER (PARTITION BY told.event_id ORDER BY endpoint.id)), 4, '0'),
        endpoint.id, endpoint.status, endpoint.ordering, endpoint.deleted_at
      FROM told JOIN ringback.endpoints AS endpoint ON ${isSubscribed(sql, sql`told.account_id`, sql`told.event_type`)}
        AND endpoint.id IS DISTINCT FROM told.endpoint_id
    ), target AS MATERIALIZED (
      SELECT *, nextval('ringback.deliveries_position_seq') AS position,
        deleted_at IS NULL AND receiver_status <> 'disabled' AS is_due
      FROM receiver
    ), delivery AS (
      INSERT INTO ringback.deliveries (
        account_id, id, event_id, event_type, job_id, endpoint_id, position, status, attempt_count, next_attempt_at,
        created_at, updated_at, finished_at)
      OVERRIDING SYSTEM VALUE
      SELECT account_id, new_id, event_id, event_type, job_id, receiver_id, position,
        CASE WHEN is_due THEN 'pending' WHEN deleted_at IS NULL THEN 'held' ELSE 'discarded' END, 0,
        CASE WHEN is_due THEN told_at END, told_at, told_at, CASE WHEN deleted_at IS NOT NULL THEN told_at END
      FROM target
    ), due AS (
      INSERT INTO ringback.delivery_queue (
        account_id, delivery_id, endpoint_id, event_id, event_created_at, job_id, position, state, due_at)
      SELECT account_id, new_id, receiver_id, event_id, told_at,
        CASE WHEN is_told OR event_type IN ('job.queued', 'job.started', 'job.progress') THEN job_id END, position,
        CASE WHEN is_told AND ordering = 'job' THEN 'behind' ELSE 'ready' END, told_at
      FROM target WHERE is_due
    )`;

type Fragment = ReturnType<Connection>;

/**
 * Whether `endpoint` is one of the account that wants to hear of such events. Served by `endpoints_subscribed`. A job's
 * submission is told only where that is asked for by name: who submits knows.
 */
export const isSubscribed = (sql: Connection, accountId: Fragment, eventType: Fragment) => sql`
  endpoint.account_id || '' = ${accountId} AND endpoint.event_types <> '{}' AND endpoint.deleted_at IS NULL
  AND endpoint.event_types && CASE WHEN ${eventType} = 'job.queued' THEN ARRAY['job.queued']
    ELSE ARRAY['*', split_part(${eventType}, '.', 1) || '.*', ${eventType}] END`;
