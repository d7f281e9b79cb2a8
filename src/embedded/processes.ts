import { execFile, execFileSync } from 'node:child_process';
import { readFileSync, readlinkSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';

/** A process for good: a pid alone is reused, after a reboot or in a fresh container often by a near relative. */
export interface ProcessIdentity {
  readonly pid: number;
  /** Opaque; two processes with one pid differ in it. Empty where the system tells nothing. */
  readonly startedAt: string;
}

/** Who runs under `pid` now; `undefined` when nobody does, or only a zombie that its parent has not reaped. */
export function identify(pid: number): ProcessIdentity | undefined {
  if (!Number.isSafeInteger(pid) || pid <= 0) return undefined;
  if (process.platform === 'linux') return identifyFromProc(pid);
  if (process.platform === 'win32') return answersSignals(pid) ? { pid, startedAt: '' } : undefined;
  return identifyFromPs(pid);
}

export function isAlive(known: ProcessIdentity): boolean {
  return identify(known.pid)?.startedAt === known.startedAt;
}

/** As `isAlive`, but cheap enough to be asked all the time; may take a process that has the pid now for the one that had it. */
export function mayBeAlive(known: ProcessIdentity): boolean {
  return process.platform === 'linux' ? isAlive(known) : answersSignals(known.pid);
}

/** proc_pid_stat(5): the name, field 2, may hold spaces and parentheses; 3 is the state, 22 the start in ticks since boot. */
function identifyFromProc(pid: number): ProcessIdentity | undefined {
  const stat = readText(`/proc/${pid}/stat`);
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  const [state, ticks] = [fields[0], fields[19]];
  if (!ticks || state === 'Z' || state === 'X') return undefined;
  return { pid, startedAt: `${readText('/proc/sys/kernel/random/boot_id').trim()}/${ticks}` };
}

/** For macOS and the BSDs. The time zone is fixed because `lstart` is written in the local one. */
export function identifyFromPs(pid: number): ProcessIdentity | undefined {
  const line = ps(pid, 'stat=', 'lstart=');
  const [, state, startedAt] = /^(\S+)\s+(\S.*)$/.exec(line) ?? [];
  return startedAt && !state?.startsWith('Z') ? { pid, startedAt } : undefined;
}

function answersSignals(pid: number): boolean {
  try {
    return process.kill(pid, 0);
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}

/**
 * Whether `pid` is a PostgreSQL server on `clusterDir`. The server works in its data directory, but in a container
 * even root may not look there (that takes CAP_SYS_PTRACE); the command line is open to all, and ours has `-D`.
 */
export function servesCluster(pid: number, clusterDir: string): boolean {
  if (process.platform !== 'linux') return process.platform === 'win32' || ps(pid, 'command=').includes(clusterDir);
  if (readText(`/proc/${pid}/cmdline`).split('\0').includes(clusterDir)) return true;
  try {
    return readlinkSync(`/proc/${pid}/cwd`) === clusterDir;
  } catch {
    return false;
  }
}

function readText(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return '';
  }
}

function ps(pid: number, ...columns: string[]): string {
  try {
    const args = [...columns.flatMap((column) => ['-o', column]), '-ww', '-p', String(pid)];
    const env = { PATH: process.env['PATH'], LC_ALL: 'C', TZ: 'UTC' };
    return execFileSync('ps', args, { encoding: 'utf8', env, stdio: ['ignore', 'pipe', 'ignore'] }).trim();
  } catch {
    return '';
  }
}

/** Asks `condition` every 20 ms; false when it did not come true within `timeoutMs`. */
export async function waitUntil(condition: () => boolean | Promise<boolean>, timeoutMs: number): Promise<boolean> {
  const deadline = performance.now() + timeoutMs;
  while (!(await condition())) {
    if (performance.now() > deadline) return false;
    await delay(20);
  }
  return true;
}

/** Whom to run as, when not as ourselves. */
export interface Identity {
  readonly uid: number;
  readonly gid: number;
}

export interface CommandResult {
  readonly ok: boolean;
  /** Both streams, trimmed; what the system said when the command did not even start. */
  readonly output: string;
}

/**
 * What PostgreSQL's programs and ours may inherit: neither secrets (`/proc/<pid>/environ` would show them to another
 * user) nor PG* and LD_LIBRARY_PATH, which would change what they do. Messages in English, because we read them.
 */
export function commandEnv(): NodeJS.ProcessEnv {
  const kept = ['PATH', 'TMPDIR', 'TEMP', 'TMP', 'SYSTEMROOT'];
  const pairs = kept.flatMap((name) => (process.env[name] === undefined ? [] : [[name, process.env[name]]]));
  return { ...Object.fromEntries(pairs), LC_ALL: 'C' };
}

/** Runs a command to its end, at most two minutes. Never rejects. */
export async function run(command: string, args: readonly string[], as?: Identity): Promise<CommandResult> {
  const options = { ...as, cwd: '/', env: commandEnv(), timeout: 120_000, windowsHide: true };
  return new Promise((resolve) => {
    try {
      execFile(command, args, options, (error, stdout, stderr) => {
        const output = `${stdout}${stderr}`.trim();
        resolve({ ok: error === null, output: output === '' && error ? error.message : output });
      });
    } catch (error) {
      resolve({ ok: false, output: (error as Error).message }); // a spawn refused at once throws: EPERM on setuid
    }
  });
}
