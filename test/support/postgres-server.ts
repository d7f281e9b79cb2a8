import { readFileSync, rmSync } from 'node:fs';
import { chmod, mkdtemp, rm } from 'node:fs/promises';
import { request } from 'node:http';
import { homedir, tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { type EmbeddedPostgres, startEmbeddedPostgres } from '#embedded/postgres.ts';
import { identify } from '#embedded/processes.ts';

/** A PostgreSQL for one run of the tests. */
export interface TestServer {
  /** A role that may create databases. */
  readonly url: string;
  /** Which server this is, and why. */
  readonly origin: string;
  /** True when it outlives the run, so that the database of a failed test can be looked at. */
  readonly survives: boolean;
  stop(): Promise<void>;
}

/** `TEST_DATABASE_URL`, else Docker, else the embedded PostgreSQL. */
export async function findServer(env: NodeJS.ProcessEnv): Promise<TestServer> {
  const url = env['TEST_DATABASE_URL'];
  if (url) return { url, origin: 'TEST_DATABASE_URL, which is set', survives: true, stop: async () => {} };
  const reason = 'TEST_DATABASE_URL is not set';
  const docker = await pingDocker(env);
  if (!docker.ok) return startEmbedded(`${reason}, ${docker.why}`);
  try {
    return await startContainer(env, `${reason}, Docker answers at ${docker.at}`);
  } catch (error) {
    // Whoever picked an image wants that one, not a green run on another PostgreSQL.
    if (env['TESTCONTAINERS_POSTGRES_IMAGE']) throw error;
    return startEmbedded(`${reason}, Docker answers but started no PostgreSQL (${(error as Error).message})`);
  }
}

type Ping = { readonly ok: true; readonly at: string } | { readonly ok: false; readonly why: string };

/** Asks the engine itself: the client alone, or the socket of an engine that has stopped, is not enough. */
async function pingDocker(env: NodeJS.ProcessEnv): Promise<Ping> {
  const host = env['DOCKER_HOST'];
  const sockets = [
    '/var/run/docker.sock',
    ...(env['XDG_RUNTIME_DIR'] ? [join(env['XDG_RUNTIME_DIR'], 'docker.sock')] : []),
    join(homedir(), '.docker', 'run', 'docker.sock'),
  ];
  const places = host ? [host] : sockets.map((path) => `unix://${path}`);
  for (const at of places) if (await answers(at)) return { ok: true, at };
  return { ok: false, why: `no Docker engine answers (${places.join(', ')})` };
}

function answers(place: string): Promise<boolean> {
  const url = URL.parse(place);
  const { promise, resolve } = Promise.withResolvers<boolean>();
  const target =
    url?.protocol === 'unix:'
      ? { socketPath: decodeURIComponent(url.pathname) }
      : { host: url?.hostname ?? '', port: url?.port || 2375 };
  const ping = request({ ...target, path: '/_ping', timeout: 1000 }, (response) => {
    response.resume();
    resolve(response.statusCode === 200);
  });
  ping.on('timeout', () => ping.destroy(new Error('no answer')));
  ping.on('error', () => resolve(false));
  ping.end();
  return promise;
}

async function startContainer(env: NodeJS.ProcessEnv, reason: string): Promise<TestServer> {
  // Loaded only when wanted: it takes half a second.
  const { PostgreSqlContainer } = await import('@testcontainers/postgresql');
  const image = env['TESTCONTAINERS_POSTGRES_IMAGE'] || 'postgres:18-alpine';
  const settings = ['fsync=off', 'full_page_writes=off', 'synchronous_commit=off', 'max_connections=200'];
  const container = await new PostgreSqlContainer(image)
    .withCommand(['postgres', ...settings.flatMap((setting) => ['-c', setting])])
    .start();
  return {
    url: container.getConnectionUri(),
    origin: `${image} in Docker: ${reason}`,
    survives: false,
    stop: async () => void (await container.stop()),
  };
}

async function startEmbedded(reason: string): Promise<TestServer> {
  const parent = await mkdtemp(join(tmpdir(), 'ringback-test-'));
  // Open to the server's user, which is not ours when we are root; the data directory itself is not.
  await chmod(parent, 0o755);
  const server = await startEmbeddedPostgres({ dataDir: join(parent, 'data'), durable: false });
  const directories = [parent, ...(server.clusterDir.startsWith(parent) ? [] : [dirname(server.clusterDir)])];
  const endAtOnce = () => killAndRemove(server, directories);
  process.once('exit', endAtOnce);
  return {
    url: server.url,
    origin: `the embedded PostgreSQL: ${reason}`,
    survives: false,
    stop: async () => {
      await server.stop();
      process.off('exit', endAtOnce);
      for (const directory of directories) await rm(directory, { recursive: true, force: true });
    },
  };
}

const KILL_TIMEOUT_MS = 5000;

/** For a run that is interrupted: an exit handler cannot await anything. */
function killAndRemove(server: EmbeddedPostgres, directories: readonly string[]): void {
  const pid = postmasterOf(server);
  if (pid !== undefined) {
    process.kill(pid, 'SIGQUIT');
    const deadline = performance.now() + KILL_TIMEOUT_MS;
    const nobody = new Int32Array(new SharedArrayBuffer(4));
    while (identify(pid) !== undefined && performance.now() < deadline) Atomics.wait(nobody, 0, 0, 20);
  }
  for (const directory of directories) rmSync(directory, { recursive: true, force: true });
}

/** Undefined when it has ended already. */
function postmasterOf({ clusterDir }: EmbeddedPostgres): number | undefined {
  try {
    const pid = Number(readFileSync(join(clusterDir, 'postmaster.pid'), 'utf8').split('\n')[0]);
    return identify(pid)?.pid;
  } catch {
    return undefined;
  }
}
