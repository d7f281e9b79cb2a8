import type { Clock } from '#domain/clock.ts';
import type { JobProgress } from '#domain/job.ts';
import type { Logger } from '#log.ts';
import type { Database } from '#store/database.ts';
import type { ClaimedJob } from '#store/claim-runs.ts';
import { persist } from '#store/group-commit.ts';
import { insertLogLines } from '#store/job-logs.ts';
import { findJob } from '#store/job-reads.ts';
import { deleteChunks } from '#store/result-chunks.ts';
import { deferRun, type JobRef, type RunRef } from '#store/run-queue.ts';
import { isTransient } from '#store/transient.ts';
import type { Endings } from './endings.ts';
import { execute, type Stopped, type Stops } from './execute.ts';
import { failed, type HandlerContext, type HandlerOutcome } from './handler.ts';
import type { JobType, JobTypes } from '../type/job-types.ts';
import { ProgressReport } from './progress.ts';
import { recordEnd } from './record-end.ts';
import type { KeptOutcome, ResultKeeper } from './result-keeper.ts';
import { RunLog } from './run-log.ts';
import type { RunTeller } from './run-teller.ts';

/** Does a job type's work, wherever that is done. Must not reject. */
export type Work = (
  call: { readonly jobType: JobType; readonly job: ClaimedJob; readonly context: HandlerContext },
  signal: AbortSignal,
) => Promise<HandlerOutcome>;

export interface RunWorkDeps {
  readonly db: Database;
  readonly clock: Clock;
  readonly types: JobTypes;
  readonly endings: Endings;
  readonly results: ResultKeeper;
  readonly teller: RunTeller;
  readonly log: Logger;
  readonly publicUrl: string;
  readonly cancelGraceMs: number;
  readonly work: Work;
  readonly jobsChanged: (jobs: readonly JobRef[]) => void;
}

/** Works one claimed run off, from its first line to its end on record. */
export async function workOff(job: ClaimedJob, stops: Stops, deps: RunWorkDeps): Promise<void> {
  await deps.teller.started(job, stops.shutdown);
  const { outcome: executed, progress } = await executeRun(job, stops, deps);
  // A back end that goes on by itself cannot be told to stop.
  const outcome = executed.kind === 'deferred' && stops.canceled.aborted ? { kind: 'canceled' as const } : executed;
  const run = { accountId: job.accountId, jobId: job.id, runId: job.runId };
  if (outcome.kind === 'deferred') {
    const deferred = await persist(() => deferRun(deps.db.sql, run), isTransient, stops.shutdown);
    return logRun(job, deps, { run: deferred ? 'deferred' : 'refused', job: 'in_progress' });
  }
  if (outcome.kind === 'superseded') {
    await discardResult(run, stops, deps);
    return logRun(job, deps, { run: 'refused', job: 'in_progress' });
  }
  const end = await recordEnd(() => asItIs(job, stops, deps), outcome, deps, { progress, signal: stops.shutdown });
  // A run that was stopped may have been in the middle of storing. From here on its fence refuses what comes late.
  if (isStopped(outcome) || (outcome.kind === 'succeeded' && end?.runStatus !== 'succeeded'))
    await discardResult(run, stops, deps);
  logRun(job, deps, {
    run: end?.runStatus ?? 'refused',
    job: end?.jobStatus ?? 'in_progress',
    ...(end?.runError && { error: end.runError.code }),
    ...(end?.nextRunAt && { next_run_at: end.nextRunAt }),
  });
}

/**
 * With what others have written of it while it ran, so that its callback says the same as its status: since when it is called
 * off, and how far a back end says it is.
 */
async function asItIs(job: ClaimedJob, { canceled }: Stops, { db, types }: RunWorkDeps): Promise<ClaimedJob> {
  if (!canceled.aborted && types.get(job.type)?.way !== 'backend') return job;
  const current = await findJob(db, job.accountId, job.id);
  if (current === undefined) return job;
  const { cancelRequestedAt, progress } = current;
  return { ...job, cancelRequestedAt, progress };
}

function isStopped({ kind }: KeptOutcome | Stopped): boolean {
  return kind === 'timed_out' || kind === 'canceled' || kind === 'released';
}

async function discardResult(run: RunRef, { shutdown }: Stops, { db, log }: RunWorkDeps): Promise<void> {
  try {
    await persist(() => deleteChunks(db.sql, run), isTransient, shutdown);
  } catch (error) {
    log.warn({ err: error, run_id: run.runId }, 'chunks of a result that nobody will read are left');
  }
}

type Executed = { outcome: KeptOutcome | Stopped; progress: JobProgress | null };

/** Also answers the last progress reported: it is written with the run's end, however late it came. */
async function executeRun(job: ClaimedJob, stops: Stops, deps: RunWorkDeps): Promise<Executed> {
  const { db, log, types, results } = deps;
  const jobType = types.get(job.type);
  if (jobType === undefined) {
    const message = `This worker does not know the job type ${job.type}.`;
    return { outcome: failed('unknown_job_type', message, true), progress: null };
  }
  const run = { accountId: job.accountId, jobId: job.id, runId: job.runId };
  const progress = new ProgressReport(job.progress, async (latest) => {
    try {
      await deps.teller.progress(run, latest);
    } catch (error) {
      log.warn({ err: error }, 'progress');
    }
  });
  const lines = new RunLog(
    { runNumber: job.runCount, clock: deps.clock },
    (written) => persist(() => insertLogLines(db.sql, run, written), isTransient, stops.shutdown),
    (error) => log.warn({ err: error }, 'job log'),
  );
  const context: HandlerContext = {
    progress: (percent, message) => progress.report(percent, message),
    log: (level, message, fields) => lines.add(level, message, fields),
    job: { id: job.id, type: job.type, accountId: job.accountId },
    run: { id: job.runId, number: job.runCount },
  };
  // What was queued under another version, or configuration, may have been given more.
  const timeoutMs = Math.min(job.runTimeoutMs, jobType.timeoutMs);
  const outcome = await execute(
    async (signal) => results.keep(run, await deps.work({ jobType, job, context }, signal), signal),
    { timeoutMs, cancelGraceMs: deps.cancelGraceMs, stops },
  );
  progress.end();
  await lines.end();
  return { outcome, progress: progress.latest };
}

function logRun(job: ClaimedJob, { log, clock }: RunWorkDeps, decision: Readonly<Record<string, unknown>>): void {
  log.info(
    {
      account_id: job.accountId,
      job_id: job.id,
      run_id: job.runId,
      type: job.type,
      number: job.runCount,
      ...decision,
      duration_ms: Math.max(0, clock.now().getTime() - job.runStartedAt.getTime()),
    },
    'run',
  );
}
