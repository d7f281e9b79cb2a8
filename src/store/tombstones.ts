import { and, eq } from 'drizzle-orm';
import type { AccountId, JobId } from '#domain/ids.ts';
import type { Database } from './database.ts';
import { jobTombstones } from './schema/results.ts';

export type TombstoneRecord = Readonly<typeof jobTombstones.$inferSelect>;

export async function findTombstone(
  { orm }: Database,
  accountId: AccountId,
  id: JobId,
): Promise<TombstoneRecord | undefined> {
  const [tombstone] = await orm
    .select()
    .from(jobTombstones)
    .where(and(eq(jobTombstones.accountId, accountId), eq(jobTombstones.id, id)));
  return tombstone;
}

/** Forgets that jobs with lower ids ever were; answers how many it forgot. */
export async function deleteTombstones(
  { sql }: Database,
  accountId: AccountId,
  { below, limit }: { below: JobId; limit: number },
): Promise<number> {
  const deleted = await sql`
    DELETE FROM ringback.job_tombstones WHERE account_id = ${accountId} AND id IN (
      SELECT id FROM ringback.job_tombstones WHERE account_id = ${accountId} AND id < ${below}
      ORDER BY id LIMIT ${limit})`;
  return deleted.count;
}
