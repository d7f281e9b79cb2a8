import type { AccountId, JobId } from '#domain/ids.ts';
import { type Refusal, refuse } from '#domain/problem.ts';
import type { Database } from '#store/database.ts';
import { findTombstone } from '#store/tombstones.ts';

/** Why a job cannot be found: its time is over, or the account never had it. Another account's job is not there. */
export async function refuseMissing(db: Database, accountId: AccountId, id: JobId): Promise<Refusal> {
  const tombstone = await findTombstone(db, accountId, id);
  if (tombstone === undefined) return refuse('job_not_found', `There is no job ${id}.`);
  const { type, status, createdAt, finishedAt, expiredAt } = tombstone;
  const detail = `The job ${id} ${status} at ${finishedAt.toISOString()}, and is no longer kept.`;
  return refuse('job_expired', detail, {
    extra: { job: { id, type, status, created_at: createdAt, finished_at: finishedAt, expired_at: expiredAt } },
  });
}
