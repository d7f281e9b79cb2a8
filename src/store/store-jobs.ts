import type { JobId } from '#domain/ids.ts';
import { ConnectionLostError, isDuplicate, isOutcomeUnknown } from './sql-errors.ts';
import type { Database } from './database.ts';
import { type InsertedJobs, insertJobs, type StorableJob } from './jobs.ts';

/**
 * Inserts jobs, and finds out what became of them when the connection was lost before the answer came. They are inserted once more
 * under the same ids: those that were stored are found, and one that the first statement, still under way, is about to store is
 * waited for at its primary key.
 * @throws ConnectionLostError with `outcome: unknown` when that could not be found out either
 */
export async function storeJobs(db: Database, jobs: readonly StorableJob[]): Promise<InsertedJobs> {
  try {
    return await insertJobs(db.sql, jobs);
  } catch (error) {
    if (!isOutcomeUnknown(error) || jobs.length === 0) throw error;
    try {
      return await storeAgain(db, jobs).catch((again: unknown) => {
        if (!isDuplicate(again)) throw again;
        // The first statement has committed meanwhile.
        return storeAgain(db, jobs);
      });
    } catch (again) {
      throw new ConnectionLostError(
        'the connection was lost, and what became of the jobs could not be asked',
        'unknown',
        again,
      );
    }
  }
}

async function storeAgain(db: Database, jobs: readonly StorableJob[]): Promise<InsertedJobs> {
  const stored = await findStored(db, jobs);
  const { ids, isToTell } = await insertJobs(
    db.sql,
    jobs.filter(({ id }) => !stored.has(id)),
  );
  return { ids: new Set([...ids, ...stored]), isToTell: isToTell || stored.size > 0 };
}

async function findStored({ sql }: Database, jobs: readonly StorableJob[]): Promise<ReadonlySet<JobId>> {
  const rows = jobs.map(({ accountId, id }) => ({ accountId, id }));
  const found = await sql<{ id: JobId }[]>`
    SELECT job.id FROM json_to_recordset(${JSON.stringify(rows)}::text::json) AS given ("accountId" text, id text)
    JOIN ringback.jobs AS job ON job.account_id = given."accountId" AND job.id = given.id`;
  return new Set(found.map(({ id }) => id));
}
