import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmod, mkdtemp, realpath, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import postgres from 'postgres';
import { program } from '#embedded/binaries.ts';
import { serverArguments } from '#embedded/cluster.ts';
import { place } from '#embedded/placement.ts';
import { startEmbeddedPostgres } from '#embedded/postgres.ts';
import { readState } from '#embedded/state.ts';
import { eventually } from '../../support/eventually.ts';
import { type FakeTime, fakeTime } from './fake-time.ts';

/** A PostgreSQL of the test's own, whose wall clock the test sets. */
export interface ClockServer {
  readonly url: string;
  readonly time: FakeTime;
  stop(): Promise<void>;
}

export async function startClockServer(): Promise<ClockServer> {
  const parent = await mkdtemp(join(tmpdir(), 'ringback-clock-server-'));
  await chmod(parent, 0o755);
  const time = fakeTime();
  // Makes the cluster, its role and its database.
  const { url, stop } = await startEmbeddedPostgres({ dataDir: join(parent, 'data'), durable: false });
  await stop();
  const dataDir = await realpath(join(parent, 'data'));
  const { binaries, clusterDir, user } = await place(dataDir, await readState(dataDir));
  const child = spawn(program(binaries, 'postgres'), serverArguments(clusterDir, Number(new URL(url).port), false), {
    ...user,
    cwd: '/',
    env: { PATH: process.env['PATH'], LC_ALL: 'C', ...time.env },
    stdio: 'ignore',
  });
  const exited = once(child, 'exit');
  await eventually(async () => {
    const sql = postgres(url, { max: 1, connect_timeout: 2 });
    try {
      await sql`SELECT 1`;
    } finally {
      await sql.end({ timeout: 1 });
    }
  }, 20_000);
  return {
    url,
    time,
    stop: async () => {
      child.kill('SIGQUIT');
      await exited;
      time.remove();
      const elsewhere = clusterDir.startsWith(parent) ? [] : [dirname(clusterDir)];
      for (const folder of [parent, ...elsewhere]) await rm(folder, { recursive: true, force: true });
    },
  };
}
