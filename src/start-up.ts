import { setTimeout as sleep } from 'node:timers/promises';
import type { Logger } from './log.ts';
import { installQueueSchema } from '#queue/queues.ts';
import { isForbidden, isUnavailable } from '#store/database.ts';
import { migrate } from '#store/migrate.ts';

/** The service cannot start, for a reason that its operator can mend. */
export class StartError extends Error {
  override readonly name = 'StartError';
}

/** A port that is taken, or may not be used, is for the operator to mend. */
export function explainListen(error: unknown): never {
  throw new StartError(`cannot listen: ${describe(error)}; set HOST and PORT`, { cause: error });
}

const START_PATIENCE_MS = 30_000;
const START_RETRY_MS = 1000;

/** The database may start a moment after us. */
export async function migrateWhenReady(url: string, log: Logger): Promise<void> {
  const deadline = Date.now() + START_PATIENCE_MS;
  for (;;) {
    try {
      await migrate(url, () => installQueueSchema(url));
      return;
    } catch (error) {
      if (isForbidden(error)) throw new StartError(`the database refuses us: ${describe(error)}`, { cause: error });
      if (!isUnavailable(error)) throw error;
      if (Date.now() > deadline)
        throw new StartError(`the database cannot be reached: ${describe(error)}`, { cause: error });
      log.warn({ reason: describe(error) }, 'waiting for the database');
      await sleep(START_RETRY_MS);
    }
  }
}

/** Without the URL: it holds a password. */
function describe(error: unknown): string {
  return error instanceof Error ? error.message || error.name : String(error);
}
