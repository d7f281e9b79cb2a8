import { drizzle } from 'drizzle-orm/postgres-js';
import { migrate as runMigrations } from 'drizzle-orm/postgres-js/migrator';
import { fileURLToPath } from 'node:url';
import { type EpochChange, isEpochBusy, recogniseDatabase } from './database-epochs.ts';
import { clientFor } from './drizzle-client.ts';
import { Patience } from './patience.ts';
import { Session } from './session.ts';
import { createSql, type Sql } from './statement.ts';
import { Transaction } from './transaction.ts';

const FOLDER = fileURLToPath(new URL('../../migrations', import.meta.url));

/** Any number, as long as it is only ours: "ringback" in ASCII, cut to 63 bits. */
const LOCK = '8243122698044695403';

/**
 * Brings the database up to this version's schema. Any number of processes may call it at once: all but one wait on an
 * advisory lock, then find nothing to do. Returns the epoch that began, when the data is not where it was before
 * (`recogniseDatabase`); what stands in its way is left to the maintenance role.
 * @param url a direct connection: the lock belongs to a session
 */
export async function migrate(url: string): Promise<EpochChange | undefined> {
  const session = await Session.open({
    url,
    applicationName: 'ringback-migrate',
    pooled: false,
    pinPlans: false,
    // An index of a large table takes its time.
    statementTimeoutMs: 0,
  });
  const sql = createSql((statement) => session.send((client) => statement.on(client)));
  const begin = <R>(work: (tx: Sql) => Promise<R>) => new Transaction(session, new Patience(), 0).run(work);
  try {
    await sql`SELECT pg_advisory_lock(${LOCK}::bigint)`;
    await runMigrations(drizzle(clientFor(sql, begin)), {
      migrationsFolder: FOLDER,
      migrationsSchema: 'ringback',
      migrationsTable: 'migrations',
    });
    return await begin((tx) => recogniseDatabase(tx)).catch((error: unknown) => {
      if (isEpochBusy(error)) return undefined;
      throw error;
    });
  } finally {
    await session.end();
  }
}
