import { drizzle } from 'drizzle-orm/postgres-js';
import { migrate as runMigrations } from 'drizzle-orm/postgres-js/migrator';
import { fileURLToPath } from 'node:url';
import postgres from 'postgres';
import { ARRAY_TYPES } from './session.ts';
import { sessionSettings } from './session-settings.ts';

const FOLDER = fileURLToPath(new URL('../../migrations', import.meta.url));

/** Any number, as long as it is only ours: "ringback" in ASCII, cut to 63 bits. */
const LOCK = '8243122698044695403';

/**
 * Brings the database up to this version's schema. Any number of processes may call it at once: all but one wait on an
 * advisory lock, then find nothing to do.
 * @param url a direct connection: the lock belongs to a session
 */
export async function migrate(url: string): Promise<void> {
  const sql = postgres(url, {
    ...ARRAY_TYPES,
    max: 1,
    connect_timeout: 5,
    max_lifetime: null,
    onnotice: () => undefined,
    // An index of a large table takes its time.
    connection: { application_name: 'ringback-migrate', ...sessionSettings(0, false) },
  });
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
