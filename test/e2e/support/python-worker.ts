import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { expect, onTestFinished } from 'vitest';
import { eventually } from '../../support/eventually.ts';

const SCRIPT = fileURLToPath(new URL('remote_worker.py', import.meta.url));

export interface PythonWorker {
  readonly name: string;
  readonly child: ChildProcess;
  /** Its lines so far; grows. */
  readonly said: readonly string[];
  /** Sends the signal and waits for the end; answers the exit code, null after SIGKILL. */
  end(signal: 'SIGTERM' | 'SIGKILL'): Promise<number | null>;
}

/** Without it there is nothing to test: said so, instead of a worker that never claims. */
export function expectPython(): void {
  const { status } = spawnSync('python3', ['--version']);
  if (status !== 0) throw new Error('python3 is not installed: the example worker needs it (.ci/run installs it)');
}

/** Starts the example worker, with the tests' handlers, and waits until it works; killed with the test. */
export async function startPythonWorker(url: string, key: string, name: string): Promise<PythonWorker> {
  const child = spawn('python3', [SCRIPT], {
    env: {
      PATH: process.env['PATH'],
      PYTHONDONTWRITEBYTECODE: '1',
      RINGBACK_URL: url,
      RINGBACK_KEY: key,
      RINGBACK_WORKER: name,
    },
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  const exited = once(child, 'exit') as Promise<[number | null]>;
  const said: string[] = [];
  createInterface(child.stderr).on('line', (line) => said.push(line));
  onTestFinished(async () => {
    child.kill('SIGKILL');
    await exited;
  });
  await eventually(() => expect(said.join('\n'), `exit code ${child.exitCode}`).toContain('works for'));
  return {
    name,
    child,
    said,
    end: async (signal) => {
      child.kill(signal);
      const [code] = await exited;
      return code;
    },
  };
}
