import { type ChildProcess, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { expect, inject, onTestFinished } from 'vitest';
import { SECRET_KEY } from './fixtures.ts';
import type { LogLine } from './log.ts';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const START_TIMEOUT_MS = 20_000;
const STOP_TIMEOUT_MS = 20_000;

export interface ServiceOptions {
  /** Usually `useDatabase().url`. Several services may share one. */
  readonly databaseUrl: string;
  /** Added to, or replacing, what every service gets. `undefined` takes a variable away. */
  readonly env?: Readonly<Record<string, string | undefined>>;
  /** For Node itself, before the program. */
  readonly nodeArgs?: readonly string[];
}

/** One answer of the API. */
export interface Reply {
  readonly status: number;
  readonly headers: Headers;
  readonly text: string;
  /** The body, where it is JSON. */
  // eslint-disable-next-line -- what a test expects of it, the test says
  readonly json: any;
}

/** The service as operators run it: a process of its own, configured by its environment, heard through its log. */
export interface RunningService {
  readonly process: ChildProcess;
  /** Where the API listens; empty without the role `api`. */
  readonly url: string;
  /** The bootstrap key, of the account `default`. */
  readonly key: string;
  /** Encrypts at rest: services on one database must get the same one, as they do unless told otherwise. */
  readonly secretKey: string;
  /** Its JSON log lines so far; grows. */
  readonly logs: readonly LogLine[];
  /** Lines on its stderr, or on stdout but no JSON: there should be none. */
  readonly noise: readonly string[];
  /** Asks the API with the bootstrap key; an object as `body` travels as JSON, a string as it is. */
  request(method: string, path: string, body?: unknown, headers?: Readonly<Record<string, string>>): Promise<Reply>;
  /** SIGTERM, as an orchestrator does; expects a clean end, code 0, within 20 s. */
  stop(): Promise<void>;
  /** SIGKILL, as the kernel does when memory is out; waits until it is dead. */
  kill(): Promise<void>;
}

/**
 * Starts `node src/main.ts` with every role, the diagnostic job types and loopback callbacks allowed, and waits until
 * it listens. Killed with the test that started it, should it still live.
 */
export async function startService({ databaseUrl, env = {}, nodeArgs = [] }: ServiceOptions): Promise<RunningService> {
  const key = env['RINGBACK_BOOTSTRAP_KEY'] ?? `rbk_${randomBytes(24).toString('base64url')}`;
  const secretKey = env['RINGBACK_SECRET_KEY'] ?? SECRET_KEY;
  const child = spawn(process.execPath, [...nodeArgs, 'src/main.ts'], {
    cwd: ROOT,
    env: {
      PATH: process.env['PATH'],
      PORT: '0',
      HOST: '127.0.0.1',
      ...throughPooler(databaseUrl),
      RINGBACK_SECRET_KEY: secretKey,
      RINGBACK_BOOTSTRAP_KEY: key,
      RINGBACK_DIAGNOSTICS: '1',
      RINGBACK_EGRESS_ALLOW: '127.0.0.0/8,::1/128',
      ...env,
    },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const exited = once(child, 'exit') as Promise<[number | null, NodeJS.Signals | null]>;
  onTestFinished(async () => {
    child.kill('SIGKILL');
    await exited;
  });
  const { logs, noise } = listenTo(child);
  const { url } = await untilListening(child, logs, noise);
  return {
    process: child,
    url,
    key,
    secretKey,
    logs,
    noise,
    request: (method, path, body, headers) => send(`${url}${path}`, key, method, body, headers),
    stop: async () => {
      child.kill('SIGTERM');
      const [code, signal] = await within(STOP_TIMEOUT_MS, exited, () => `no end after SIGTERM: ${tail(logs, noise)}`);
      expect({ code, signal }, tail(logs, noise)).toEqual({ code: 0, signal: null });
    },
    kill: async () => {
      child.kill('SIGKILL');
      await exited;
    },
  };
}

/** Through the pooler of the run, if there is one; a database that is reached in another way, by a proxy of the test's, stays so. */
function throughPooler(databaseUrl: string): Readonly<Record<string, string>> {
  const { adminUrl, pooler } = inject('server');
  const url = new URL(databaseUrl);
  if (pooler === undefined || url.host !== new URL(adminUrl).host) return { DATABASE_URL: databaseUrl };
  url.host = pooler;
  return { DATABASE_URL: url.href, DATABASE_DIRECT_URL: databaseUrl };
}

function listenTo(child: ChildProcess): { logs: LogLine[]; noise: string[] } {
  const logs: LogLine[] = [];
  const noise: string[] = [];
  createInterface(child.stdout!).on('line', (line) => {
    const parsed = asLogLine(line);
    if (parsed === undefined) noise.push(line);
    else logs.push(parsed);
  });
  createInterface(child.stderr!).on('line', (line) => noise.push(line));
  return { logs, noise };
}

function asLogLine(line: string): LogLine | undefined {
  try {
    return JSON.parse(line) as LogLine;
  } catch {
    return undefined;
  }
}

async function untilListening(child: ChildProcess, logs: LogLine[], noise: string[]): Promise<{ url: string }> {
  const { promise, resolve, reject } = Promise.withResolvers<{ url: string }>();
  const look = () => {
    const line = logs.find(({ msg }) => msg === 'listening');
    if (line !== undefined) resolve({ url: (line['url'] as string | undefined) ?? '' });
  };
  // After the reader's own listener, which was there first.
  child.stdout!.on('data', () => setImmediate(look));
  child.once('close', (code) => reject(new Error(`the service ended with code ${code}: ${tail(logs, noise)}`)));
  return within(START_TIMEOUT_MS, promise, () => `the service does not listen: ${tail(logs, noise)}`);
}

async function within<T>(timeoutMs: number, promise: Promise<T>, complaint: () => string): Promise<T> {
  const { promise: late, reject } = Promise.withResolvers<never>();
  const timer = setTimeout(() => reject(new Error(complaint())), timeoutMs);
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

function tail(logs: readonly LogLine[], noise: readonly string[]): string {
  return [...logs.slice(-5).map((line) => JSON.stringify(line)), ...noise.slice(-10)].join('\n');
}

async function send(
  url: string,
  key: string,
  method: string,
  body: unknown,
  headers: Readonly<Record<string, string>> = {},
): Promise<Reply> {
  const response = await fetch(url, {
    method,
    redirect: 'manual',
    headers: {
      authorization: `Bearer ${key}`,
      ...(body === undefined ? {} : { 'content-type': 'application/json' }),
      ...headers,
    },
    ...(body === undefined ? {} : { body: typeof body === 'string' ? body : JSON.stringify(body) }),
  });
  const text = await response.text();
  const isJson = /[/+]json\b/.test(response.headers.get('content-type') ?? '');
  return { status: response.status, headers: response.headers, text, json: isJson ? JSON.parse(text) : undefined };
}
