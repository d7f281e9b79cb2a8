import type { Database } from './database.ts';

const QUEUES = ['run_queue', 'delivery_queue'] as const;
export type QueueTable = (typeof QUEUES)[number];

/** The queues that hold at least so many dead rows, as far as the statistics know by now. */
export async function findUncleanQueues({ sql }: Database, deadRows: number): Promise<QueueTable[]> {
  const tables = await sql<{ relname: QueueTable }[]>`
    SELECT relname FROM pg_stat_user_tables
    WHERE schemaname = 'ringback' AND relname = ANY (${[...QUEUES]}::text[]) AND n_dead_tup >= ${deadRows}`;
  return tables.map(({ relname }) => relname);
}

/**
 * Frees what dead rows take up, in the indexes above all. Nobody waits for it: who vacuums already is left to it, and pages
 * at the end are not given back, which would take a lock that stops everybody.
 */
export async function vacuumQueue({ sql }: Database, queue: QueueTable): Promise<void> {
  const text = `VACUUM (SKIP_LOCKED, INDEX_CLEANUP ON, TRUNCATE false) ringback.${queue}`;
  await sql.unsafe(text, [], { standalone: true });
}
