import { spawn } from 'node:child_process';
import { randomInt } from 'node:crypto';
import { chown, open, readFile, rename, rm, stat } from 'node:fs/promises';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { type Binaries, program } from './binaries.ts';
import { readPostmasterNote, serverArguments } from './cluster.ts';
import { EmbeddedPostgresError } from './errors.ts';
import type { Placement } from './placement.ts';
import { commandEnv, identify, isAlive, type ProcessIdentity, run, waitUntil } from './processes.ts';
import { isRoot } from './run-as.ts';

export interface Server {
  readonly process: ProcessIdentity;
  readonly port: number;
}

export interface LaunchOptions {
  readonly placement: Placement;
  readonly dataDir: string;
  /** Taken when free. */
  readonly preferredPort?: number | undefined;
  /** Taken, or the start fails: clients know it. */
  readonly port?: number;
  readonly durable: boolean;
}

/** Replaying the log after a crash included. */
export const READY_TIMEOUT_MS = 60_000;
const LOG_KEPT_BYTES = 4 * 1024 * 1024;

/** Starts a server on the cluster and waits until it takes connections. */
export async function launch(options: LaunchOptions): Promise<Server> {
  let port = options.port ?? (await choosePort(options.preferredPort));
  const giveUpAt = performance.now() + 20_000;
  for (;;) {
    const result = await launchOnce(options, port);
    if (!('fault' in result)) return result;
    if (performance.now() > giveUpAt) throw startFailed(result.fault, options);
    if (/could not bind|could not create any TCP\/IP sockets/.test(result.fault)) {
      if (options.port === undefined) port = await choosePort(undefined);
      else await delay(250);
    } else if (result.fault.includes('shared memory block')) {
      await delay(250); // the last sessions of a server that was killed still hold its memory, until they notice
    } else {
      throw startFailed(result.fault, options);
    }
  }
}

async function launchOnce(options: LaunchOptions, port: number): Promise<Server | { fault: string }> {
  const { clusterDir, binaries, user } = options.placement;
  const log = await openLog(options.dataDir);
  let exit: { fault: string } | undefined;
  try {
    const child = spawn(program(binaries, 'postgres'), serverArguments(clusterDir, port, options.durable), {
      ...user,
      cwd: '/',
      env: commandEnv(),
      stdio: ['ignore', log.handle.fd, log.handle.fd],
      detached: true, // its own session: Ctrl-C in the terminal is for Ringback, which then stops PostgreSQL in order
      windowsHide: true,
    });
    child.once('error', (error) => (exit = { fault: error.message }));
    child.once('exit', (code, signal) => (exit = { fault: `exit code ${code}, signal ${signal}` }));
    child.unref();
    const self = child.pid === undefined ? undefined : identify(child.pid);
    const settled = await waitUntil(
      async () => exit !== undefined || (await isReadyAs(clusterDir, self)),
      READY_TIMEOUT_MS,
    );
    if (exit || !self) return { fault: (await readFrom(log.path, log.start)) || (exit?.fault ?? 'it did not start') };
    if (!settled) throw stillStarting(self.pid, log.path);
    return { process: self, port };
  } finally {
    await log.handle.close();
  }
}

async function isReadyAs(clusterDir: string, self: ProcessIdentity | undefined): Promise<boolean> {
  const note = await readPostmasterNote(clusterDir);
  return note !== undefined && note.pid === self?.pid && note.status === 'ready';
}

/**
 * Fast shutdown: sessions are ended, nothing committed is lost. Should that take too long, immediate
 * shutdown, after which the next start replays the log.
 */
export async function stopServer(server: ProcessIdentity, binaries: Binaries): Promise<void> {
  for (const [signal, timeoutMs] of [
    ['INT', 15_000],
    ['QUIT', 10_000],
  ] as const) {
    if (!isAlive(server)) return;
    await sendSignal(server.pid, signal, binaries);
    if (await waitUntil(() => !isAlive(server), timeoutMs)) return;
  }
  throw new EmbeddedPostgresError(
    'stop_failed',
    `PostgreSQL (pid ${server.pid}) does not stop. The next start will adopt it; to end it now: kill -QUIT ${server.pid}.`,
  );
}

async function sendSignal(pid: number, signal: 'INT' | 'QUIT', binaries: Binaries): Promise<void> {
  if (process.platform === 'win32') {
    await run(program(binaries, 'pg_ctl'), ['kill', signal, String(pid)]); // Windows has no signals; PostgreSQL has its own
    return;
  }
  try {
    process.kill(pid, `SIG${signal}`);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
  }
}

/** `preferred` when it is free; else a free one below the ephemeral range, from which outgoing connections take theirs. */
async function choosePort(preferred: number | undefined): Promise<number> {
  if (preferred && (await isFree(preferred))) return preferred;
  for (let tries = 0; tries < 50; tries++) {
    const port = randomInt(20_000, 32_000);
    if (await isFree(port)) return port;
  }
  throw new EmbeddedPostgresError('start_failed', 'Found no free port on 127.0.0.1 for PostgreSQL. Set DATABASE_URL.');
}

async function isFree(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const probe = createServer();
    probe.once('error', () => resolve(false));
    probe.listen({ port, host: '127.0.0.1', exclusive: true }, () => probe.close(() => resolve(true)));
  });
}

interface Log {
  readonly handle: Awaited<ReturnType<typeof open>>;
  readonly path: string;
  /** Where this start's lines begin. */
  readonly start: number;
}

export const logPath = (dataDir: string): string => join(dataDir, 'postgres.log');

/** The server's log, bounded here: a long one becomes `postgres.log.1` and the one before that goes. */
async function openLog(dataDir: string): Promise<Log> {
  const path = logPath(dataDir);
  const size = await stat(path).then(
    (stats) => stats.size,
    () => 0,
  );
  if (size > LOG_KEPT_BYTES) {
    await rm(`${path}.1`, { force: true });
    await rename(path, `${path}.1`);
  }
  const handle = await open(path, 'a', 0o600);
  if (isRoot()) {
    const { uid, gid } = await stat(dataDir);
    await chown(path, uid, gid);
  }
  return { handle, path, start: (await handle.stat()).size };
}

async function readFrom(path: string, start: number): Promise<string> {
  return (await readFile(path)).subarray(start).toString('utf8').trim();
}

function startFailed(fault: string, { dataDir }: LaunchOptions): EmbeddedPostgresError {
  const lines = fault.split('\n').slice(-5).join(' | ');
  return new EmbeddedPostgresError(
    'start_failed',
    `The embedded PostgreSQL does not start: ${lines}. Its log is ${logPath(dataDir)}. ` +
      'Mend the cause and start again, or set DATABASE_URL.',
  );
}

export function stillStarting(pid: number, log: string): EmbeddedPostgresError {
  return new EmbeddedPostgresError(
    'start_timeout',
    `PostgreSQL (pid ${pid}) takes no connections after ${READY_TIMEOUT_MS / 1000} s; it may be replaying its log after a ` +
      `crash (see ${log}). It was left running: start again to wait for it, or set DATABASE_URL.`,
  );
}
