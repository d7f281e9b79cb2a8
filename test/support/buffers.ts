import type { Database, Transaction } from '#store/database.ts';
import { inTransaction } from './fixtures.ts';

/**
 * How many buffers of our tables and their indexes a transaction touches, in memory or not: PostgreSQL's own count of
 * the work, the same on every machine. Nothing else may use the database meanwhile.
 * @param db a pool of one connection, whose plans are the ones to be measured
 */
export async function buffersTouched(db: Database, work: (tx: Transaction) => Promise<unknown>): Promise<number> {
  return buffersTouchedBy(db, () => inTransaction(db, work));
}

/** The same of statements that commit by themselves. */
export async function buffersTouchedBy(db: Database, work: () => Promise<unknown>): Promise<number> {
  const before = await readCounters(db);
  await work();
  return (await readCounters(db)) - before;
}

async function readCounters({ sql }: Database): Promise<number> {
  // A session reports its counts once a second at most, unless it is told to: with the end of this transaction.
  await sql`SELECT pg_stat_force_next_flush()`;
  const [row] = await sql<[{ buffers: number }]>`
    SELECT sum(
      coalesce(heap_blks_read, 0) + coalesce(heap_blks_hit, 0) + coalesce(idx_blks_read, 0) + coalesce(idx_blks_hit, 0) +
      coalesce(toast_blks_read, 0) + coalesce(toast_blks_hit, 0) + coalesce(tidx_blks_read, 0) + coalesce(tidx_blks_hit, 0)
    )::int AS buffers
    FROM pg_statio_user_tables WHERE schemaname = 'ringback'`;
  return row.buffers;
}

/** Neither vacuums nor fresh statistics: the tables stay as new to the planner as they are. */
export async function withoutAutovacuum({ sql }: Database): Promise<void> {
  const tables = await sql<{ name: string }[]>`
    SELECT format('%I.%I', nspname, relname) AS name FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
    WHERE nspname = 'ringback' AND relkind = 'r'`;
  for (const { name } of tables) await sql.unsafe(`ALTER TABLE ${name} SET (autovacuum_enabled = false)`);
}
