import { mkdir, realpath, rename, rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { clusterExists, initCluster, readPostmasterNote } from './cluster.ts';
import { databaseUrl, ensureDatabase, isOurs } from './database.ts';
import { EmbeddedPostgresError, explainRefusal } from './errors.ts';
import { type HeldLock, tryLock } from './lock.ts';
import { place, type Placement } from './placement.ts';
import { identify, isAlive, servesCluster, waitUntil } from './processes.ts';
import { launch, logPath, READY_TIMEOUT_MS, type Server, stillStarting, stopServer } from './server.ts';
import { Supervisor } from './supervisor.ts';
import { createPassword, readPassword, readState, type State, writeState } from './state.ts';

type LogLevel = 'debug' | 'info' | 'warn' | 'error';

export interface EmbeddedPostgresOptions {
  /** Made when missing. Holds the cluster (`postgres/`), its password, port, log and lock. */
  readonly dataDir: string;
  /** False for clusters that will be thrown away: fast, and gone after a power failure. */
  readonly durable?: boolean;
  readonly onLog?: (level: LogLevel, message: string, fields: Readonly<Record<string, unknown>>) => void;
}

export interface EmbeddedPostgres {
  /** `postgres://ringback:<password>@127.0.0.1:<port>/ringback`; the role owns the database and is no superuser. */
  readonly url: string;
  /** Absolute, symbolic links resolved. */
  readonly dataDir: string;
  /** In the data directory, unless the server's user could not reach it there. */
  readonly clusterDir: string;
  /** True when a server that an earlier process had left behind was taken over. */
  readonly adopted: boolean;
  /** Rejects when the server has ended and could not be started again, with what to do about it. */
  readonly failed: Promise<never>;
  /** Stops the server and gives the data directory free. Safe to call twice; bounded to 25 s. */
  readonly stop: () => Promise<void>;
}

interface Context {
  readonly dataDir: string;
  readonly durable: boolean;
  readonly onLog: NonNullable<EmbeddedPostgresOptions['onLog']>;
}

/**
 * Starts PostgreSQL on `dataDir`, or takes over the one that runs there, and waits until it takes connections: about
 * 1 s for the first start, 0.2 s later. From then on it is started again when somebody else ends it, on the same port.
 * Installs no signal handler: whoever starts it stops it.
 *
 * @throws {EmbeddedPostgresError} its message says what to do; nothing is left running, except on `start_timeout`.
 */
export async function startEmbeddedPostgres(options: EmbeddedPostgresOptions): Promise<EmbeddedPostgres> {
  try {
    await mkdir(dirname(options.dataDir), { recursive: true });
    await mkdir(options.dataDir, { recursive: true, mode: 0o700 }); // a mode would also go to every directory above
    const dataDir = await realpath(options.dataDir);
    const lock = await lockDataDir(dataDir);
    try {
      return await startLocked({ dataDir, durable: options.durable ?? true, onLog: options.onLog ?? (() => {}) }, lock);
    } catch (error) {
      await lock.release();
      throw error;
    }
  } catch (error) {
    throw explainRefusal(error, options.dataDir);
  }
}

async function startLocked(context: Context, lock: HeldLock): Promise<EmbeddedPostgres> {
  const { dataDir, onLog } = context;
  const state = await readState(dataDir);
  const placement = await place(dataDir, state);
  const password = await ensureCluster(placement, state, context);
  const running = await adopt(placement, password, context);

  const server = running ?? (await launch({ ...context, placement, preferredPort: state.port }));
  const failed = Promise.withResolvers<never>();
  // Whoever does not care need not listen.
  failed.promise.catch(() => undefined);
  const supervisor = new Supervisor({
    server,
    clusterDir: placement.clusterDir,
    restart: () => restart(server.port, placement, password, context),
    stop: (which) => stopServer(which.process, placement.binaries),
    onLog: (level, message, fields) => onLog(level, message, { ...fields, log: logPath(dataDir) }),
    onGivenUp: failed.reject,
  });
  const stop = async (): Promise<void> => {
    try {
      await supervisor.stop();
    } finally {
      await lock.release();
    }
  };
  try {
    await writeState(dataDir, { port: server.port, clusterDir: placement.clusterDir });
    await ensureDatabase(server.port, password);
  } catch (error) {
    await stop();
    throw error;
  }
  let stopped: Promise<void> | undefined;
  return {
    url: databaseUrl(server.port, password),
    dataDir,
    clusterDir: placement.clusterDir,
    adopted: running !== undefined,
    failed: failed.promise,
    stop: async () => (stopped ??= stop()),
  };
}

async function lockDataDir(dataDir: string): Promise<HeldLock> {
  const attempt = await tryLock(join(dataDir, 'lock'));
  if (attempt.ok) return attempt.lock;
  const { pid } = attempt.holder;
  throw new EmbeddedPostgresError(
    'already_running',
    `Another Ringback (pid ${pid}) runs on ${dataDir}. Stop it, or set RINGBACK_DATA_DIR to another directory for a ` +
      'second installation, or set DATABASE_URL to let several processes share one database.',
  );
}

async function ensureCluster(placement: Placement, state: State, context: Context): Promise<string> {
  const { clusterDir, relocated, binaries } = placement;
  const { dataDir, durable, onLog } = context;
  const known = await readPassword(dataDir);
  if (await clusterExists(placement)) {
    if (known) return known;
    if (!relocated || state.clusterDir) throw passwordMissing(dataDir, clusterDir);
    await putAside(placement, context);
  }
  if (relocated) {
    onLog('warn', 'the data live outside the data directory, which the user of PostgreSQL cannot reach', {
      clusterDir,
    });
  }
  onLog('info', 'creating the embedded PostgreSQL', { clusterDir, version: binaries.version });
  const password = known ?? (await createPassword(dataDir));
  await initCluster(placement, password, durable);
  return password;
}

/** Where it was before: a fresh cluster in its place would look as if all had been lost. */
async function restart(port: number, placement: Placement, password: string, context: Context): Promise<Server> {
  if (!(await clusterExists(placement))) throw dataMissing(placement.clusterDir);
  const running = await adopt(placement, password, context);
  if (running?.port === port) return running;
  if (running !== undefined) await stopServer(running.process, placement.binaries);
  return launch({ ...context, placement, port });
}

function dataMissing(clusterDir: string): EmbeddedPostgresError {
  return new EmbeddedPostgresError(
    'data_missing',
    `The data of the embedded PostgreSQL in ${clusterDir} are gone: they were there when Ringback started. Put them back from a ` +
      'backup and start again; started without them, Ringback begins with an empty database.',
  );
}

/** The server that an earlier process left on this cluster, if it is one, ours, and as we want it; otherwise it is stopped. */
async function adopt(placement: Placement, password: string, context: Context): Promise<Server | undefined> {
  const orphan = await findOrphan(placement.clusterDir, context);
  if (!orphan) return undefined;
  const { pid } = orphan.process;
  const isWanted = await isOurs(orphan.port, password, placement.clusterDir, context.durable);
  context.onLog('warn', isWanted ? 'adopting the PostgreSQL of an earlier run' : 'replacing a PostgreSQL', { pid });
  if (isWanted) return orphan;
  await stopServer(orphan.process, placement.binaries);
  return undefined;
}

/** Waits for an orphan that is starting, recovering or stopping to be one thing or the other. */
async function findOrphan(clusterDir: string, { dataDir, onLog }: Context): Promise<Server | undefined> {
  const note = await readPostmasterNote(clusterDir);
  if (!note) return undefined;
  const self = identify(note.pid);
  if (!self || !servesCluster(note.pid, clusterDir)) {
    // PostgreSQL itself goes by the pid alone, and would refuse to start beside the one that has it now, be it the
    // server's own zombie. Processes of a killed server that still run it finds without this file, by shared memory.
    onLog('warn', 'removing the stale postmaster.pid of a killed PostgreSQL', { pid: note.pid });
    await rm(join(clusterDir, 'postmaster.pid'), { force: true });
    return undefined;
  }
  let current = note;
  const settled = await waitUntil(async () => {
    current = (await readPostmasterNote(clusterDir)) ?? current;
    return !isAlive(self) || (current.pid === self.pid && current.status === 'ready');
  }, READY_TIMEOUT_MS);
  if (!isAlive(self)) return undefined;
  if (!settled) throw stillStarting(self.pid, logPath(dataDir));
  return { process: self, port: current.port };
}

/**
 * A place outside the data directory that holds a cluster of which this data directory knows nothing: somebody
 * deleted the data directory to begin anew. Their keys went with it, so the old data are put aside, not opened.
 */
async function putAside({ clusterDir, binaries }: Placement, context: Context): Promise<void> {
  const orphan = await findOrphan(clusterDir, context);
  if (orphan) await stopServer(orphan.process, binaries);
  const aside = `${clusterDir}.${Date.now()}`;
  await rename(clusterDir, aside);
  context.onLog('warn', 'put aside the cluster of a deleted data directory; delete it when nobody needs it', { aside });
}

function passwordMissing(dataDir: string, clusterDir: string): EmbeddedPostgresError {
  return new EmbeddedPostgresError(
    'password_missing',
    `${dataDir}/postgres.password is missing, without which the data in ${clusterDir} cannot be opened. Put it back; ` +
      'or, to begin with an empty database, move that directory away.',
  );
}
