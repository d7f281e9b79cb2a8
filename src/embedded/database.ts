import postgres, { type Sql } from 'postgres';
import { ADMIN } from './cluster.ts';

const SERVICE = 'ringback';

export function databaseUrl(port: number, password: string): string {
  return `postgres://${SERVICE}:${password}@127.0.0.1:${port}/${SERVICE}`;
}

/**
 * Makes the service's role and database, each unless it exists: a start may have been killed between the two. The
 * role is what a managed PostgreSQL would give, so that a migration which needs a superuser fails here first.
 */
export async function ensureDatabase(port: number, password: string): Promise<void> {
  await asAdmin(port, password, async (sql) => {
    const [found] = await sql<{ role: boolean; database: boolean }[]>`
      SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = ${SERVICE}) AS role,
             EXISTS (SELECT FROM pg_database WHERE datname = ${SERVICE}) AS database`;
    // Neither statement takes parameters; the password is hex of our own making.
    if (!found?.role) await sql.unsafe(`CREATE ROLE ${SERVICE} LOGIN CREATEDB CREATEROLE PASSWORD '${password}'`);
    if (!found?.database) await sql.unsafe(`CREATE DATABASE ${SERVICE} OWNER ${SERVICE}`);
  });
}

/** Whether the server on `port` takes our password, serves `clusterDir`, and is as durable as wanted. */
export async function isOurs(port: number, password: string, clusterDir: string, durable: boolean): Promise<boolean> {
  try {
    return await asAdmin(port, password, async (sql) => {
      const [row] = await sql<{ directory: string; fsync: string }[]>`
        SELECT current_setting('data_directory') AS directory, current_setting('fsync') AS fsync`;
      return row?.directory === clusterDir && row.fsync === (durable ? 'on' : 'off');
    });
  } catch {
    return false;
  }
}

async function asAdmin<T>(port: number, password: string, work: (sql: Sql) => Promise<T>): Promise<T> {
  const sql = postgres({
    host: '127.0.0.1',
    port,
    username: ADMIN,
    password,
    database: 'postgres',
    ssl: false,
    max: 1,
    connect_timeout: 10,
    fetch_types: false,
    onnotice: () => {},
  });
  try {
    return await work(sql);
  } finally {
    await sql.end({ timeout: 5 });
  }
}
