import { randomBytes } from 'node:crypto';
import { link, mkdir, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { identify, isAlive, type ProcessIdentity } from './processes.ts';

export interface HeldLock {
  /** Safe to call twice. */
  release(): Promise<void>;
}

export type LockAttempt =
  | { readonly ok: true; readonly lock: HeldLock }
  | { readonly ok: false; readonly holder: ProcessIdentity };

const RELEASED = 'released';

/**
 * One holder at a time among the processes of this machine, with nothing left behind that a `kill -9` could make
 * eternal. Node has no flock(2), and "remove the dead one's file, then create mine" lets two starters remove each
 * other's. So the lock is a growing number: `<directory>/<n>` names the holder of generation n, the highest counts,
 * and taking over from a dead or departed n is creating n + 1, which link(2) lets one starter do. The highest file is
 * never removed, only marked; a starter so slow that it created a number already surpassed sees that, and steps back.
 */
export async function tryLock(directory: string): Promise<LockAttempt> {
  await mkdir(directory, { recursive: true });
  for (;;) {
    const highest = Math.max(0, ...(await generations(directory)));
    const holder = highest > 0 ? await readHolder(join(directory, String(highest))) : undefined;
    if (holder && isAlive(holder)) return { ok: false, holder };

    const mine = highest + 1;
    if (!(await createWhole(directory, join(directory, String(mine))))) continue;
    const others = (await generations(directory)).filter((generation) => generation !== mine);
    if (others.some((generation) => generation > mine)) {
      await rm(join(directory, String(mine)), { force: true });
      continue;
    }
    await Promise.all(others.map(async (old) => rm(join(directory, String(old)), { force: true })));
    return { ok: true, lock: { release: async () => markReleased(directory, mine) } };
  }
}

async function generations(directory: string): Promise<number[]> {
  return (await readdir(directory)).filter((name) => /^\d+$/.test(name)).map(Number);
}

/** `undefined` for a lock given back, and for one that a power failure left empty: such a holder is gone. */
async function readHolder(path: string): Promise<ProcessIdentity | undefined> {
  const text = await readFile(path, 'utf8').catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return RELEASED; // surpassed since it was listed
    throw error;
  });
  const [, pid, startedAt = ''] = /^(\d+) (.*)$/.exec(text) ?? [];
  return pid === undefined ? undefined : { pid: Number(pid), startedAt };
}

/** Creates `path` with its content, or returns false when it exists: nobody ever sees it half written. */
async function createWhole(directory: string, path: string): Promise<boolean> {
  const draft = join(directory, `draft-${randomBytes(6).toString('hex')}`);
  const self = identify(process.pid) ?? { pid: process.pid, startedAt: '' };
  await writeFile(draft, `${self.pid} ${self.startedAt}`, { mode: 0o644 });
  try {
    await link(draft, path);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') return false;
    throw error;
  } finally {
    await rm(draft, { force: true });
  }
}

async function markReleased(directory: string, generation: number): Promise<void> {
  const path = join(directory, String(generation));
  const draft = join(directory, `draft-${randomBytes(6).toString('hex')}`);
  try {
    await writeFile(draft, RELEASED);
    await rename(draft, path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error; // somebody deleted the whole directory
  }
}
