import { sql } from 'drizzle-orm';
import { bigint, check, index, primaryKey, text } from 'drizzle-orm/pg-core';
import { ATTEMPT_TRIGGERS } from '#domain/attempt.ts';
import type { AccountId, AttemptId, DeliveryId, EndpointId, EventId, JobId, WorkerId } from '#domain/ids.ts';
import { DELIVERY_QUEUE_STATES } from '#domain/queue-item.ts';
import { idColumn, moment, oneOf, ringback } from './columns.ts';

/**
 * The deliveries that are to be attempted: due later, due now, or leased by the courier that is at it. A row goes when its
 * delivery ends, so that the cost of a claim does not grow with history.
 */
export const deliveryQueue = ringback.table(
  'delivery_queue',
  {
    accountId: idColumn<AccountId>('account_id').notNull(),
    deliveryId: idColumn<DeliveryId>('delivery_id').notNull(),
    endpointId: idColumn<EndpointId>('endpoint_id').notNull(),
    eventId: idColumn<EventId>('event_id').notNull(),
    /** Picks the one partition that holds the event. */
    eventCreatedAt: moment('event_created_at').notNull(),
    /** Of a job whose events keep their order: null when it has one to tell. */
    jobId: idColumn<JobId>('job_id'),
    /** That of the delivery: what is first in its lane. */
    position: bigint({ mode: 'number' }).notNull(),
    trigger: text({ enum: ATTEMPT_TRIGGERS }).notNull().default('scheduled'),
    state: text({ enum: DELIVERY_QUEUE_STATES }).notNull(),
    dueAt: moment('due_at').notNull(),
    /** The fence: whoever settles the attempt must name it. */
    attemptId: idColumn<AttemptId>('attempt_id'),
    workerId: idColumn<WorkerId>('worker_id'),
    leasedAt: moment('leased_at'),
    /** By the later of the database's clock and the holder's. */
    leaseExpiresAt: moment('lease_expires_at'),
  },
  (table) => [
    primaryKey({ name: 'delivery_queue_pkey', columns: [table.accountId, table.deliveryId] }),
    // A lane is what waits for an endpoint; claims hop from lane to lane, then take from the front of each.
    index('delivery_queue_ready')
      .on(table.accountId, table.endpointId, table.position)
      .where(sql.raw("state = 'ready'")),
    index('delivery_queue_delayed').on(table.dueAt).where(sql.raw("state = 'delayed'")),
    index('delivery_queue_leased').on(table.accountId, table.endpointId).where(sql.raw("state = 'leased'")),
    // The events of one job that wait for one endpoint, in their order.
    index('delivery_queue_of_job')
      .on(table.jobId, table.endpointId, table.position)
      .where(sql.raw('job_id IS NOT NULL')),
    check('delivery_queue_behind', sql.raw("state <> 'behind' OR job_id IS NOT NULL")),
    check('delivery_queue_trigger', oneOf('trigger', ATTEMPT_TRIGGERS)),
    check('delivery_queue_state', oneOf('state', DELIVERY_QUEUE_STATES)),
    check(
      'delivery_queue_lease',
      sql.raw(
        "num_nulls(attempt_id, worker_id, leased_at, lease_expires_at) = CASE WHEN state = 'leased' THEN 0 ELSE 4 END",
      ),
    ),
  ],
);
