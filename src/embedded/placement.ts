import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { chmod, chown, mkdir, stat, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { copyBinaries, findBinaries, tryBinaries, unusable, type WorkingBinaries } from './binaries.ts';
import { EmbeddedPostgresError } from './errors.ts';
import { type Identity, run } from './processes.ts';
import { serverUser } from './run-as.ts';
import { readState, type State } from './state.ts';

/**
 * Where things go that the server's user could not reach where they are: started by root in a clone under /root
 * (mode 0700), neither node_modules nor the data directory is open to anybody else. Survives a reboot, unlike /tmp.
 */
const ELSEWHERE = '/var/lib/ringback-embedded';

export interface Placement {
  readonly binaries: WorkingBinaries;
  readonly clusterDir: string;
  /** Outside the data directory. */
  readonly relocated: boolean;
  readonly user: Identity | undefined;
}

/** Settles who runs the server, with which copy of the binaries, on which directory. `dataDir` is a real path. */
export async function place(dataDir: string, state: State): Promise<Placement> {
  const found = await tryBinaries(await findBinaries());
  if ('fault' in found) throw unusable(found.fault); // before a user is made for nothing
  const remembered = await rememberedCluster(dataDir, state);
  const preferred = remembered ?? join(dataDir, 'postgres');
  const user = await serverUser(preferred);
  const binaries = await reachableBinaries(found, user, dataDir);
  if (!user || (await canReach(user, dirname(preferred), dataDir))) {
    return { binaries, clusterDir: preferred, relocated: preferred !== join(dataDir, 'postgres'), user };
  }
  const base = join(ELSEWHERE, createHash('sha256').update(dataDir).digest('hex').slice(0, 12));
  await openElsewhere(ELSEWHERE, dataDir);
  await openElsewhere(base, dataDir);
  await writeFile(join(base, 'README'), `The embedded PostgreSQL of the Ringback data directory ${dataDir}\n`);
  if (!(await canReach(user, base, dataDir))) throw nowhere(dataDir);
  if (existsSync(preferred)) throw nowhere(dataDir); // it was reachable once: moving somebody's data is not for us
  return { binaries, clusterDir: join(base, 'postgres'), relocated: true, user };
}

/**
 * The place chosen at an earlier start. A data directory that was moved keeps it; in a copy of one, the place belongs
 * to the original, and two services on one cluster is what nobody wants.
 */
async function rememberedCluster(dataDir: string, state: State): Promise<string | undefined> {
  const { clusterDir, dataDir: origin } = state;
  if (!clusterDir || existsSync(join(dataDir, 'postgres')) || !existsSync(clusterDir)) return undefined;
  const isCopy = origin && origin !== dataDir && (await readState(origin)).clusterDir === clusterDir;
  return isCopy ? undefined : clusterDir;
}

async function reachableBinaries(
  found: WorkingBinaries,
  user: Identity | undefined,
  dataDir: string,
): Promise<WorkingBinaries> {
  if (!user || !('fault' in (await tryBinaries(found, user)))) return found;
  await openElsewhere(ELSEWHERE, dataDir);
  const copy = await tryBinaries(await copyBinaries(found, ELSEWHERE), user);
  if ('fault' in copy) throw unusable(copy.fault);
  return copy;
}

/** Whether `user` may go into `directory`. When only our own data directory is in the way, its group is let through. */
async function canReach(user: Identity, directory: string, dataDir: string): Promise<boolean> {
  const enter = async (path: string) => (await run('/bin/sh', ['-c', 'cd -- "$1"', 'sh', path], user)).ok;
  if (await enter(directory)) return true;
  const { mode } = await stat(dataDir);
  if (directory !== dataDir || (mode & 0o070) !== 0 || !(await enter(dirname(dataDir)))) return false;
  // 0710 for the server's group: nobody had rights through the group before, and the files inside are 0600.
  await chown(dataDir, -1, user.gid);
  await chmod(dataDir, (mode & 0o7777) | 0o010);
  return enter(dataDir);
}

/** Makes `path`, ELSEWHERE or below, and opens it to all, whatever root's umask is. */
async function openElsewhere(path: string, dataDir: string): Promise<void> {
  try {
    await mkdir(path, { recursive: true });
    await chmod(path, 0o755);
  } catch (error) {
    throw nowhere(dataDir, error);
  }
}

function nowhere(dataDir: string, cause?: unknown): EmbeddedPostgresError {
  return new EmbeddedPostgresError(
    'unreachable_data_dir',
    `PostgreSQL refuses to run as root, and the user it runs as instead can reach neither ${dataDir} nor ${ELSEWHERE}. ` +
      'Set RINGBACK_DATA_DIR to a directory that every user may traverse, such as /srv/ringback, or set DATABASE_URL.',
    { cause },
  );
}
