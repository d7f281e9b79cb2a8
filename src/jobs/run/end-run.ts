import type { Clock } from '#domain/clock.ts';
import type { JobProgress } from '#domain/job.ts';
import type { Database } from '#store/database.ts';
import { findJob } from '#store/job-reads.ts';
import type { JobRecord } from '#store/jobs.ts';
import type { RunEnd } from '#store/end-runs.ts';
import type { Endings } from './endings.ts';
import type { JobTypes } from '../type/job-types.ts';
import { retryPolicyOf } from '../type/retry-policy.ts';
import { decideRunEnd, type RunOutcome } from './run-end.ts';

export interface EndRunDeps {
  readonly db: Database;
  readonly clock: Clock;
  readonly types: JobTypes;
  readonly endings: Endings;
  readonly publicUrl: string;
}

/**
 * Ends a run, or a job that waits, as its outcome says. Answers what was written; undefined when the run, or the wait, was
 * not the job's own any more.
 * @param job as it was when it was read or claimed. Called off since then, its run is not followed by another: the queue
 *   refuses that, and the job is looked at again
 */
export async function endRun(
  job: JobRecord,
  outcome: RunOutcome,
  { db, clock, types, endings, publicUrl }: EndRunDeps,
  progress: JobProgress | null = null,
  isAside = false,
): Promise<RunEnd | undefined> {
  const policy = retryPolicyOf(types, job);
  const pool = types.get(job.type)?.pool ?? null;
  const decide = (known: JobRecord) =>
    decideRunEnd(known, outcome, { policy, publicUrl, now: clock.now(), random: clock.random(), progress });
  const end = decide(job);
  if (await endings.add(end, pool, isAside)) return end;
  if (end.jobStatus !== 'in_progress') return undefined;
  const current = await findJob(db, job.accountId, job.id);
  if (current?.runId !== job.runId || current.cancelRequestedAt === null) return undefined;
  const canceled = decide(current);
  return (await endings.add(canceled, pool, isAside)) ? canceled : undefined;
}
