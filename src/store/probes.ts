import type { AttemptId, DeliveryId, WorkerId } from '#domain/ids.ts';
import type { SealedDestination } from './claim-deliveries.ts';
import type { Connection } from './database.ts';
import type { NewEndpointEvent } from './endpoint-events.ts';
import { healthJson, withDates } from './endpoint-health.ts';
import { signingSecrets } from './endpoint-secrets.ts';
import { tlsJson } from './endpoint-tls.ts';

export interface ProbeLease {
  readonly deliveryId: DeliveryId;
  readonly attemptId: AttemptId;
  readonly workerId: WorkerId;
  /** Of an endpoint without a limit of its own; the lease goes on for `slackMs` after it. */
  readonly timeoutMs: number;
  readonly slackMs: number;
  /** For an endpoint that is unverified, or for one that is not. */
  readonly toUnverified: boolean;
}

/**
 * Records an event for its endpoint alone, with a delivery that is under way from the start. Answers where it goes; undefined,
 * and writes nothing, when there is no such endpoint.
 */
export async function insertProbe(
  sql: Connection,
  { accountId, endpointId, id: eventId, type, body, createdAt: now }: NewEndpointEvent,
  { deliveryId, attemptId, workerId, timeoutMs, slackMs, toUnverified }: ProbeLease,
): Promise<SealedDestination | undefined> {
  const [row] = await sql<
    Array<Omit<SealedDestination, 'accountId' | 'endpointId' | 'health' | 'room'> & { health: object }>
  >`
    WITH endpoint AS (
      SELECT * FROM ringback.endpoints
      WHERE account_id = ${accountId} AND id = ${endpointId} AND num_nonnulls(deleted_at) = 0 -- BY_KEY
        AND (status = 'unverified') = ${toUnverified}
    ), event AS (
      INSERT INTO ringback.events (account_id, id, type, body, created_at)
      SELECT account_id, ${eventId}, ${type}, convert_to(${body}, 'UTF8'), ${now} FROM endpoint
    ), delivery AS (
      INSERT INTO ringback.deliveries (
        account_id, id, event_id, event_type, endpoint_id, status, attempt_count, schedule_from, next_attempt_at, created_at,
        updated_at)
      SELECT account_id, ${deliveryId}, ${eventId}, ${type}, id, 'pending', 0, NULL, ${now}, ${now}, ${now} FROM endpoint
      RETURNING account_id, position, (SELECT coalesce(timeout_ms, ${timeoutMs}) + ${slackMs} FROM endpoint) AS lease_ms
    ), leased AS (
      INSERT INTO ringback.delivery_queue (
        account_id, delivery_id, endpoint_id, event_id, event_created_at, position, trigger, state, due_at, attempt_id,
        worker_id, leased_at, lease_expires_at)
      SELECT account_id, ${deliveryId}, ${endpointId}, ${eventId}, ${now}, position, 'probe', 'leased', ${now}, ${attemptId},
        ${workerId}, ${now}, greatest(now(), ${now}) + lease_ms * interval '1 ms'
      FROM delivery
    )
    SELECT url, headers, timeout_ms AS "timeoutMs", to_json(retry_schedule) AS "retrySchedule", ordering, ${tlsJson(sql)} AS tls,
      (SELECT ${healthJson(sql)}
        FROM ringback.endpoint_health AS health
        WHERE health.account_id = endpoint.account_id AND health.endpoint_id = endpoint.id) AS health,
      ${signingSecrets(sql, sql`endpoint.account_id`, sql`endpoint.id`, now)} AS secrets
    FROM endpoint`;
  return row && { accountId, endpointId, room: 1, ...row, health: withDates(row.health) };
}
