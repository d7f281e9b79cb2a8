import type { JobStatus } from './job.ts';

/** What an account has ready in a pool, as a sample found it. */
export interface Lane {
  readonly waiting: number;
  /** False when there is more than `waiting`. */
  readonly isWhole: boolean;
  readonly oldestDueAt: Date;
  readonly newestDueAt: Date;
}

/** A pool lately: its lanes by account, and how many runs it gets through. */
export interface PoolLoad {
  readonly lanes: ReadonlyMap<string, Lane>;
  /** Null while nothing seems to run. */
  readonly runsPerMs: number | null;
}

/** Of an account's runs, how many are before one that is due then: a share of the lane, by time. */
function countAhead({ waiting, isWhole, oldestDueAt, newestDueAt }: Lane, dueAt: Date): number {
  const [oldest, newest, due] = [oldestDueAt.getTime(), newestDueAt.getTime(), dueAt.getTime()];
  if (due <= oldest) return 0;
  if (due >= newest && (isWhole || newest === oldest)) return waiting;
  return (waiting * (due - oldest)) / (newest - oldest);
}

/**
 * How long a run that is due then will wait for its turn, in milliseconds; null when nobody knows. Pools are fair by
 * account: until an account's run has its turn, every other account gets as many, if it has them.
 */
export function queueTimeMs({ lanes, runsPerMs }: PoolLoad, accountId: string, dueAt: Date): number | null {
  const own = lanes.get(accountId);
  const ahead = own === undefined ? 0 : countAhead(own, dueAt);
  let runs = 0;
  for (const lane of lanes.values()) runs += lane === own || !lane.isWhole ? ahead : Math.min(lane.waiting, ahead);
  if (runs === 0) return 0;
  return runsPerMs === null ? null : runs / runsPerMs;
}

/** What there is to know of a job that has not ended. */
export interface PendingJob {
  readonly status: JobStatus;
  readonly createdAt: Date;
  readonly runAt: Date | null;
  readonly nextRunAt: Date | null;
  /** When the run under way started; null while the job waits for one. */
  readonly runningSince: Date | null;
}

export interface Outlook {
  /** What a run of its type takes, in milliseconds; null when none has ended lately. */
  readonly runMs: number | null;
  /** How long it will wait for its turn once it is due; null when nobody knows. */
  readonly queueMs: number | null;
}

const LONGEST_S = 600;

/** Seconds until it is worth asking for the job again: from 1 to 600. */
export function pollAfterSeconds(job: PendingJob, outlook: Outlook, now: Date): number {
  const seconds = Math.ceil(remainingMs(job, outlook, now) / 1000);
  return Math.min(LONGEST_S, Math.max(1, seconds));
}

function remainingMs(job: PendingJob, { runMs, queueMs }: Outlook, now: Date): number {
  const { runningSince } = job;
  if (runningSince !== null) {
    if (runMs === null) return untold(runningSince, now);
    const left = runMs - (now.getTime() - runningSince.getTime());
    return left > 0 ? left : overdue(-left);
  }
  const appointment = job.nextRunAt ?? job.runAt ?? now;
  const untilDueMs = Math.max(0, appointment.getTime() - now.getTime());
  if (runMs === null || queueMs === null) return untilDueMs + untold(dueAtOf(job), now);
  return untilDueMs + queueMs + runMs;
}

/** When a job that waits is, or was, due. Without an appointment, when it was made: by the clock of whoever made it. */
export function dueAtOf({ createdAt, runAt, nextRunAt }: Omit<PendingJob, 'runningSince'>): Date {
  return nextRunAt ?? runAt ?? createdAt;
}

/** Nothing is known: a quarter of the time it took so far, up to 30 s, so that short jobs are seen soon and long ones cost few requests. */
function untold(since: Date, now: Date): number {
  return Math.min(30_000, Math.max(0, now.getTime() - since.getTime()) / 4);
}

/** It takes longer than others did: the longer it does, the longer it may. */
function overdue(byMs: number): number {
  return byMs / 4;
}
