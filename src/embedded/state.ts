import { randomBytes } from 'node:crypto';
import { chown, readFile, rename, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { isRoot } from './run-as.ts';

/** What one start remembers for the next. */
export interface State {
  readonly port?: number;
  readonly clusterDir?: string;
  /** Where this state was written: tells a copy of the data directory from the original. */
  readonly dataDir?: string;
}

const stateFile = (dataDir: string): string => join(dataDir, 'postgres.json');
const passwordFile = (dataDir: string): string => join(dataDir, 'postgres.password');

/** Nothing in it is irreplaceable, so a damaged file reads as empty. */
export async function readState(dataDir: string): Promise<State> {
  try {
    const state: unknown = JSON.parse(await readFile(stateFile(dataDir), 'utf8'));
    return typeof state === 'object' && state !== null ? state : {};
  } catch {
    return {};
  }
}

export async function writeState(dataDir: string, state: State): Promise<void> {
  await writePrivate(stateFile(dataDir), `${JSON.stringify({ ...state, dataDir }, null, 2)}\n`, dataDir);
}

export async function readPassword(dataDir: string): Promise<string | undefined> {
  const text = await readFile(passwordFile(dataDir), 'utf8').catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return '';
    throw error;
  });
  return text.trim() || undefined;
}

/** Makes a password and keeps it before it is used, so that no cluster exists whose password is lost. */
export async function createPassword(dataDir: string): Promise<string> {
  const password = randomBytes(24).toString('hex'); // hex needs no quoting, neither in a URL nor in SQL
  await writePrivate(passwordFile(dataDir), `${password}\n`, dataDir);
  return password;
}

/** Replaces `path` whole, mode 0600, owned by whom the data directory belongs to: root may be a passing visitor. */
async function writePrivate(path: string, content: string, dataDir: string): Promise<void> {
  const draft = `${path}.${process.pid}`;
  await writeFile(draft, content, { mode: 0o600 });
  if (isRoot()) {
    const { uid, gid } = await stat(dataDir);
    await chown(draft, uid, gid);
  }
  await rename(draft, path);
}
