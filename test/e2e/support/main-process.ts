import { type ChildProcess, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, onTestFinished } from 'vitest';
import { eventually } from '../../support/eventually.ts';
import { SECRET_KEY } from '../../support/fixtures.ts';
import type { LogLine } from '../../support/log.ts';

const ROOT = fileURLToPath(new URL('../../..', import.meta.url));

/** For `RINGBACK_CONFIG`: job types that behave as the diagnostic ones do not. */
export const JOB_SIDE = fileURLToPath(new URL('job-side.config.ts', import.meta.url));

export type Environment = Readonly<Record<string, string | undefined>>;

export interface Exit {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  /** Since the call that waited for it. */
  readonly tookMs: number;
}

/** `node src/main.ts` with an environment of the test's choosing, which may well be one that it does not start with. */
export interface MainProcess {
  readonly child: ChildProcess;
  /** JSON lines of stdout; grows. */
  readonly logs: readonly LogLine[];
  /** The other lines of stdout; grows. */
  readonly printed: readonly string[];
  /** Grows. */
  readonly stderr: readonly string[];
  /** Where it listens, once it does; empty without the role `api`. */
  listening(): Promise<string>;
  /** Its end; fails when it does not end in time. Sends the signal first, if there is one. */
  ends(options?: { signal?: NodeJS.Signals; timeoutMs?: number }): Promise<Exit>;
  /** SIGKILL, and waits until it is dead. */
  kill(): Promise<void>;
}

/** Killed with the test that spawned it. */
export function spawnMain(env: Environment): MainProcess {
  const main = startProcess(env);
  onTestFinished(() => main.kill());
  return main;
}

/** What a service on a given database needs, with callbacks to loopback and the diagnostic job types. */
export function serviceEnv(databaseUrl: string, env: Environment = {}): Environment {
  return {
    DATABASE_URL: databaseUrl,
    RINGBACK_SECRET_KEY: SECRET_KEY,
    RINGBACK_BOOTSTRAP_KEY: `rbk_${randomBytes(24).toString('base64url')}`,
    RINGBACK_DIAGNOSTICS: '1',
    RINGBACK_EGRESS_ALLOW: '127.0.0.0/8,::1/128',
    ...env,
  };
}

/** One service for all tests of a file. Its members can be read once the hooks have run. */
export function useService(env: () => Environment): { readonly url: string; readonly main: MainProcess } {
  let main: MainProcess | undefined;
  let url = '';
  beforeAll(async () => {
    main = startProcess(env());
    url = await main.listening();
  });
  afterAll(() => main?.kill());
  return {
    get url() {
      return url;
    },
    get main() {
      return main!;
    },
  };
}

function startProcess(env: Environment): MainProcess {
  const child = spawn(process.execPath, ['src/main.ts'], {
    cwd: ROOT,
    env: { PATH: process.env['PATH'], PORT: '0', HOST: '127.0.0.1', ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  // Its streams have ended as well then: nothing more will be read.
  const closed = once(child, 'close') as Promise<[number | null, NodeJS.Signals | null]>;
  const logs: LogLine[] = [];
  const printed: string[] = [];
  const stderr: string[] = [];
  createInterface(child.stdout).on('line', (line) => {
    if (line.startsWith('{')) logs.push(JSON.parse(line) as LogLine);
    else printed.push(line);
  });
  createInterface(child.stderr).on('line', (line) => stderr.push(line));
  const story = () => [...logs.slice(-5).map((line) => JSON.stringify(line)), ...stderr.slice(-20)].join('\n');
  return {
    child,
    logs,
    printed,
    stderr,
    listening: () => {
      return eventually(() => {
        const line = logs.find(({ msg }) => msg === 'listening');
        if (line === undefined) throw new Error(`does not listen (exit code ${child.exitCode}): ${story()}`);
        return (line['url'] as string | undefined) ?? '';
      }, 30_000);
    },
    ends: async ({ signal: sent, timeoutMs = 20_000 } = {}) => {
      const asked = performance.now();
      if (sent !== undefined) child.kill(sent);
      const { promise: late, reject } = Promise.withResolvers<never>();
      const timer = setTimeout(() => reject(new Error(`no end within ${timeoutMs} ms: ${story()}`)), timeoutMs);
      try {
        const [code, signal] = await Promise.race([closed, late]);
        return { code, signal, tookMs: performance.now() - asked };
      } finally {
        clearTimeout(timer);
      }
    },
    kill: async () => {
      child.kill('SIGKILL');
      await closed;
    },
  };
}
