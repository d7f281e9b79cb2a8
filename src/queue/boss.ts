import { PgBoss, type Db as BossDb } from 'pg-boss';
import type { Sql, TransactionSql } from 'postgres';

/**
 * pg-boss keeps the queues; this folder alone knows it. It runs on a small `pg` pool of its own (a whole instance on
 * postgres.js fails), and every call of ours hands it the connection to use, so that it joins our transactions.
 */
export type Connection = Sql | TransactionSql;

/** postgres.js as pg-boss wants a database. */
export function onConnection(sql: Connection): BossDb {
  return {
    executeSql: async (text, values = []) => ({
      rows: await sql.unsafe(text, values as never[], { prepare: true }),
    }),
  };
}

const SCHEMA = 'pgboss';

export function createBoss(url: string, options: { migrate: boolean; onError: (error: Error) => void }): PgBoss {
  const boss = new PgBoss({
    connectionString: url,
    schema: SCHEMA,
    application_name: 'ringback-queue',
    max: 2,
    // Its supervisor counts and expires rows by rules of its own; leases here are our keeper's matter (rescue.ts), and
    // ended items are deleted at once, so there is nothing left to maintain.
    supervise: false,
    schedule: false,
    migrate: options.migrate,
    createSchema: options.migrate,
  });
  boss.on('error', options.onError);
  return boss;
}

/** Installs or upgrades pg-boss's schema and the queues. Call it under the migration lock. */
export async function installQueues(
  url: string,
  { queues, former }: { queues: readonly string[]; former: readonly string[] },
): Promise<void> {
  const boss = createBoss(url, { migrate: true, onError: () => undefined });
  try {
    await boss.start();
    for (const name of queues) await boss.createQueue(name, QUEUE_OPTIONS);
    // Of earlier versions: what they held is queued elsewhere by now (migrations).
    for (const name of former) await boss.deleteQueue(name);
  } finally {
    await boss.stop({ graceful: false });
  }
}

const DAY_SECONDS = 86_400;

const QUEUE_OPTIONS = {
  // A table and indexes of its own: one queue's backlog does not slow the other.
  partition: true,
  // Only a rescue uses these retries; how often a job or delivery is tried is decided by our own tables.
  retryLimit: 1_000_000_000,
  retryDelay: 0,
  // An item must outlive any backlog: pg-boss would delete one that waits longer than this.
  retentionSeconds: 3650 * DAY_SECONDS,
} as const;
