import type { Clock } from '#domain/clock.ts';
import type { WorkerId } from '#domain/ids.ts';
import type { Logger } from '#log.ts';
import { type Database, isUnavailable } from '#store/database.ts';
import { findJobs } from '#store/job-reads.ts';
import type { JobRecord } from '#store/jobs.ts';
import { deleteChunks } from '#store/result-chunks.ts';
import { findExpiredJobs, findLapsedRuns, type LapsedRun, listReadyPools, moveToPool } from '#store/run-queue.ts';
import { endRun } from './end-run.ts';
import type { Endings } from './endings.ts';
import { type JobTypes, SHARED_POOLS } from '../type/job-types.ts';
import { recordEnd } from './record-end.ts';
import type { RunOutcome } from './run-end.ts';

export interface RescueDeps {
  readonly db: Database;
  readonly clock: Clock;
  /** Leases that ended before were given up. */
  readonly lapsedBefore: () => Date;
  readonly types: JobTypes;
  readonly endings: Endings;
  readonly log: Logger;
  readonly publicUrl: string;
  /** How long whoever holds a run may take to stop it when it is called off, in milliseconds. */
  readonly cancelGraceMs: number;
  readonly announceRuns: (pool: string) => void;
}

const BATCH = 500;
/** Whoever holds a run gets its whole grace, and the time to say how it ended. */
const CANCEL_SLACK_MS = 15_000;

/**
 * Ends runs that nobody speaks for any more: their worker died, their back end never answered, they would not stop.
 * @param deadWorkers only the runs of these processes, though their leases have not run out
 */
export async function rescueRuns(deps: RescueDeps, deadWorkers: readonly WorkerId[] | null = null): Promise<void> {
  // A worker may have died with thousands. A batch of which some could not be ended is left to the next time.
  while ((await rescueSome(deps, deadWorkers)) === BATCH);
}

/** Answers how many it ended. */
async function rescueSome(deps: RescueDeps, deadWorkers: readonly WorkerId[] | null): Promise<number> {
  const cancelGraceMs = deps.cancelGraceMs + CANCEL_SLACK_MS;
  const lapsed = await findLapsedRuns(deps.db, {
    limit: BATCH,
    cancelGraceMs,
    before: deps.lapsedBefore(),
    deadWorkers,
  });
  if (lapsed.length === 0) return 0;
  const jobs = new Map((await findJobs(deps.db, lapsed)).map((job) => [job.id, job]));
  const rescued = await Promise.all(
    lapsed.map(async (run) => {
      const job = jobs.get(run.jobId);
      return job?.runId === run.runId && (await rescueOne(run, job, deps));
    }),
  );
  return rescued.filter((isRescued) => isRescued).length;
}

/** What cannot be ended just now is left to the next time, and does not keep the others. */
async function rescueOne(run: LapsedRun, job: JobRecord, deps: RescueDeps): Promise<boolean> {
  const { accountId: account_id, jobId: job_id, runId: run_id } = run;
  try {
    const once = { signal: AbortSignal.abort() };
    const end = await recordEnd(() => Promise.resolve(job), outcomeOf(run), deps, once);
    if (end === undefined) return false;
    await deleteChunks(deps.db.sql, run);
    deps.log.warn({ account_id, job_id, run_id, worker_id: job.workerId, run: end.runStatus }, 'rescued');
    return true;
  } catch (error) {
    if (isUnavailable(error)) throw error;
    deps.log.error({ err: error, account_id, job_id, run_id }, 'a run could not be rescued');
    return false;
  }
}

function outcomeOf({ cancelRequested, timedOut, timeoutMs, heldBy }: LapsedRun): RunOutcome {
  if (cancelRequested) return { kind: 'canceled' };
  if (!timedOut) return { kind: 'lost' };
  const who = heldBy === 'backend' ? 'The back end did not tell the end of the run' : 'The run was not finished';
  return { kind: 'timed_out', error: { code: 'timeout', message: `${who} within ${timeoutMs} ms.` } };
}

/** Ends jobs that were not started before their `expires_at`. */
export async function expireJobs(deps: RescueDeps): Promise<void> {
  while ((await expireSome(deps)) === BATCH);
}

/** Answers how many it ended. */
async function expireSome(deps: RescueDeps): Promise<number> {
  const due = await findExpiredJobs(deps.db, deps.clock.now(), BATCH);
  if (due.length === 0) return 0;
  const jobs = await findJobs(deps.db, due);
  const waiting = jobs.filter(({ status }) => status === 'queued');
  const ends = await Promise.allSettled(waiting.map((job) => endRun(job, { kind: 'expired' }, deps)));
  for (const end of ends) if (end.status === 'rejected' && isUnavailable(end.reason)) throw end.reason;
  for (const end of ends) if (end.status === 'rejected') deps.log.error({ err: end.reason }, 'a job could not expire');
  return ends.filter((end) => end.status === 'fulfilled' && end.value !== undefined).length;
}

/** A type that lost its limit, or went to other workers, leaves what is queued in a pool that nobody claims from. */
export async function moveStrays({ db, types, announceRuns, log }: RescueDeps): Promise<void> {
  const pools = new Set<string>([...Object.values(SHARED_POOLS), ...types.list().map(({ pool }) => pool)]);
  for (const from of await listReadyPools(db)) {
    const type = types.get(from.slice(from.indexOf(':') + 1));
    if (pools.has(from) || type === undefined) continue;
    let items = 0;
    for (let moved = BATCH; moved === BATCH; items += moved) {
      moved = await moveToPool(db, { from, type: type.type, to: type.pool, limit: BATCH });
      if (moved > 0) announceRuns(type.pool);
    }
    log.info({ from, to: type.pool, items }, 'moved to another pool');
  }
}
