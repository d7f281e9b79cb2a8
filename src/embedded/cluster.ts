import { existsSync } from 'node:fs';
import { chown, mkdir, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { program } from './binaries.ts';
import { EmbeddedPostgresError } from './errors.ts';
import type { Placement } from './placement.ts';
import { run } from './processes.ts';

/** The superuser, whom only this folder uses: the service is no superuser here, as it will not be one in production. */
export const ADMIN = 'postgres';

/** Written into postgresql.conf, where an operator may change them; what must hold is on the command line instead. */
const SETTINGS = [
  'shared_buffers=128MB',
  'max_connections=100',
  'max_wal_size=2GB', // fewer checkpoints under load, hence fewer full-page images
  'random_page_cost=1.1', // flash
  'jit=off', // costs more than our short statements take
  'timezone=UTC',
  'log_timezone=UTC',
  'log_checkpoints=off',
  // Statements and DETAIL lines can hold payloads and keys.
  'log_min_error_statement=panic',
  'log_error_verbosity=terse',
];

/** Durable unless the cluster is to be thrown away: then a test run does not wait for the disk. */
export function serverArguments(clusterDir: string, port: number, durable: boolean): string[] {
  const onOff = durable ? 'on' : 'off';
  const settings = [
    `port=${port}`,
    'listen_addresses=127.0.0.1',
    'unix_socket_directories=', // nobody needs one, and its path may be longer than the 107 bytes that fit
    'logging_collector=off',
    `fsync=${onOff}`,
    `full_page_writes=${onOff}`,
    `synchronous_commit=${onOff}`,
  ];
  return ['-D', clusterDir, ...settings.flatMap((setting) => ['-c', setting])];
}

/** Whether a finished cluster is there. Throws when it is of another PostgreSQL, or something else altogether. */
export async function clusterExists({ clusterDir, binaries }: Placement): Promise<boolean> {
  if (!existsSync(clusterDir)) return false;
  const found = (await readFile(`${clusterDir}/PG_VERSION`, 'utf8').catch(() => '')).trim();
  if (found === binaries.major) return true;
  if (found === '' && (await readdir(clusterDir)).length === 0) return false;
  throw found === '' ? notACluster(clusterDir) : otherVersion(clusterDir, found, binaries.major);
}

/** Makes the cluster in a draft beside its place, so that one whose initdb was killed is never taken for whole. */
export async function initCluster(placement: Placement, password: string, durable: boolean): Promise<void> {
  const { clusterDir, binaries, user } = placement;
  const draft = `${clusterDir}.new`;
  const passwordFile = `${clusterDir}.pwfile`;
  await rm(draft, { recursive: true, force: true });
  await mkdir(draft, { mode: 0o700 });
  try {
    await rm(passwordFile, { force: true });
    await writeFile(passwordFile, `${password}\n`, { mode: 0o600, flag: 'wx' });
    for (const path of user ? [draft, passwordFile] : []) await chown(path, user!.uid, user!.gid);
    const args = ['-D', draft, '--username', ADMIN, '--pwfile', passwordFile, '--auth', 'scram-sha-256'];
    // The builtin locale sorts by bytes and knows Unicode's letters, alike on every system.
    args.push('--encoding', 'UTF8', '--locale', 'C', '--locale-provider', 'builtin', '--builtin-locale', 'C.UTF-8');
    args.push(...SETTINGS.flatMap((setting) => ['--set', setting]), ...(durable ? [] : ['--no-sync']));
    const { ok, output } = await run(program(binaries, 'initdb'), args, user);
    if (!ok) throw initFailed(clusterDir, output);
    await rename(draft, clusterDir);
  } finally {
    await rm(passwordFile, { force: true });
    await rm(draft, { recursive: true, force: true });
  }
}

/** The server's own note about itself, postmaster.pid. */
export interface PostmasterNote {
  readonly pid: number;
  readonly port: number;
  /** `starting` also means recovering. */
  readonly status: 'starting' | 'ready' | 'stopping';
}

/** `undefined` when there is none, or not yet a whole one: the server writes it line by line. */
export async function readPostmasterNote(clusterDir: string): Promise<PostmasterNote | undefined> {
  const text = await readFile(`${clusterDir}/postmaster.pid`, 'utf8').catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return '';
    throw error;
  });
  const [pid, , , port, , , , status = 'starting'] = text.split('\n').map((line) => line.trim());
  if (!pid) return undefined;
  const known = status === 'ready' || status === 'stopping' ? status : 'starting';
  return { pid: Number(pid), port: Number(port ?? 0), status: known };
}

function notACluster(clusterDir: string): EmbeddedPostgresError {
  return new EmbeddedPostgresError(
    'init_failed',
    `${clusterDir} is in the way: it holds files, but no PostgreSQL cluster. Move it elsewhere, or set RINGBACK_DATA_DIR.`,
  );
}

function otherVersion(clusterDir: string, found: string, major: string): EmbeddedPostgresError {
  return new EmbeddedPostgresError(
    'data_version_mismatch',
    `The data in ${clusterDir} were written by PostgreSQL ${found}, the embedded one is ${major}. Dump them with the ` +
      `Ringback release that wrote them (pg_dump) and restore into a fresh RINGBACK_DATA_DIR, or run PostgreSQL ${found} ` +
      'on them yourself and set DATABASE_URL.',
  );
}

function initFailed(clusterDir: string, output: string): EmbeddedPostgresError {
  return new EmbeddedPostgresError(
    'init_failed',
    `initdb could not make a PostgreSQL cluster in ${clusterDir}: ${output.split('\n').slice(-5).join(' | ')}. ` +
      'Mend that and start again (nothing was left behind), or set DATABASE_URL.',
  );
}
