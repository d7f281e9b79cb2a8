import { chown, mkdtemp, rm } from 'node:fs/promises';
import { existsSync, globSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { onTestFinished } from 'vitest';
import { run } from '#embedded/processes.ts';
import { serverUser } from '#embedded/run-as.ts';
import { freePort } from './free-port.ts';

/** Where a whole PostgreSQL is installed, with pg_dump and pg_basebackup: the embedded one comes without. The newest there is. */
export const POSTGRES_BIN = globSync('/usr/lib/postgresql/*/bin')
  .filter((bin) =>
    ['initdb', 'pg_ctl', 'pg_dump', 'psql', 'pg_basebackup'].every((name) => existsSync(join(bin, name))),
  )
  .toSorted((one, other) => versionOf(other) - versionOf(one))[0];

const WITHOUT_POSTGRES =
  'skipped: no PostgreSQL with pg_dump under /usr/lib/postgresql; apt-get install postgresql-15 brings one';

/** Says why, where tests that need one are skipped. */
export function explainSkipped(): void {
  console.warn(WITHOUT_POSTGRES);
}

function versionOf(bin: string): number {
  return Number(/(\d+)\/bin$/.exec(bin)?.[1] ?? 0);
}

/** A cluster of its own for one test; removed with it. */
export interface Cluster {
  readonly url: string;
  readonly dir: string;
  readonly port: number;
  start(): Promise<void>;
  stop(mode: 'fast' | 'immediate'): Promise<void>;
  promote(): Promise<void>;
}

/** @param fill makes the data directory, whose path it is given */
async function prepare(fill: (dir: string) => Promise<void>): Promise<Cluster> {
  const parent = await mkdtemp(join(tmpdir(), 'ringback-cluster-'));
  const user = await serverUser(parent);
  if (user !== undefined) await chown(parent, user.uid, user.gid);
  const dir = join(parent, 'data');
  await fill(dir);
  const port = await freePort();
  const control = (...args: readonly string[]) => tool('pg_ctl', ['-D', dir, '-w', ...args]);
  const options = `-p ${port} -k ${parent} -h 127.0.0.1 -c fsync=off -c wal_level=replica`;
  onTestFinished(async () => {
    await control('-m', 'immediate', 'stop').catch(() => undefined);
    await rm(parent, { recursive: true, force: true });
  });
  return {
    url: `postgresql://postgres@127.0.0.1:${port}/postgres`,
    dir,
    port,
    start: () => control('-l', join(parent, 'log'), '-o', options, 'start'),
    stop: (mode) => control('-m', mode, 'stop'),
    promote: () => control('promote'),
  };
}

/** An empty cluster, started. */
export async function createCluster(): Promise<Cluster> {
  const cluster = await prepare((dir) => tool('initdb', ['-D', dir, '-U', 'postgres', '-A', 'trust', '-N']));
  await cluster.start();
  return cluster;
}

/** A standby that streams from a cluster, started. */
export async function createStandby(primary: Cluster): Promise<Cluster> {
  const standby = await prepare((dir) =>
    tool('pg_basebackup', ['-D', dir, '-d', primary.url, '-R', '-X', 'stream', '-c', 'fast', '-N']),
  );
  await standby.start();
  return standby;
}

/** A plain dump, into a file that is removed with the test. */
export async function dump(from: Cluster): Promise<string> {
  const file = join(from.dir, '..', 'dump.sql');
  await tool('pg_dump', ['-d', from.url, '-f', file]);
  return file;
}

export async function restore(file: string, into: Cluster): Promise<void> {
  await tool('psql', ['-q', '-X', '-v', 'ON_ERROR_STOP=1', '-d', into.url, '-f', file]);
}

async function tool(name: string, args: readonly string[]): Promise<void> {
  const user = await serverUser(tmpdir());
  const { ok, output } = await run(join(POSTGRES_BIN!, name), args, user);
  if (!ok) throw new Error(`${name}: ${output}`);
}
