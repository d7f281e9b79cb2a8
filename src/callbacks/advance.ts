import type { JobId } from '#domain/ids.ts';
import type { Database } from '#store/database.ts';
import { advanceJobs } from '#store/delivery-queue.ts';

export interface AdvanceDeps {
  readonly db: Database;
  readonly announceDeliveries: () => void;
}

/**
 * Lets go what follows in the order of those jobs. While progress is given up on the way, there may be more: what was put behind
 * it in that moment has been looked at by nobody who saw it gone.
 */
export async function letFollow({ db, announceDeliveries }: AdvanceDeps, jobIds: readonly JobId[]): Promise<void> {
  for (let following = jobIds; following.length > 0;) {
    const { advanced, again } = await advanceJobs(db.sql, following, new Date());
    if (advanced > 0) announceDeliveries();
    following = again;
  }
}
