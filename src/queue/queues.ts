import type { PgBoss } from 'pg-boss';
import type { AccountId, DeliveryId, EndpointId, EventId } from '#domain/ids.ts';
import { createBoss, installQueues } from './boss.ts';
import { ItemQueue } from './item-queue.ts';

/** A delivery that is to be attempted; it names its event and endpoint so that a claim reads all in one round trip. */
export interface DeliveryItem {
  readonly accountId: AccountId;
  readonly deliveryId: DeliveryId;
  readonly eventId: EventId;
  readonly endpointId: EndpointId;
}

const DELIVERY_QUEUE = 'delivery';

export interface Queues {
  readonly deliveries: ItemQueue<DeliveryItem>;
  close(): Promise<void>;
}

/** Call it under the migration lock. */
export async function installQueueSchema(url: string): Promise<void> {
  await installQueues(url, { queues: [DELIVERY_QUEUE], former: ['run'] });
}

/** @param url any connection to the database; pg-boss keeps two for its own bookkeeping */
export async function openQueues(url: string, onError: (error: Error) => void): Promise<Queues> {
  const boss: PgBoss = createBoss(url, { migrate: false, onError });
  try {
    await boss.start();
  } catch (error) {
    await boss.stop({ graceful: false });
    throw error;
  }
  return {
    deliveries: new ItemQueue<DeliveryItem>(boss, DELIVERY_QUEUE),
    close: () => boss.stop({ graceful: false }),
  };
}
