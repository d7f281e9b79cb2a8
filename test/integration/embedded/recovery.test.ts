import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import postgres from 'postgres';
import { describe, expect, it } from 'vitest';
import { identify, servesCluster, waitUntil } from '#embedded/processes.ts';
import { query, untilGone, Workspace } from './workspace.ts';

describe('starting after a crash', { timeout: 90_000 }, () => {
  for (const signal of ['SIGKILL', 'SIGINT'] as const) {
    it(`adopts the server that outlived its process, which a ${signal} to the group ended`, async () => {
      await using workspace = await Workspace.create();
      const holder = await workspace.hold();
      await query(holder.report.url, async (sql) => sql`CREATE TABLE kept AS SELECT 42 AS answer`);
      const pid = workspace.serverPid();
      await holder.kill(signal);
      expect(identify(pid), 'the server is not in the process group that was killed').toBeDefined();

      const server = await workspace.start();
      expect(server.adopted).toBe(true);
      expect(server.url).toBe(holder.report.url);
      expect(workspace.serverPid()).toBe(pid);
      expect(await query(server.url, async (sql) => sql`SELECT answer FROM kept`)).toEqual([{ answer: 42 }]);

      await server.stop();
      expect(await untilGone(pid)).toBe(true);
    });
  }

  it('replays the log when the server was killed too', async () => {
    await using workspace = await Workspace.create();
    const holder = await workspace.hold('durable');
    await query(holder.report.url, async (sql) => {
      await sql`CREATE TABLE kept AS SELECT n FROM generate_series(1, 50000) AS n`;
    });
    const pid = workspace.serverPid();
    await holder.kill('SIGKILL');
    process.kill(pid, 'SIGKILL');

    const server = await workspace.start({ durable: true });
    expect(server.adopted).toBe(false);
    expect(await query(server.url, async (sql) => sql`SELECT count(*)::int FROM kept`)).toEqual([{ count: 50000 }]);
    expect(await readFile(join(workspace.dataDir, 'postgres.log'), 'utf8')).toContain('automatic recovery in progress');
  });

  it('waits for the sessions that a killed server left at work on its memory', async ({ skip }) => {
    skip(process.platform === 'win32', 'stops a process with SIGSTOP');
    await using workspace = await Workspace.create();
    const holder = await workspace.hold('durable');
    const log = join(workspace.dataDir, 'postgres.log');
    const sql = postgres(holder.report.url, { max: 1 });
    const [session] = await sql<{ pid: number }[]>`SELECT pg_backend_pid() AS pid`;
    process.kill(session!.pid, 'SIGSTOP'); // so that it cannot notice
    await holder.kill('SIGKILL');
    process.kill(workspace.serverPid(), 'SIGKILL');

    const starting = workspace.start({ durable: true });
    expect(await waitUntil(async () => (await readFile(log, 'utf8')).includes('is still in use'), 10_000)).toBe(true);
    process.kill(session!.pid, 'SIGCONT');
    const server = await starting;
    expect(await query(server.url, async (other) => other`SELECT 1 AS one`)).toEqual([{ one: 1 }]);
    await sql.end({ timeout: 0 });
  });

  it('is not deterred by a postmaster.pid whose pid somebody else has now', async () => {
    await using workspace = await Workspace.create();
    const { clusterDir, stop } = await workspace.start();
    await stop();
    // A process of the same user, or else PostgreSQL sees by itself that it cannot be a server.
    const { uid, gid } = await stat(clusterDir);
    const stranger = spawn('sleep', ['600'], { uid, gid, stdio: 'ignore' });
    try {
      await once(stranger, 'spawn');
      await writeFile(join(clusterDir, 'postmaster.pid'), `${stranger.pid}\n${clusterDir}\n1700000000\n5432\n\n\n`);
      const server = await workspace.start();
      expect(server.adopted).toBe(false);
      expect(workspace.serverPid()).not.toBe(stranger.pid);
      expect(identify(stranger.pid!), 'the stranger was left alone').toBeDefined();
    } finally {
      stranger.kill();
    }
  });

  it('replaces a server that is less durable than wanted', async () => {
    await using workspace = await Workspace.create();
    const holder = await workspace.hold('volatile');
    const pid = workspace.serverPid();
    await holder.kill('SIGKILL');
    const server = await workspace.start({ durable: true });
    expect(server.adopted).toBe(false);
    expect(identify(pid)).toBeUndefined();
    expect(await query(server.url, async (sql) => sql`SHOW fsync`)).toEqual([{ fsync: 'on' }]);
  });

  it('reports the end of a server that nobody stopped', async () => {
    await using workspace = await Workspace.create();
    const messages: string[] = [];
    const ended = new Promise<void>((resolve) => {
      void workspace
        .start({
          onLog: (level, message) => {
            messages.push(`${level} ${message}`);
            if (level === 'error') resolve();
          },
        })
        .then(() => process.kill(workspace.serverPid(), 'SIGKILL'));
    });
    await ended;
    expect(messages).toContain('error embedded PostgreSQL ended; starting it again');
  });

  it('tells a server on this cluster from one on another', async () => {
    await using workspace = await Workspace.create();
    const { clusterDir } = await workspace.start();
    const pid = workspace.serverPid();
    expect(servesCluster(pid, clusterDir)).toBe(true);
    expect(servesCluster(pid, `${clusterDir}-of-somebody-else`)).toBe(false);
    expect(servesCluster(process.pid, clusterDir)).toBe(false);
  });
});
