import type { Database } from '#store/database.ts';
import { promoteDue } from '#store/run-queue.ts';

/** Makes up to `limit` runs ready that are due: retries, and jobs with a `run_at`. Answers how many. */
export async function promoteRuns(db: Database, limit: number, announce: (pool: string) => void): Promise<number> {
  const pools = await promoteDue(db, limit);
  for (const pool of pools.keys()) announce(pool);
  return [...pools.values()].reduce((sum, count) => sum + count, 0);
}
