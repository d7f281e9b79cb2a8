import type { Logger } from '#log.ts';
import type { Database } from '#store/database.ts';
import { findJobs } from '#store/job-reads.ts';
import type { JobRecord } from '#store/jobs.ts';
import { deleteChunks } from '#store/result-chunks.ts';
import { findExpiredJobs, findLapsedRuns, type LapsedRun, listReadyPools, moveToPool } from '#store/run-queue.ts';
import type { Endings } from './endings.ts';
import { type JobTypes, SHARED_POOLS } from './job-types.ts';
import { retryPolicyOf } from './retry-policy.ts';
import { decideRunEnd, type RunOutcome } from './run-end.ts';

export interface RescueDeps {
  readonly db: Database;
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

/** Ends runs that nobody speaks for any more: their worker died, their back end never answered, they would not stop. */
export async function rescueRuns(deps: RescueDeps): Promise<void> {
  const cancelGraceMs = deps.cancelGraceMs + CANCEL_SLACK_MS;
  const lapsed = await findLapsedRuns(deps.db, { limit: BATCH, cancelGraceMs });
  if (lapsed.length === 0) return;
  const jobs = new Map((await findJobs(deps.db, lapsed)).map((job) => [job.id, job]));
  await Promise.all(
    lapsed.map(async (run) => {
      const job = jobs.get(run.jobId);
      if (job?.runId !== run.runId || !(await end(job, outcomeOf(run), deps))) return;
      await deleteChunks(deps.db.sql, run);
      const { accountId: account_id, jobId: job_id, runId: run_id } = run;
      deps.log.warn({ account_id, job_id, run_id, worker_id: job.workerId, run: outcomeOf(run).kind }, 'rescued');
    }),
  );
}

function outcomeOf({ cancelRequested, timedOut, timeoutMs, heldBy }: LapsedRun): RunOutcome {
  if (cancelRequested) return { kind: 'canceled' };
  if (!timedOut) return { kind: 'lost' };
  const who = heldBy === 'backend' ? 'The back end did not tell the end of the run' : 'The run was not finished';
  return { kind: 'timed_out', error: { code: 'timeout', message: `${who} within ${timeoutMs} ms.` } };
}

/** Ends jobs that were not started before their `expires_at`. */
export async function expireJobs(deps: RescueDeps): Promise<void> {
  const due = await findExpiredJobs(deps.db, BATCH);
  if (due.length === 0) return;
  const jobs = await findJobs(deps.db, due);
  const waiting = jobs.filter(({ status }) => status === 'queued');
  await Promise.all(waiting.map((job) => end(job, { kind: 'expired' }, deps)));
}

function end(job: JobRecord, outcome: RunOutcome, { types, publicUrl, endings }: RescueDeps): Promise<boolean> {
  const context = { policy: retryPolicyOf(types, job), publicUrl, now: new Date(), random: Math.random() };
  return endings.add(decideRunEnd(job, outcome, context), types.get(job.type)?.pool ?? SHARED_POOLS.inline);
}

/** A type that lost its limit, or went to other workers, leaves what is queued in a pool that nobody claims from. */
export async function moveStrays({ db, types, announceRuns, log }: RescueDeps): Promise<void> {
  const pools = new Set<string>([...Object.values(SHARED_POOLS), ...types.list().map(({ pool }) => pool)]);
  for (const from of await listReadyPools(db)) {
    const type = types.get(from.slice(from.indexOf(':') + 1));
    if (pools.has(from) || type === undefined) continue;
    const items = await moveToPool(db, { from, type: type.type, to: type.pool, limit: BATCH });
    if (items > 0) announceRuns(type.pool);
    log.info({ from, to: type.pool, items }, 'moved to another pool');
  }
}
