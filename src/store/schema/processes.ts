import type { WorkerId } from '#domain/ids.ts';
import { idColumn, moment, ringback } from './columns.ts';

/**
 * The processes that may hold leases of runs and attempts. Each holds a lock of its own as long as it lives as well; one without a
 * row, of an older version, is known by its leases only (docs/decisions/0023).
 */
export const processes = ringback.table('processes', {
  workerId: idColumn<WorkerId>('worker_id').primaryKey(),
  /** Its last sign of life, by the database's clock; `-infinity` once it has stopped. */
  seenAt: moment('seen_at').notNull(),
});
