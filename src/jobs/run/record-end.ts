import type { JobProgress } from '#domain/job.ts';
import type { Logger } from '#log.ts';
import type { RunEnd } from '#store/end-runs.ts';
import { persist } from '#store/group-commit.ts';
import { findRunOnRecord } from '#store/held-runs.ts';
import type { JobRecord } from '#store/jobs.ts';
import { isTransient, sqlStateOf } from '#store/transient.ts';
import { endRun, type EndRunDeps } from './end-run.ts';
import { failed } from './handler.ts';
import type { RunOutcome } from './run-end.ts';

export interface RecordEndDeps extends EndRunDeps {
  readonly log: Logger;
}

export interface RecordEndOptions {
  readonly progress?: JobProgress | null;
  /** Aborts when it is to be given up. */
  readonly signal: AbortSignal;
}

/** What was written. */
export type RecordedEnd = Pick<RunEnd, 'runStatus' | 'runError' | 'jobStatus' | 'nextRunAt'>;

/**
 * Ends a run as its outcome says, and tries again what may pass. An end that the database refuses for good, because of what is in it,
 * fails the run and its job with an error that says so: run again, it would most likely end the same way.
 * @param read the job, anew for each try: what others wrote of it meanwhile is in its last event
 * @returns what was written; undefined when the run, or the wait, was not the job's own any more
 */
export async function recordEnd(
  read: () => Promise<JobRecord>,
  outcome: RunOutcome,
  deps: RecordEndDeps,
  options: RecordEndOptions,
): Promise<RecordedEnd | undefined> {
  try {
    return await recordOnce(read, outcome, deps, options);
  } catch (error) {
    if (isTransient(error)) throw error;
    const job = await read();
    deps.log.error({ err: error, job_id: job.id, run_id: job.runId }, 'the end of a run was refused');
    const message = `The run ended (${outcome.kind}), but its end could not be stored (${sqlStateOf(error)}).`;
    return recordOnce(read, failed('end_not_stored', message, false), deps, { ...options, progress: null });
  }
}

async function recordOnce(
  read: () => Promise<JobRecord>,
  outcome: RunOutcome,
  deps: RecordEndDeps,
  { progress = null, signal }: RecordEndOptions,
): Promise<RecordedEnd | undefined> {
  let tries = 0;
  const write = async (isContended: boolean) => {
    tries += 1;
    const job = await read();
    const end = await endRun(job, outcome, deps, progress, isContended);
    return end ?? (tries > 1 ? findWritten(job, outcome, deps) : undefined);
  };
  return persist(write, isTransient, signal);
}

/** Refused after an error, it may have been written by the try that failed: the connection was lost after the commit. */
async function findWritten(
  job: JobRecord,
  { kind }: RunOutcome,
  deps: RecordEndDeps,
): Promise<RecordedEnd | undefined> {
  const { accountId, id: jobId, runId } = job;
  if (runId === null) return undefined;
  const found = await findRunOnRecord(deps.db, { accountId, jobId, runId });
  if (found === undefined || found.runStatus === null) return undefined;
  const isSame = found.runStatus === kind || (kind === 'released' && found.runStatus === 'canceled');
  if (!isSame || found.jobStatus === 'queued') return undefined;
  deps.endings.foundWritten({ accountId, jobId });
  const { runStatus, runError, jobStatus } = found;
  return { runStatus, runError, jobStatus, nextRunAt: null };
}
