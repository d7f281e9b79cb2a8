import { randomBytes } from 'node:crypto';
import postgres, { type Sql } from 'postgres';
import type { TestProject } from 'vitest/node';
import { migrate } from '#store/migrate.ts';
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
  project.provide('server', { adminUrl: server.url, template, survives: server.survives });
  return teardown;
}

/** The template and the clones that no test dropped, because its process died. */
async function dropAll(admin: Sql, template: string): Promise<void> {
  const names = await admin<{ datname: string }[]>`
    SELECT datname FROM pg_database WHERE starts_with(datname, ${template})`;
  for (const { datname } of names) await admin.unsafe(`DROP DATABASE IF EXISTS ${datname} WITH (FORCE)`);
}
