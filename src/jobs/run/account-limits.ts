import { hasRunningLimits } from '#store/accounts.ts';
import type { Database } from '#store/database.ts';
import type { AccountLimits } from './pool-runner.ts';

const REFRESH_MS = 10_000;

/**
 * Whether claims must mind what accounts may have running. A claim reads each account's limit itself, so that a new one
 * holds at once; that claims go one after the other, which makes it exact across processes, follows within ten seconds.
 */
export class RunningLimits implements AccountLimits {
  readonly maxRunning: number | null;
  readonly #db: Database;
  readonly #onError: (error: unknown) => void;
  #anyOfItsOwn = true; // until it is known
  #timer: NodeJS.Timeout | undefined;

  constructor(deps: { db: Database; maxRunning: number | null; onError: (error: unknown) => void }) {
    this.#db = deps.db;
    this.maxRunning = deps.maxRunning;
    this.#onError = deps.onError;
  }

  readonly any = (): boolean => this.maxRunning !== null || this.#anyOfItsOwn;

  start(): void {
    void this.#refresh();
    this.#timer = setInterval(() => void this.#refresh(), REFRESH_MS);
  }

  stop(): Promise<void> {
    clearInterval(this.#timer);
    return Promise.resolve();
  }

  async #refresh(): Promise<void> {
    try {
      this.#anyOfItsOwn = await hasRunningLimits(this.#db);
    } catch (error) {
      this.#onError(error);
    }
  }
}
