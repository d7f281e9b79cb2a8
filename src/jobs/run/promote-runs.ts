import type { Clock } from '#domain/clock.ts';
import type { Database } from '#store/database.ts';
import { promoteDue } from '#store/run-queue.ts';

interface PromoteDeps {
  readonly db: Database;
  readonly clock: Clock;
  readonly announceRuns: (pool: string) => void;
}

/** Makes up to `limit` runs ready that are due: retries, and jobs with a `run_at`. Answers how many. */
export async function promoteRuns({ db, clock, announceRuns }: PromoteDeps, limit: number): Promise<number> {
  const pools = await promoteDue(db, clock.now(), limit);
  for (const pool of pools.keys()) announceRuns(pool);
  return [...pools.values()].reduce((sum, count) => sum + count, 0);
}
