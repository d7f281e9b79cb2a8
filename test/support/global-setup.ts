import { randomBytes } from 'node:crypto';
import postgres, { type Sql } from 'postgres';
import type { TestProject } from 'vitest/node';
import { migrate } from '#store/migrate.ts';
import { findPgBouncer, type PgBouncer, startPgBouncer } from './pgbouncer.ts';
import { findServer } from './postgres-server.ts';
import { databaseUrl } from './provided-server.ts';

/** Before the first file: a PostgreSQL with a migrated template. After the last: nothing of it remains. */
export async function setup(project: TestProject): Promise<() => Promise<void>> {
  const server = await findServer(process.env);
  const template = `ringback_test_${randomBytes(4).toString('hex')}`;
  const admin = postgres(server.url, { max: 1, onnotice: () => {} });
  const teardown = async (): Promise<void> => {
    try {
      await dropAll(admin, template);
    } finally {
      await admin.end({ timeout: 5 });
      await server.stop();
    }
  };
  try {
    const [row] = await admin<[{ server_version: string }]>`SHOW server_version`;
    process.stdout.write(`PostgreSQL ${row.server_version}: ${server.origin}\n`);
    await admin.unsafe(`CREATE DATABASE ${template}`);
    const url = databaseUrl(server.url, template);
    await migrate(url);
    // Nobody may connect: a clone is refused while somebody is.
    await admin.unsafe(`ALTER DATABASE ${template} ALLOW_CONNECTIONS false`);
  } catch (error) {
    await teardown();
    throw error;
  }
  const pooler = await startPooler(process.env, server.url);
  project.provide('server', {
    adminUrl: server.url,
    template,
    survives: server.survives,
    pooler: pooler && new URL(pooler.url(server.url)).host,
  });
  return async () => {
    await pooler?.stop();
    await teardown();
  };
}

/** `TEST_POOLER=pgbouncer`: the services of end-to-end tests reach their database through it. */
async function startPooler(env: NodeJS.ProcessEnv, serverUrl: string): Promise<PgBouncer | undefined> {
  if (env['TEST_POOLER'] !== 'pgbouncer') return undefined;
  const binary = await findPgBouncer();
  if (binary === undefined) throw new Error('TEST_POOLER=pgbouncer, but PgBouncer is not installed');
  process.stdout.write(`the services of end-to-end tests go through ${binary}\n`);
  return startPgBouncer(binary, serverUrl);
}

/** The template and the clones that no test dropped, because its process died. */
async function dropAll(admin: Sql, template: string): Promise<void> {
  const names = await admin<{ datname: string }[]>`
    SELECT datname FROM pg_database WHERE starts_with(datname, ${template})`;
  for (const { datname } of names) await admin.unsafe(`DROP DATABASE IF EXISTS ${datname} WITH (FORCE)`);
}
