import type { Clock } from '#domain/clock.ts';
import type { Logger } from '#log.ts';
import type { Database } from '#store/database.ts';
import { isEpochBusy, recogniseAgain } from '#store/database-epochs.ts';
import { deleteExpiredKeys } from '#store/idempotency.ts';
import { createPartitions, dropPartitions, indexPartition, unindexedPartitions } from '#store/partitions.ts';
import { findUncleanQueues, vacuumQueue } from '#store/vacuum.ts';

export interface UpkeepDeps {
  readonly db: Database;
  readonly clock: Clock;
  readonly log: Logger;
}

/** Dead rows of a queue that make a vacuum worth its while: a few milliseconds. */
const DEAD_ROWS = 2000;

/** Vacuums the queues long before autovacuum would: until then, claims step over what the rows of ended work left behind. */
export async function vacuumQueues({ db }: UpkeepDeps): Promise<void> {
  for (const queue of await findUncleanQueues(db, DEAD_ROWS)) await vacuumQueue(db, queue);
}

/** Makes the partitions that are coming. */
export async function makePartitions({ db, clock, log }: UpkeepDeps): Promise<void> {
  for (const { name, failure } of await createPartitions(db, clock.now())) {
    if (failure === null) log.info({ partition: name }, 'partition made');
    else log.error({ partition: name, failure }, 'partition could not be made; its rows stay in the default one');
  }
}

/** Sees that a standby was promoted, or the server restored or restarted, under a running service. */
export async function recogniseServer({ db, log }: Pick<UpkeepDeps, 'db' | 'log'>): Promise<void> {
  try {
    const epoch = await recogniseAgain(db);
    if (epoch !== undefined) log.warn({ ...epoch }, 'the database is on another server, or its server was restarted');
  } catch (error) {
    if (!isEpochBusy(error)) throw error;
    log.warn('the database is on another server; a transaction that has written events stays open: trying again');
  }
}

/** Builds what a migration leaves out for large partitions, one at a time; attempts are recorded meanwhile. */
export async function indexPartitions({ db, log }: UpkeepDeps): Promise<void> {
  for (const partition of await unindexedPartitions(db)) {
    await indexPartition(db, partition);
    log.info({ partition }, 'partition indexed by job');
  }
}

const DAY_MS = 86_400_000;

/** Drops the partitions whose time is over. */
export async function endPartitions({ db, clock, log }: UpkeepDeps, recordRetentionDays: number): Promise<void> {
  const before = new Date(clock.now().getTime() - recordRetentionDays * DAY_MS);
  for (const { name, failure } of await dropPartitions(db, before)) {
    if (failure === null) log.info({ partition: name }, 'partition dropped');
    else log.warn({ partition: name, failure }, 'partition kept though its time is over');
  }
}

const KEYS_AT_ONCE = 1000;

/** Forgets idempotency keys that have run out. */
export async function forgetKeys({ db, clock }: UpkeepDeps): Promise<void> {
  const now = clock.now();
  while ((await deleteExpiredKeys(db, now, KEYS_AT_ONCE)) === KEYS_AT_ONCE);
}
