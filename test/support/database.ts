import { randomBytes } from 'node:crypto';
import postgres, { type Sql } from 'postgres';
import { afterAll, beforeAll, beforeEach, expect, inject, onTestFinished } from 'vitest';
import { type Connection, type Database, type DatabaseOptions, openDatabase } from '#store/database.ts';
import { Listener, type ListenerOptions } from '#store/listener.ts';
import { eventually } from './eventually.ts';
import { databaseUrl } from './provided-server.ts';

/** The driver's helpers for identifiers and lists: `${helper('a_table')}`. */
export const helper = postgres({ max: 1 });

/** A test file's own database. Its members can be read once the file's hooks have run: not at the top of a file. */
export interface TestDatabase {
  readonly url: string;
  /** A pool of ten, closed after the last test of the file. */
  readonly db: Database;
  /** `db.sql`. */
  readonly sql: Connection;
  /** One more pool, as the service would open it, closed with the test that opened it. */
  open(options?: Partial<DatabaseOptions>): Database;
  /** The session of a process that listens, closed likewise. */
  listener(options?: Partial<ListenerOptions>): Listener;
}

/**
 * A clone of the migrated template for this file. Call it once at the top of the file. After the last test every
 * connection to it must be closed, or the file fails; then it is dropped. Where the server survives the run, the
 * database of a file that failed is kept, and its URL printed.
 */
export function useDatabase(): TestDatabase {
  const { adminUrl, template, survives } = inject('server');
  const name = `${template}_${randomBytes(4).toString('hex')}`;
  const url = databaseUrl(adminUrl, name);
  let db: Database | undefined;
  let failed = false;

  beforeAll(async () => {
    await asAdmin((admin) => admin.unsafe(`CREATE DATABASE ${name} TEMPLATE ${template}`));
    db = openDatabase({ url, applicationName: 'ringback-test', max: 10, pooled: false });
  });
  beforeEach(({ onTestFailed }) => onTestFailed(() => void (failed = true)));
  afterAll(async () => {
    await db?.close();
    await asAdmin(async (admin) => {
      try {
        await expectNoConnections(admin, name);
      } finally {
        if (failed && survives) await keep(admin, name, template);
        else await drop(admin, name);
      }
    });
  });

  const opened = (): Database => {
    if (db === undefined) throw new Error('the database is there once the hooks of the file have run');
    return db;
  };
  return {
    url,
    get db() {
      return opened();
    },
    get sql() {
      return opened().sql;
    },
    open: (options = {}) => {
      const pool = openDatabase({ url, applicationName: 'ringback-test', max: 5, pooled: false, ...options });
      onTestFinished(() => pool.close());
      return pool;
    },
    listener: (options = {}) => {
      const onError = (error: unknown) => expect.fail(`the listener failed: ${String(error)}`);
      const listener = new Listener({ url, applicationName: 'ringback-listen', onError, ...options });
      onTestFinished(() => listener.close());
      return listener;
    },
  };
}

/** An empty database for one test: no schema, nothing. Answers its URL. */
export async function useEmptyDatabase(): Promise<string> {
  const { adminUrl, template } = inject('server');
  const name = `${template}_${randomBytes(4).toString('hex')}`;
  await asAdmin((admin) => admin.unsafe(`CREATE DATABASE ${name}`));
  onTestFinished(() =>
    asAdmin(async (admin) => {
      try {
        await expectNoConnections(admin, name);
      } finally {
        await drop(admin, name);
      }
    }),
  );
  return databaseUrl(adminUrl, name);
}

async function asAdmin<T>(work: (admin: Sql) => Promise<T>): Promise<T> {
  const admin = postgres(inject('server').adminUrl, { max: 1, onnotice: () => {} });
  try {
    return await work(admin);
  } finally {
    await admin.end({ timeout: 5 });
  }
}

/** A backend ends a moment after its client has closed the connection. */
async function expectNoConnections(admin: Sql, name: string): Promise<void> {
  await eventually(async () => {
    const open = await admin`
      SELECT application_name, state, left(query, 200) AS query FROM pg_stat_activity
      WHERE datname = ${name} AND backend_type = 'client backend'`;
    expect([...open], 'connections that a test left open').toEqual([]);
  }, 5000);
}

/**
 * By force only when somebody is still connected. A drop sends an autovacuum away and waits for it; one by force counts it
 * among the connections to be ended, which is refused: it belongs to the superuser.
 */
async function drop(admin: Sql, name: string): Promise<void> {
  try {
    await admin.unsafe(`DROP DATABASE IF EXISTS ${name}`);
  } catch {
    await admin.unsafe(`DROP DATABASE IF EXISTS ${name} WITH (FORCE)`);
  }
}

/** Under another name, so that the end of the run does not drop it. */
async function keep(admin: Sql, name: string, template: string): Promise<void> {
  const kept = name.replace(template, template.replace('test', 'failed'));
  await admin.unsafe(`ALTER DATABASE ${name} RENAME TO ${kept}`);
  const url = new URL(databaseUrl(inject('server').adminUrl, kept));
  url.password = '';
  process.stdout.write(`kept the database of a failed test: ${url.href}\n`);
}
