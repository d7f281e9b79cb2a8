import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import postgres, { type Sql } from 'postgres';
import { expect, onTestFinished, test } from 'vitest';
import { migrate } from '#store/migrate.ts';
import { useEmptyDatabase } from '../../support/database.ts';

/** Closed before the database is dropped: hooks of a finished test run in reverse. */
function connect(url: string): Sql {
  const sql = postgres(url, { max: 1, onnotice: () => {} });
  onTestFinished(() => sql.end());
  return sql;
}

const migrations = (sql: Sql) => sql`SELECT id, hash FROM ringback.migrations ORDER BY id`;

test('ten at once bring an empty database up to date, once', async () => {
  const url = await useEmptyDatabase();
  await Promise.all(Array.from({ length: 10 }, () => migrate(url)));
  const sql = connect(url);
  const applied = await migrations(sql);
  expect(applied.length).toBeGreaterThanOrEqual(2);
  expect(new Set(applied.map(({ hash }) => hash as string)).size).toBe(applied.length);
});

test('several processes at once do so too', async () => {
  const url = await useEmptyDatabase();
  const script = `
    import { migrate } from '#store/migrate.ts';
        await migrate(process.argv[1]);`;
  const cwd = fileURLToPath(new URL('../../..', import.meta.url));
  const exits = Array.from({ length: 3 }, async () => {
    const child = spawn(process.execPath, ['--input-type=module', '--eval', script, url], {
      cwd,
      stdio: ['ignore', 'inherit', 'inherit'],
    });
    onTestFinished(() => void child.kill('SIGKILL'));
    return (await once(child, 'exit'))[0] as number | null;
  });
  expect(await Promise.all(exits)).toEqual([0, 0, 0]);
  expect(await migrations(connect(url))).not.toEqual([]);
});

test('a database that is up to date is left as it is', async () => {
  const url = await useEmptyDatabase();
  await migrate(url);
  const sql = connect(url);
  const snapshot = () => sql`
    SELECT oid::int8, relname, relfilenode FROM pg_class
    WHERE relnamespace = 'ringback'::regnamespace ORDER BY oid`;
  const before = [await migrations(sql), await snapshot()];
  await migrate(url);
  expect([await migrations(sql), await snapshot()]).toEqual(before);
});

test('a failure leaves the lock free and the database fit for another try', async () => {
  const url = await useEmptyDatabase();
  const sql = connect(url);
  await sql`CREATE SCHEMA ringback`;
  await sql`CREATE TABLE ringback.delivery_queue ()`; // in the way of a late migration
  await expect(migrate(url)).rejects.toMatchObject({ cause: { code: '42P07' } });
  await sql`DROP TABLE ringback.delivery_queue`;
  await migrate(url);
  expect(
    await sql`SELECT FROM pg_locks WHERE locktype = 'advisory' AND database = (
    SELECT oid FROM pg_database WHERE datname = current_database())`,
  ).toHaveLength(0);
});

test('a role that is no superuser can do it', async () => {
  const url = await useEmptyDatabase();
  const sql = connect(url);
  const [role] = await sql`SELECT rolsuper AS super, rolcreaterole AS maker FROM pg_roles WHERE rolname = current_user`;
  // Where the tests are given a superuser, one without its powers takes its place.
  const isSuper = role!['super'] === true;
  const name = `ringback_plain_${Math.random().toString(36).slice(2, 10)}`;
  const plain = new URL(url);
  if (isSuper) {
    await sql.unsafe(`CREATE ROLE ${name} LOGIN PASSWORD 'plain'`);
    await sql.unsafe(`GRANT CREATE ON DATABASE ${plain.pathname.slice(1)} TO ${name}`);
    onTestFinished(async () => {
      const again = postgres(url, { max: 1, onnotice: () => {} });
      await again.unsafe(`DROP OWNED BY ${name}`);
      await again.unsafe(`DROP ROLE ${name}`);
      await again.end();
    });
    plain.username = name;
    plain.password = 'plain';
  }
  await migrate(plain.href);
  expect(await migrations(connect(plain.href))).not.toEqual([]);
});
