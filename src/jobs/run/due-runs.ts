import type { Database } from '#store/database.ts';
import { promoteDue } from '#store/run-queue.ts';

const POLL_MS = 1000;
const BATCH = 1000;

/**
 * Makes runs ready when their time comes: retries, and jobs with a `run_at`. Keeps the earliest appointment it is told
 * of, and looks once a second for those that other processes made. Any number of processes may do this.
 */
export class DueRuns {
  readonly #db: Database;
  readonly #announce: (pool: string) => void;
  readonly #onError: (error: unknown) => void;
  #timer: NodeJS.Timeout | undefined;
  #timerAt = Number.POSITIVE_INFINITY;
  #appointment = Number.POSITIVE_INFINITY;
  #promoting: Promise<void> | undefined;
  #running = false;

  constructor(deps: { db: Database; announce: (pool: string) => void; onError: (error: unknown) => void }) {
    this.#db = deps.db;
    this.#announce = deps.announce;
    this.#onError = deps.onError;
  }

  start(): void {
    this.#running = true;
    this.#promote();
  }

  /** A run will be due at that time (Unix milliseconds): no need to wait for the next look. */
  at(time: number): void {
    this.#appointment = Math.min(this.#appointment, time);
    if (this.#appointment < this.#timerAt) this.#sleepUntil(this.#appointment);
  }

  async stop(): Promise<void> {
    this.#running = false;
    clearTimeout(this.#timer);
    await this.#promoting;
  }

  #promote(): void {
    this.#promoting ??= this.#promoteOnce().finally(() => {
      this.#promoting = undefined;
      this.#sleepUntil(Math.min(Date.now() + POLL_MS, this.#appointment));
    });
  }

  async #promoteOnce(): Promise<void> {
    if (this.#appointment <= Date.now()) this.#appointment = Number.POSITIVE_INFINITY;
    try {
      let items = BATCH;
      while (items >= BATCH && this.#running) {
        const pools = await promoteDue(this.#db, BATCH);
        for (const pool of pools.keys()) this.#announce(pool);
        items = [...pools.values()].reduce((sum, count) => sum + count, 0);
      }
    } catch (error) {
      this.#onError(error);
    }
  }

  #sleepUntil(at: number): void {
    if (!this.#running) return;
    clearTimeout(this.#timer);
    this.#timerAt = at;
    this.#timer = setTimeout(
      () => {
        this.#timerAt = Number.POSITIVE_INFINITY;
        this.#promote();
      },
      Math.max(0, at - Date.now()),
    );
  }
}
