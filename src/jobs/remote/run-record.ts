import type { RunId } from '#domain/ids.ts';
import type { EndedRunStatus, JobStatus } from '#domain/job.ts';
import { type Refusal, type Result, refuse } from '#domain/problem.ts';
import type { Database } from '#store/database.ts';
import { findRunOnRecord, type RunOnRecord } from '#store/held-runs.ts';
import type { RunRef } from '#store/run-queue.ts';

/** What became of a run, and of its job with it. */
export interface EndedRun {
  readonly runId: RunId;
  readonly runStatus: EndedRunStatus;
  /** `in_progress` when another run follows. */
  readonly jobStatus: JobStatus;
}

/** Why a run that is not under way cannot be written for. */
export async function refuseEnded(db: Database, run: RunRef): Promise<Refusal> {
  return refusalOf(await findRunOnRecord(db, run));
}

/**
 * Whoever tells an end a second time, because the answer to the first was lost, is told it again: `same` are the ends that
 * the call could have brought about. Otherwise as `refuseEnded`.
 */
export async function lookUpEnded(
  db: Database,
  run: RunRef,
  same: readonly EndedRunStatus[],
): Promise<Result<EndedRun>> {
  const found = await findRunOnRecord(db, run);
  if (found === undefined || found.runStatus === null || !same.includes(found.runStatus)) return refusalOf(found);
  return { ok: true, value: { runId: run.runId, runStatus: found.runStatus, jobStatus: found.jobStatus } };
}

function refusalOf(found: RunOnRecord | undefined): Refusal {
  if (found === undefined) return refuse('run_not_found', 'There is no such run.');
  const { jobStatus, runStatus, runError } = found;
  const extra = { job_status: jobStatus, run_status: runStatus, ...(runError && { run_error: runError }) };
  if (runStatus !== null && runStatus !== 'lost')
    return refuse('run_over', `The run has ended: ${runStatus}. Stop working on it.`, { extra });
  const why = runStatus === null ? 'It is not the run under way, or sent its result once more' : 'Its lease ran out';
  return refuse('run_superseded', `${why}: nothing is taken from here any more. Stop working on it.`, { extra });
}
