import { drizzle } from 'drizzle-orm/postgres-js';
import { migrate as runMigrations } from 'drizzle-orm/postgres-js/migrator';
import { fileURLToPath } from 'node:url';
import postgres from 'postgres';
import { sturdy } from './database.ts';

const FOLDER = fileURLToPath(new URL('../../migrations', import.meta.url));

/** Any number, as long as it is only ours: "ringback" in ASCII, cut to 63 bits. */
const LOCK = '8243122698044695403';

/**
 * Brings the database up to this version's schema. Any number of processes may call it at once: all but one wait on an
 * advisory lock, then find nothing to do.
 * @param url a direct connection: the lock belongs to a session
 */
export async function migrate(url: string): Promise<void> {
  const sql = postgres(url, { max: 1, connect_timeout: 5, onnotice: () => undefined, ...sturdy() });
  try {
    await sql`SELECT pg_advisory_lock(${LOCK}::bigint)`;
    await runMigrations(drizzle(sql), {
      migrationsFolder: FOLDER,
      migrationsSchema: 'ringback',
      migrationsTable: 'migrations',
    });
  } finally {
    await sql.end({ timeout: 5 });
  }
}
