import { afterAll, beforeAll } from 'vitest';
import { type AccountId, newId, uuidOf } from '#domain/ids.ts';
import type { NewItem } from '#queue/item-queue.ts';
import { openQueues, type Queues, type RunItem } from '#queue/queues.ts';
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

/** An item of the run queue that no other test has, for a job that need not be there. */
export function runItem(changes: Partial<NewItem<RunItem>> = {}): NewItem<RunItem> {
  const jobId = newId('job', Date.now());
  return { id: uuidOf(jobId), data: { accountId: newId('acc', Date.now()), jobId }, ...changes };
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
