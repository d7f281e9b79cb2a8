import type { EndpointEventType } from '#domain/endpoint-event.ts';
import type { DisabledReason } from '#domain/endpoint-policy.ts';
import type { AccountId, EndpointId, EventId, JobId } from '#domain/ids.ts';
import type { Connection } from './database.ts';
import type { EndpointRef } from './endpoint-health.ts';
import { fanOut } from './fan-out.ts';

/** A fact about an endpoint, for those of its account that want to hear of such. */
export interface NewEndpointEvent {
  readonly accountId: AccountId;
  readonly id: EventId;
  readonly type: EndpointEventType;
  /** The callback's bytes. */
  readonly body: string;
  readonly createdAt: Date;
  /** The endpoint it is about: not told of its own end. */
  readonly endpointId: EndpointId;
}

/** Records events, and queues their deliveries to the endpoints that subscribe to them. Answers whether any is due. */
export async function insertEndpointEvents(sql: Connection, events: readonly NewEndpointEvent[]): Promise<boolean> {
  const [told] = await sql<[{ due: boolean }]>`
    WITH given AS MATERIALIZED (
      SELECT * FROM json_to_recordset(${JSON.stringify(events)}::text::json) AS given (
        "accountId" text, id text, type text, body text, "createdAt" timestamptz, "endpointId" text)
      WHERE id LIKE 'evt\\_%' -- FEW_ROWS
    ), event AS (
      INSERT INTO ringback.events (account_id, id, type, body, created_at)
      SELECT "accountId", id, type, convert_to(body, 'UTF8'), "createdAt" FROM given
    ), told AS MATERIALIZED (
      SELECT "accountId" AS account_id, NULL::text AS job_id, id AS event_id, type AS event_type, "createdAt" AS told_at,
        NULL::text AS delivery_id, "endpointId" AS endpoint_id, false AS is_told
      FROM given
    ), ${fanOut(sql)}
    SELECT EXISTS (SELECT FROM target WHERE is_due) AS due`;
  return told.due;
}

/** Gives an endpoint up; false when it is not enabled any more. */
export async function disableEndpoint(
  sql: Connection,
  { accountId, endpointId }: EndpointRef,
  reason: DisabledReason,
  now: Date,
): Promise<boolean> {
  const disabled = await sql`
    UPDATE ringback.endpoints SET status = 'disabled', disabled_reason = ${reason}, updated_at = ${now}
    WHERE account_id = ${accountId} AND id = ${endpointId} AND status = 'enabled' AND num_nonnulls(deleted_at) = 0 -- BY_KEY`;
  return disabled.count === 1;
}

/**
 * Takes what is due to an endpoint that takes nothing any more out of the queue: held while it is disabled, discarded when it
 * is deleted. Answers how many, and the jobs of which more may follow; what is under way is left to whoever sends it.
 */
export async function closeLane(
  sql: Connection,
  { accountId, endpointId }: EndpointRef,
  { limit, now }: { limit: number; now: Date },
): Promise<{ closed: number; following: JobId[] }> {
  const closed = await sql<{ jobId: JobId | null }[]>`
    WITH endpoint AS (
      SELECT deleted_at IS NOT NULL AS is_gone FROM ringback.endpoints
      WHERE account_id = ${accountId} AND id = ${endpointId} AND (deleted_at IS NOT NULL OR status = 'disabled')
    ), due AS MATERIALIZED (
      SELECT account_id, delivery_id, is_gone FROM endpoint CROSS JOIN LATERAL (
        SELECT account_id, delivery_id FROM ringback.delivery_queue
        WHERE account_id = ${accountId} AND endpoint_id = ${endpointId} AND state = 'ready'
        ORDER BY position LIMIT ${limit} FOR UPDATE SKIP LOCKED) AS item
    ), removed AS (
      DELETE FROM ringback.delivery_queue AS item USING due
      WHERE item.account_id = due.account_id AND item.delivery_id = due.delivery_id
      RETURNING due.*, item.job_id
    )
    UPDATE ringback.deliveries AS delivery SET
      status = CASE WHEN is_gone THEN 'discarded' ELSE 'held' END,
      next_attempt_at = NULL,
      updated_at = ${now},
      finished_at = CASE WHEN is_gone THEN ${now}::timestamptz END
    FROM removed WHERE delivery.account_id = removed.account_id AND delivery.id = removed.delivery_id
    RETURNING removed.job_id AS "jobId"`;
  return { closed: closed.count, following: closed.flatMap(({ jobId }) => jobId ?? []) };
}
