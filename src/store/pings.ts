import type { AttemptId, DeliveryId, WorkerId } from '#domain/ids.ts';
import type { SealedDestination } from './claim-deliveries.ts';
import type { Connection } from './database.ts';
import type { NewEndpointEvent } from './endpoint-events.ts';
import { healthJson, withDates } from './endpoint-health.ts';
import { signingSecrets } from './endpoint-secrets.ts';

/**
 * Records an event for its endpoint alone, with a delivery that is under way from the start. Answers where it goes; undefined,
 * and writes nothing, when there is no such endpoint.
 */
export async function insertPing(
  sql: Connection,
  { accountId, endpointId, id: eventId, type, body, createdAt: now }: NewEndpointEvent,
  ids: { deliveryId: DeliveryId; attemptId: AttemptId; workerId: WorkerId; leaseMs: number },
): Promise<SealedDestination | undefined> {
  const { deliveryId, attemptId, workerId, leaseMs } = ids;
  const [row] = await sql<
    Array<Omit<SealedDestination, 'accountId' | 'endpointId' | 'health' | 'room'> & { health: object }>
  >`
    WITH endpoint AS (
      SELECT * FROM ringback.endpoints
      WHERE account_id = ${accountId} AND id = ${endpointId} AND num_nonnulls(deleted_at) = 0 -- BY_KEY
    ), event AS (
      INSERT INTO ringback.events (account_id, id, type, body, created_at)
      SELECT account_id, ${eventId}, ${type}, convert_to(${body}, 'UTF8'), ${now} FROM endpoint
    ), delivery AS (
      INSERT INTO ringback.deliveries (
        account_id, id, event_id, event_type, endpoint_id, status, attempt_count, schedule_from, next_attempt_at, created_at,
        updated_at)
      SELECT account_id, ${deliveryId}, ${eventId}, ${type}, id, 'pending', 0, NULL, ${now}, ${now}, ${now} FROM endpoint
      RETURNING account_id, position
    ), leased AS (
      INSERT INTO ringback.delivery_queue (
        account_id, delivery_id, endpoint_id, event_id, event_created_at, position, trigger, state, due_at, attempt_id,
        worker_id, leased_at, lease_expires_at)
      SELECT account_id, ${deliveryId}, ${endpointId}, ${eventId}, ${now}, position, 'probe', 'leased', ${now}, ${attemptId},
        ${workerId}, ${now}, now() + ${leaseMs} * interval '1 ms'
      FROM delivery
    )
    SELECT url, headers, timeout_ms AS "timeoutMs", to_json(retry_schedule) AS "retrySchedule", ordering,
      (SELECT ${healthJson(sql)}
        FROM ringback.endpoint_health AS health
        WHERE health.account_id = endpoint.account_id AND health.endpoint_id = endpoint.id) AS health,
      ${signingSecrets(sql, sql`endpoint.account_id`, sql`endpoint.id`, now)} AS secrets
    FROM endpoint`;
  return row && { accountId, endpointId, room: 1, ...row, health: withDates(row.health) };
}
