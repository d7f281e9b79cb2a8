import { afterAll, beforeAll } from 'vitest';
import { type AccountId, newId, uuidOf } from '#domain/ids.ts';
import type { NewItem } from '#queue/item-queue.ts';
import { type DeliveryItem, openQueues, type Queues } from '#queue/queues.ts';
import type { DueDelivery } from '#store/deliveries.ts';
import type { TestDatabase } from './database.ts';
import { type MadeEndpoint, makeDelivery } from './fixtures.ts';

/** The queues of a test file's database. `get` answers them once the file's hooks have run. */
export function useQueues(database: TestDatabase): { get(): Queues } {
  let queues: Queues | undefined;
  const errors: Error[] = [];
  beforeAll(async () => {
    queues = await openQueues(database.url, (error) => errors.push(error));
  });
  afterAll(async () => {
    await queues?.close();
    if (errors.length > 0) throw new AggregateError(errors, 'pg-boss reported errors');
  });
  return {
    get: () => {
      if (queues === undefined) throw new Error('the queues are there once the hooks of the file have run');
      return queues;
    },
  };
}

/** An item that no other test has, of a delivery that need not be there. */
export function deliveryItem(changes: Partial<NewItem<DeliveryItem>> = {}): NewItem<DeliveryItem> {
  const now = Date.now();
  const deliveryId = newId('dlv', now);
  const data = { accountId: newId('acc', now), deliveryId, eventId: newId('evt', now), endpointId: newId('ep', now) };
  return { id: uuidOf(deliveryId), data, ...changes };
}

/** A delivery that is due and queued, as the end of a job leaves it. */
export async function queueDelivery(
  { database, queues }: { readonly database: TestDatabase; readonly queues: Queues },
  accountId: AccountId,
  endpoint: MadeEndpoint,
): Promise<DueDelivery> {
  const due = await makeDelivery(database.db, accountId, endpoint);
  const { id: deliveryId, eventId, endpointId } = due;
  const item = { id: uuidOf(deliveryId), data: { accountId, deliveryId, eventId, endpointId } };
  await queues.deliveries.insert(database.sql, [item]);
  return due;
}
