import type { WorkerId } from '#domain/ids.ts';
import type { Logger } from '#log.ts';
import type { Database } from '#store/database.ts';
import { findSilentProcesses, forgetProcesses } from '#store/processes.ts';

/** Longer than two signs of life are apart: a process whose connections were cut has opened others by then. */
const SILENT_MS = 1750;
/** Then it is looked at again: whoever could not open a connection tries once more in a shorter time. */
const CONFIRM_AFTER_MS = 300;
/** After a look that failed: whoever was cut off together with us gets so long to come back. */
const PATIENCE_MS = 3000;

export interface DeadProcessesDeps {
  readonly db: Database;
  readonly log: Logger;
  /** Ends what these held. */
  readonly rescue: (workerIds: readonly WorkerId[]) => Promise<void>;
}

/** Takes what dead processes held from them long before their leases run out. Any number of processes may do this. */
export class DeadProcesses {
  readonly #deps: DeadProcessesDeps;
  /** By the monotonic clock. */
  #patientUntil = 0;

  constructor(deps: DeadProcessesDeps) {
    this.#deps = deps;
  }

  async look(): Promise<void> {
    const { db, log, rescue } = this.#deps;
    const dead = await this.#findDead();
    if (dead.length === 0) return;
    log.warn({ worker_ids: dead }, 'processes are dead: what they held is given to others');
    await rescue(dead);
    // What could not be taken from them is left to its lease.
    await forgetProcesses(db, dead);
  }

  async #findDead(): Promise<readonly WorkerId[]> {
    const suspects = await this.#findSilent();
    if (suspects.length === 0 || performance.now() < this.#patientUntil) return [];
    await pause(CONFIRM_AFTER_MS);
    const silent = new Set(await this.#findSilent());
    return suspects.filter((workerId) => silent.has(workerId));
  }

  #findSilent(): Promise<WorkerId[]> {
    return findSilentProcesses(this.#deps.db, SILENT_MS).catch((error: unknown) => {
      this.#patientUntil = performance.now() + PATIENCE_MS;
      throw error;
    });
  }
}

function pause(ms: number): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  setTimeout(resolve, ms);
  return promise;
}
