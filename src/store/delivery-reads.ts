import { and, asc, eq } from 'drizzle-orm';
import type { AttemptOutcome } from '#domain/attempt.ts';
import type { AccountId, AttemptId, DeliveryId, JobId } from '#domain/ids.ts';
import type { Database } from './database.ts';
import { deliveries, deliveryAttempts, endpoints } from './schema/callbacks.ts';

export type DeliveryRecord = Readonly<typeof deliveries.$inferSelect> & { readonly url: string };
export type AttemptRecord = Readonly<typeof deliveryAttempts.$inferSelect>;

const columns = { delivery: deliveries, url: endpoints.url };

export async function findDelivery(
  { orm }: Database,
  accountId: AccountId,
  id: DeliveryId,
): Promise<DeliveryRecord | undefined> {
  const rows = await orm
    .select(columns)
    .from(deliveries)
    .innerJoin(endpoints, and(eq(endpoints.accountId, deliveries.accountId), eq(endpoints.id, deliveries.endpointId)))
    .where(and(eq(deliveries.accountId, accountId), eq(deliveries.id, id)));
  return rows[0] && { ...rows[0].delivery, url: rows[0].url };
}

/** Oldest first. Served by `deliveries_of_job`. */
export async function listDeliveriesOfJob(
  { orm }: Database,
  accountId: AccountId,
  jobId: JobId,
): Promise<DeliveryRecord[]> {
  const rows = await orm
    .select(columns)
    .from(deliveries)
    .innerJoin(endpoints, and(eq(endpoints.accountId, deliveries.accountId), eq(endpoints.id, deliveries.endpointId)))
    .where(and(eq(deliveries.accountId, accountId), eq(deliveries.jobId, jobId)))
    .orderBy(asc(deliveries.id));
  return rows.map(({ delivery, url }) => ({ ...delivery, url }));
}

/** In the order they were made. Served by `delivery_attempts_of_delivery`, partition by partition. */
export async function listAttempts(
  { orm }: Database,
  accountId: AccountId,
  deliveryId: DeliveryId,
): Promise<AttemptRecord[]> {
  return orm
    .select()
    .from(deliveryAttempts)
    .where(and(eq(deliveryAttempts.accountId, accountId), eq(deliveryAttempts.deliveryId, deliveryId)))
    .orderBy(asc(deliveryAttempts.number));
}

/** Whether an attempt is on record with that outcome. Served by `delivery_attempts_pkey`, in the one partition of its start. */
export async function hasAttempt(
  { sql }: Database,
  attempt: { accountId: AccountId; attemptId: AttemptId; startedAt: Date; outcome: AttemptOutcome },
): Promise<boolean> {
  const found = await sql`
    SELECT FROM ringback.delivery_attempts
    WHERE account_id = ${attempt.accountId} AND id = ${attempt.attemptId} AND started_at = ${attempt.startedAt}
      AND outcome = ${attempt.outcome}`;
  return found.count > 0;
}
