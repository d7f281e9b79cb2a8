import { setImmediate as nextTurn } from 'node:timers/promises';

/**
 * Keeps up to `concurrency` claimed things under way. It claims when it is woken and has room, again at once while the
 * queue gives all it asked for, and otherwise when polled, which makes up for a lost wake-up.
 * It never claims more than can start now, so nothing waits here under a lease.
 */
export interface ClaimLoopOptions<Claimed> {
  readonly concurrency: number;
  readonly pollMs: number;
  /** Takes up to `limit`, and tells whether there may be more; throwing means that nothing was claimed. */
  readonly claim: (limit: number) => Promise<{ readonly claimed: readonly Claimed[]; readonly more: boolean }>;
  /** Works one off and settles it. Must not throw for what it can expect. */
  readonly work: (claimed: Claimed) => Promise<void>;
  readonly onError: (error: unknown) => void;
}

/** After a failed claim, so that an unreachable database is not hammered. */
const ERROR_PAUSE_MS = 500;

export class ClaimLoop<Claimed> {
  readonly #options: ClaimLoopOptions<Claimed>;
  readonly #underWay = new Set<Promise<void>>();
  #timer: NodeJS.Timeout | undefined;
  #claiming: Promise<void> | undefined;
  /** Something may be waiting: a wake-up came, or the last claim got all it asked for. */
  #wanted = false;
  #running = false;

  constructor(options: ClaimLoopOptions<Claimed>) {
    this.#options = options;
  }

  start(): void {
    this.#running = true;
    this.wake();
  }

  /** True when work that arrives now could start now. */
  get hasRoom(): boolean {
    return this.#running && this.#underWay.size < this.#options.concurrency;
  }

  /** Something was queued. */
  wake(): void {
    this.#wanted = true;
    this.#claim();
  }

  /** Claims no more; resolves when what was under way has settled. */
  async stop(): Promise<void> {
    this.#running = false;
    clearTimeout(this.#timer);
    await this.#claiming;
    await Promise.all(this.#underWay);
  }

  #claim(): void {
    if (!this.#wanted || !this.hasRoom || this.#claiming !== undefined) return;
    this.#wanted = false;
    this.#claiming = this.#claimOnce().finally(() => {
      this.#claiming = undefined;
      this.#claim();
    });
  }

  async #claimOnce(): Promise<void> {
    // What ends together frees its places one after the other in this turn of the event loop: claim for all of them.
    await nextTurn();
    if (!this.#running) return;
    const limit = this.#options.concurrency - this.#underWay.size;
    let pauseMs = this.#options.pollMs;
    try {
      const { claimed, more } = await this.#options.claim(limit);
      if (more) this.#wanted = true;
      for (const one of claimed) this.#start(one);
    } catch (error) {
      pauseMs = ERROR_PAUSE_MS;
      this.#options.onError(error);
    }
    this.#sleep(pauseMs);
  }

  #start(claimed: Claimed): void {
    const work = this.#options
      .work(claimed)
      .catch(this.#options.onError)
      .finally(() => {
        this.#underWay.delete(work);
        this.#claim();
      });
    this.#underWay.add(work);
  }

  #sleep(ms: number): void {
    if (!this.#running) return;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.wake(), ms);
  }
}
