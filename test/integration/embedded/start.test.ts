import { once } from 'node:events';
import { mkdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { dirname, join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { findBinaries } from '#embedded/binaries.ts';
import { query, untilGone, Workspace } from './workspace.ts';

const isRoot = process.getuid?.() === 0;

describe('starting the embedded PostgreSQL', { timeout: 60_000 }, () => {
  it('makes a database that an ordinary role owns and that a client can query', async () => {
    await using workspace = await Workspace.create();
    const { url, adopted } = await workspace.start();
    const [row] = await query(
      url,
      async (sql) => sql`
        SELECT current_setting('server_version_num')::int / 10000 AS major, current_database() AS database,
               current_setting('server_encoding') AS encoding, lower('Ä') AS lower, 'a' < 'B' AS "linguistic",
               (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) AS super,
               pg_get_userbyid(datdba) = current_user AS owner, inet_server_addr()::text AS address
        FROM pg_database WHERE datname = current_database()`,
    );
    expect(row).toEqual({
      major: 18,
      database: 'ringback',
      encoding: 'UTF8',
      lower: 'ä',
      linguistic: false,
      super: false,
      owner: true,
      address: '127.0.0.1/32',
    });
    expect(adopted).toBe(false);
  });

  it('is durable unless told otherwise', async () => {
    await using workspace = await Workspace.create();
    const settings = async (url: string) =>
      query(url, async (sql) =>
        sql`SELECT name, setting FROM pg_settings
            WHERE name IN ('fsync', 'full_page_writes', 'synchronous_commit') ORDER BY name`.values(),
      );
    const durable = await workspace.start({ durable: true });
    expect(await settings(durable.url)).toEqual([
      ['fsync', 'on'],
      ['full_page_writes', 'on'],
      ['synchronous_commit', 'on'],
    ]);
    await durable.stop();
    const volatile = await workspace.start({ durable: false });
    expect(await settings(volatile.url)).toContainEqual(['fsync', 'off']);
  });

  it('asks for a password that only its owner can read', async () => {
    await using workspace = await Workspace.create();
    const { url } = await workspace.start();
    const file = join(workspace.dataDir, 'postgres.password');
    expect((await stat(file)).mode & 0o777).toBe(0o600);
    const password = (await readFile(file, 'utf8')).trim();
    await expect(query(url.replace(password, 'guess'), async (sql) => sql`SELECT 1`)).rejects.toMatchObject({
      code: '28P01',
    });
  });

  it('keeps data, port and password over a restart', async () => {
    await using workspace = await Workspace.create();
    const first = await workspace.start();
    await query(first.url, async (sql) => sql`CREATE TABLE kept AS SELECT 42 AS answer`);
    await first.stop();
    const second = await workspace.start();
    expect(second.url).toBe(first.url);
    expect(await query(second.url, async (sql) => sql`SELECT answer FROM kept`)).toEqual([{ answer: 42 }]);
  });

  it('moves to another port when its own is taken', async () => {
    await using workspace = await Workspace.create();
    const first = await workspace.start();
    const port = Number(new URL(first.url).port);
    await first.stop();
    const squatter = createServer().listen(port, '127.0.0.1');
    await once(squatter, 'listening');
    try {
      const second = await workspace.start();
      expect(new URL(second.url).port).not.toBe(String(port));
      expect(await query(second.url, async (sql) => sql`SELECT 1 AS one`)).toEqual([{ one: 1 }]);
    } finally {
      squatter.close();
    }
  });

  it('leaves no process behind when stopped, and may be stopped twice', async () => {
    await using workspace = await Workspace.create();
    const server = await workspace.start();
    const pid = workspace.serverPid();
    await query(server.url, async (sql) => {
      sql`SELECT pg_sleep(600)`.catch(() => {}); // a busy session must not hold up the stop
      await Promise.all([server.stop(), server.stop()]);
    }).catch(() => {});
    await server.stop();
    expect(await untilGone(pid)).toBe(true);
  });

  it('gives the server none of our environment', async ({ skip }) => {
    skip(process.platform !== 'linux', 'reads /proc');
    process.env['RINGBACK_TEST_SECRET'] = 'not-for-postgres';
    try {
      await using workspace = await Workspace.create();
      await workspace.start();
      expect(await readFile(`/proc/${workspace.serverPid()}/environ`, 'utf8')).not.toContain('not-for-postgres');
    } finally {
      delete process.env['RINGBACK_TEST_SECRET'];
    }
  });

  it('begins again when an earlier initdb was killed half way', async () => {
    await using workspace = await Workspace.create();
    await mkdir(join(workspace.dataDir, 'postgres.new', 'base'), { recursive: true });
    await writeFile(join(workspace.dataDir, 'postgres.new', 'PG_VERSION'), '18\n');
    const { url } = await workspace.start();
    expect(await query(url, async (sql) => sql`SELECT 1 AS one`)).toEqual([{ one: 1 }]);
  });

  it('puts the cluster where its user can reach it, and finds it there again', async ({ skip }) => {
    skip(!isRoot, 'only root has to run the server as another user');
    await using workspace = await Workspace.create(0o700);
    const first = await workspace.start();
    expect(dirname(first.clusterDir)).not.toBe(first.dataDir);
    await query(first.url, async (sql) => sql`CREATE TABLE kept AS SELECT 42 AS answer`);
    await first.stop();
    const second = await workspace.start();
    expect(second.clusterDir).toBe(first.clusterDir);
    expect(await query(second.url, async (sql) => sql`SELECT answer FROM kept`)).toEqual([{ answer: 42 }]);
  });

  it('begins anew when the data directory was deleted, and keeps the data that lay elsewhere', async ({ skip }) => {
    skip(!isRoot, 'only root has to keep the data elsewhere');
    await using workspace = await Workspace.create(0o700);
    const first = await workspace.start();
    await query(first.url, async (sql) => sql`CREATE TABLE old AS SELECT 42 AS answer`);
    await first.stop();
    await rm(workspace.dataDir, { recursive: true });
    const asides: unknown[] = [];
    const second = await workspace.start({ onLog: (_level, _message, fields) => asides.push(fields['aside']) });
    expect(await query(second.url, async (sql) => sql`SELECT to_regclass('old') AS old`)).toEqual([{ old: null }]);
    const aside = asides.find((path) => typeof path === 'string');
    expect(await readFile(join(aside!, 'PG_VERSION'), 'utf8')).toBe('18\n');
  });
});

describe('what the embedded PostgreSQL refuses', { timeout: 60_000 }, () => {
  it('names DATABASE_URL on a platform without binaries', async () => {
    await expect(findBinaries('sunos-sparc')).rejects.toMatchObject({
      code: 'unsupported_platform',
      message: expect.stringContaining('DATABASE_URL'),
    });
  });

  it('does not touch the data of another major version, and starts once they are its own again', async () => {
    await using workspace = await Workspace.create();
    const { clusterDir, stop } = await workspace.start();
    await stop();
    await writeFile(join(clusterDir, 'PG_VERSION'), '17\n');
    await expect(workspace.start()).rejects.toMatchObject({
      code: 'data_version_mismatch',
      message: expect.stringMatching(/PostgreSQL 17.*pg_dump/),
    });
    await writeFile(join(clusterDir, 'PG_VERSION'), '18\n');
    await workspace.start();
  });

  it('does not overwrite files that are no cluster', async () => {
    await using workspace = await Workspace.create();
    const precious = join(workspace.dataDir, 'postgres', 'thesis.txt');
    await mkdir(dirname(precious), { recursive: true });
    await writeFile(precious, 'years of work');
    await expect(workspace.start()).rejects.toMatchObject({
      code: 'init_failed',
      message: expect.stringContaining('in the way'),
    });
    expect(await readFile(precious, 'utf8')).toBe('years of work');
  });

  it('says what to do when the password is gone', async () => {
    await using workspace = await Workspace.create();
    const { stop } = await workspace.start();
    await stop();
    await rm(join(workspace.dataDir, 'postgres.password'));
    await expect(workspace.start()).rejects.toMatchObject({
      code: 'password_missing',
      message: expect.stringContaining('Put it back'),
    });
  });

  it('says where the log is when the server cannot start', async () => {
    await using workspace = await Workspace.create();
    const { clusterDir, stop } = await workspace.start();
    await stop();
    await writeFile(join(clusterDir, 'postgresql.conf'), 'no_such_setting = 1\n');
    await expect(workspace.start()).rejects.toMatchObject({
      code: 'start_failed',
      message: expect.stringMatching(/no_such_setting.*postgres\.log/),
    });
  });
});
