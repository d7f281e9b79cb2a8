import type { Logger } from '#log.ts';
import type { Queues } from '#queue/queues.ts';
import type { Database } from '#store/database.ts';
import { deleteExpiredKeys } from '#store/idempotency.ts';
import { createPartitions, dropPartitions } from '#store/partitions.ts';

export interface UpkeepDeps {
  readonly db: Database;
  readonly queues: Queues;
  readonly log: Logger;
  readonly leaseMs: number;
  readonly announceDeliveries: () => void;
}

/** Gives back the deliveries of dead couriers, at most a lease and one interval after they died. */
export async function rescueDeliveries({ db, queues, log, leaseMs, announceDeliveries }: UpkeepDeps): Promise<void> {
  const rescued = await queues.deliveries.rescue(db.sql, leaseMs);
  if (rescued === 0) return;
  log.warn({ queue: queues.deliveries.name, items: rescued }, 'rescued items of workers that died');
  announceDeliveries();
}

/** Makes the partitions that are coming. */
export async function makePartitions({ db, log }: UpkeepDeps): Promise<void> {
  for (const { name, failure } of await createPartitions(db, new Date())) {
    if (failure === null) log.info({ partition: name }, 'partition made');
    else log.error({ partition: name, failure }, 'partition could not be made; its rows stay in the default one');
  }
}

const DAY_MS = 86_400_000;

/** Drops the partitions whose time is over. */
export async function endPartitions({ db, log }: UpkeepDeps, recordRetentionDays: number): Promise<void> {
  const before = new Date(Date.now() - recordRetentionDays * DAY_MS);
  for (const { name, failure } of await dropPartitions(db, before)) {
    if (failure === null) log.info({ partition: name }, 'partition dropped');
    else log.warn({ partition: name, failure }, 'partition kept though its time is over');
  }
}

const KEYS_AT_ONCE = 1000;

/** Forgets idempotency keys that have run out. */
export async function forgetKeys({ db }: UpkeepDeps): Promise<void> {
  while ((await deleteExpiredKeys(db, KEYS_AT_ONCE)) === KEYS_AT_ONCE);
}
