import { type JobId, newId, type RunId } from '#domain/ids.ts';
import type { RunClaim } from '#store/claim-runs.ts';
import { endRuns } from '#store/end-runs.ts';
import { deferRun, type RunRef } from '#store/run-queue.ts';
import type { TestDatabase } from '../../support/database.ts';
import { claimRun, insertJob, makeAccount, runEnd } from '../../support/fixtures.ts';

/** What a job's place in the queue may look like, made by the functions that make it so in production. */
export const PLACES = ['ready', 'delayed', 'runner', 'worker', 'backend', 'over'] as const;
export type Place = (typeof PLACES)[number];

const NO_RUN = newId('run', 0);
const FAR = new Date('2030-01-01T00:00:00Z');

/** A job in that place of a pool of its own; who has no run is named with one that never was. */
export async function jobIn({ db, sql }: TestDatabase, place: Place, claim: Partial<RunClaim> = {}): Promise<RunRef> {
  const { accountId } = await makeAccount(db);
  const job = await insertJob(db, accountId, place === 'delayed' ? { runAt: FAR } : {});
  const ref = (runId: RunId): RunRef => ({ accountId, jobId: job.id, runId });
  if (place === 'ready' || place === 'delayed') return ref(NO_RUN);
  const run = await claimRun(db, job, { heldBy: place === 'worker' ? 'worker' : 'runner', ...claim });
  if (place === 'backend') await deferRun(sql, ref(run.runId));
  if (place === 'over') await endRuns(sql, [runEnd(run)]);
  return ref(run.runId);
}

export interface QueueRow {
  readonly state: string;
  readonly pool: string;
  readonly run_id: string | null;
  readonly held_by: string | null;
  readonly due_at: Date;
  readonly expires_at: Date | null;
  readonly lease_expires_at: Date | null;
  readonly deadline_at: Date | null;
  readonly cancel_requested_at: Date | null;
}

/** The whole row; undefined once the job is over. */
export async function rowOf({ sql }: TestDatabase, { jobId }: { jobId: JobId }): Promise<QueueRow | undefined> {
  const [row] = await sql<QueueRow[]>`SELECT * FROM ringback.run_queue WHERE job_id = ${jobId}`;
  return row;
}

/** As if so many seconds had passed for this job. */
export async function pass({ sql }: TestDatabase, { jobId }: { jobId: JobId }, seconds: number): Promise<void> {
  const ago = sql`${seconds} * interval '1 s'`;
  await sql`
    UPDATE ringback.run_queue SET due_at = due_at - ${ago}, expires_at = expires_at - ${ago},
      lease_expires_at = lease_expires_at - ${ago}, deadline_at = deadline_at - ${ago},
      cancel_requested_at = cancel_requested_at - ${ago}
    WHERE job_id = ${jobId}`;
}

/** The database's clock, to the millisecond below. */
export async function databaseNow({ sql }: TestDatabase): Promise<number> {
  const [row] = await sql<[{ now: Date }]>`SELECT date_trunc('milliseconds', clock_timestamp()) AS now`;
  return row.now.getTime();
}
