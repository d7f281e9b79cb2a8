import { newId } from '#domain/ids.ts';
import type { AttemptRef } from '#store/delivery-queue.ts';
import type { TestDatabase } from './database.ts';
import { WORKER } from './fixtures.ts';

/** Queues items of deliveries that are not there, all in one lane: enough for whoever only claims and removes them. */
export async function queueItems({ sql }: TestDatabase, count: number): Promise<string[]> {
  const now = Date.now();
  const ids = Array.from({ length: count }, () => newId('dlv', now));
  const [accountId, endpointId, eventId] = [newId('acc', now), newId('ep', now), newId('evt', now)];
  await sql`
    INSERT INTO ringback.delivery_queue (account_id, delivery_id, endpoint_id, event_id, event_created_at, position, state, due_at)
    SELECT ${accountId}, id, ${endpointId}, ${eventId}, now(), number, 'ready', now()
    FROM unnest(${ids}::text[]) WITH ORDINALITY AS given (id, number)`;
  return ids;
}

/** Claims up to `limit` of what is ready. */
export async function claimItems({ sql }: TestDatabase, limit: number, leaseMs = 15_000): Promise<AttemptRef[]> {
  return sql<AttemptRef[]>`
    UPDATE ringback.delivery_queue AS item SET state = 'leased', attempt_id = 'att_' || item.delivery_id,
      worker_id = ${WORKER}, leased_at = now(), lease_expires_at = now() + ${leaseMs} * interval '1 ms'
    FROM (SELECT delivery_id FROM ringback.delivery_queue WHERE state = 'ready' ORDER BY delivery_id
      LIMIT ${limit} FOR UPDATE SKIP LOCKED) AS ready
    WHERE item.delivery_id = ready.delivery_id
    RETURNING item.account_id AS "accountId", item.delivery_id AS "deliveryId", item.attempt_id AS "attemptId"`;
}

export async function removeItem({ sql }: TestDatabase, { attemptId }: AttemptRef): Promise<void> {
  await sql`DELETE FROM ringback.delivery_queue WHERE attempt_id = ${attemptId}`;
}
