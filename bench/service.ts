import { type ChildProcess, fork } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { readFile } from 'node:fs/promises';

/** Services that share a database must agree on it. */
const SECRET_KEY = randomBytes(32).toString('base64');

/** The service as `npm start` runs it, in a process of its own, for benchmarks: every role, loopback only. */
export interface BenchService {
  readonly process: ChildProcess;
  readonly url: string;
  /** Of the account `default`. */
  readonly key: string;
  stop(): Promise<void>;
}

/** @param checkout where the service's sources are: those beside this file, or another working tree's */
export async function startService(
  databaseUrl: string,
  env: NodeJS.ProcessEnv = {},
  checkout = new URL('..', import.meta.url),
): Promise<BenchService> {
  const key = `rbk_${randomBytes(24).toString('base64url')}`;
  const child = fork(new URL('src/main.ts', checkout), [], {
    cwd: checkout,
    execArgv: await startFlags(checkout),
    env: {
      ...process.env,
      PORT: '0',
      HOST: '127.0.0.1',
      DATABASE_URL: databaseUrl,
      RINGBACK_SECRET_KEY: SECRET_KEY,
      RINGBACK_BOOTSTRAP_KEY: key,
      RINGBACK_DIAGNOSTICS: '1',
      RINGBACK_EGRESS_ALLOW: '127.0.0.0/8',
      ...env,
    },
    stdio: ['ignore', 'pipe', 'inherit', 'ipc'],
  });
  const ended = new Promise<void>((resolve) => child.once('exit', () => resolve()));
  const stop = async () => {
    child.kill('SIGTERM');
    await ended;
  };
  return { process: child, url: await untilListening(child), key, stop };
}

/** What its `npm start` gives Node. */
async function startFlags(checkout: URL): Promise<string[]> {
  const { scripts } = JSON.parse(await readFile(new URL('package.json', checkout), 'utf8')) as {
    scripts: { start: string };
  };
  return scripts.start.split(' ').filter((word) => word.startsWith('--'));
}

function untilListening(service: ChildProcess): Promise<string> {
  const { promise, resolve, reject } = Promise.withResolvers<string>();
  let head = '';
  let isListening = false;
  service.on('exit', (code) => reject(new Error(`the service ended with ${code}`)));
  service.stdout!.setEncoding('utf8').on('data', (chunk: string) => {
    if (isListening) return; // what it logs is read all the same, so that it never waits for us
    head += chunk;
    const url = /"url":"([^"]+)".*"msg":"listening"/.exec(head)?.[1];
    if (url === undefined) return;
    isListening = true;
    resolve(url);
  });
  return promise;
}
