import type { AccountId, JobId } from '#domain/ids.ts';
import type { Database } from './database.ts';

export interface IdempotencyRecord {
  readonly jobId: JobId;
  readonly fingerprint: Uint8Array;
  readonly response: Uint8Array;
  readonly responseKeyId: string | null;
}

/** What was answered under a key that has not run out. Keys are written with their jobs: see `insertJobs`. */
export async function findIdempotencyKey(
  { sql }: Database,
  accountId: AccountId,
  key: string,
  now: Date,
): Promise<IdempotencyRecord | undefined> {
  const [record] = await sql<IdempotencyRecord[]>`
    SELECT job_id AS "jobId", fingerprint, response, response_key_id AS "responseKeyId"
    FROM ringback.idempotency_keys
    WHERE account_id = ${accountId} AND key = ${key} AND expires_at > ${now}`;
  return record;
}

/** Forgets keys that have run out; answers how many. Served by `idempotency_keys_expiring`. */
export async function deleteExpiredKeys({ sql }: Database, now: Date, limit: number): Promise<number> {
  const deleted = await sql`
    DELETE FROM ringback.idempotency_keys WHERE (account_id, key) IN (
      SELECT account_id, key FROM ringback.idempotency_keys
      WHERE expires_at <= ${now} ORDER BY expires_at LIMIT ${limit} FOR UPDATE SKIP LOCKED)`;
  return deleted.count;
}
