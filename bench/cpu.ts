import { readdirSync, readFileSync } from 'node:fs';

/** Linux counts CPU time in ticks of 10 ms, whatever the machine. */
const TICK_US = 10_000;

function fields(pid: number): string[] {
  const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
  // The command's name stands in brackets and may hold blanks.
  return stat.slice(stat.lastIndexOf(')') + 2).split(' ');
}

/** User and system time of a process and of its children that have ended, in microseconds. */
export function cpuMicros(pid: number): number {
  const [utime, stime, cutime, cstime] = fields(pid).slice(11, 15).map(Number);
  return (utime! + stime! + cutime! + cstime!) * TICK_US;
}

/** The same of a process with all its living children: PostgreSQL is a process a connection. */
export function treeCpuMicros(pid: number): number {
  const children = readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map(Number)
    .filter((candidate) => parentOf(candidate) === pid);
  return cpuMicros(pid) + children.reduce((sum, child) => sum + safely(() => cpuMicros(child)), 0);
}

function parentOf(pid: number): number {
  return safely(() => Number(fields(pid)[1]));
}

/** A process may end while it is looked at. */
function safely(read: () => number): number {
  try {
    return read();
  } catch {
    return 0;
  }
}

/** Resident memory in MiB. */
export function rssMiB(pid: number): number {
  const match = /^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'));
  return Number(match?.[1] ?? 0) / 1024;
}
