import type { Clock } from '#domain/clock.ts';
import type { JobId } from '#domain/ids.ts';
import type { Database } from '#store/database.ts';
import { advanceJobs } from '#store/delivery-queue.ts';

export interface AdvanceDeps {
  readonly db: Database;
  readonly clock: Clock;
  readonly announceDeliveries: () => void;
}

/**
 * Lets go what follows in the order of those jobs. While progress is given up on the way, there may be more: what was put behind
 * it in that moment has been looked at by nobody who saw it gone.
 */
export async function letFollow(
  { db, clock, announceDeliveries }: AdvanceDeps,
  jobIds: readonly JobId[],
): Promise<void> {
  for (let following = jobIds; following.length > 0;) {
    const { advanced, again } = await advanceJobs(db.sql, following, clock.now());
    if (advanced > 0) announceDeliveries();
    following = again;
  }
}
