import type { DeliveryStatus } from '#domain/delivery.ts';
import type { SubscribableEventType } from '#domain/endpoint-policy.ts';
import { type AccountId, type DeliveryId, type EndpointId, type JobId, newId } from '#domain/ids.ts';
import type { Database } from '#store/database.ts';

export interface MadeDelivery {
  readonly id: DeliveryId;
  readonly accountId: AccountId;
  readonly endpointId: EndpointId;
  readonly jobId: JobId | null;
  readonly eventType: SubscribableEventType;
  readonly status: DeliveryStatus;
  readonly attemptCount: number;
  readonly createdAt: Date;
}

/** A delivery to be inserted: over, after one attempt, unless changed. */
export function madeDelivery(
  given: Partial<MadeDelivery> & Pick<MadeDelivery, 'accountId' | 'endpointId'>,
): MadeDelivery {
  const { createdAt = new Date() } = given;
  return {
    id: newId('dlv', createdAt.getTime()),
    jobId: null,
    eventType: 'delivery.exhausted',
    status: 'delivered',
    attemptCount: 1,
    createdAt,
    ...given,
  };
}

/** History by the thousand: rows as the service leaves them, with a place in the queue for what is pending. */
export async function insertDeliveries({ sql }: Database, made: readonly MadeDelivery[]): Promise<void> {
  const rows = made.map((delivery) => ({ ...delivery, eventId: newId('evt', delivery.createdAt.getTime()) }));
  await sql`
    WITH given AS MATERIALIZED (
      SELECT * FROM json_to_recordset(${JSON.stringify(rows)}::text::json) AS given (
        "accountId" text, id text, "eventId" text, "eventType" text, "jobId" text, "endpointId" text, status text,
        "attemptCount" int, "createdAt" timestamptz)
    ), delivery AS (
      INSERT INTO ringback.deliveries (
        account_id, id, event_id, event_type, job_id, endpoint_id, status, attempt_count, next_attempt_at, created_at,
        updated_at, finished_at)
      SELECT "accountId", id, "eventId", "eventType", "jobId", "endpointId", status, "attemptCount",
        CASE WHEN status = 'pending' THEN "createdAt" END, "createdAt", "createdAt",
        CASE WHEN status NOT IN ('pending', 'held') THEN "createdAt" END
      FROM given ORDER BY id
      RETURNING *
    )
    INSERT INTO ringback.delivery_queue (
      account_id, delivery_id, endpoint_id, event_id, event_created_at, position, state, due_at)
    SELECT account_id, id, endpoint_id, event_id, created_at, position, 'ready', created_at
    FROM delivery WHERE status = 'pending'`;
}
