import { type Refusal, refuse } from '#domain/problem.ts';
import type { Database } from '#store/database.ts';
import { queueDepth } from '#store/quotas.ts';
import { FADE_SECONDS, readTypeRuns } from '#store/type-stats.ts';

const LOOK_EVERY_MS = 1000;
const LONGEST_RETRY_S = 300;

/** What was seen last: how much waits, and how many runs end in a second. */
interface Look {
  readonly depth: number;
  readonly endedPerSecond: number;
}

/**
 * Whether too much waits to take more. Who is let in does not wait for the answer: it is that of the last look, and while
 * somebody asks there is one a second, two cheap statements. So a little more than the limit may get in.
 */
export class QueueDepth {
  readonly #db: Database;
  readonly #max: number;
  readonly #onError: (error: unknown) => void;
  #last: Look | undefined;
  #looking: Promise<void> | undefined;
  #lookAgainAt = 0;

  constructor(deps: { db: Database; max: number; onError: (error: unknown) => void }) {
    this.#db = deps.db;
    this.#max = deps.max;
    this.#onError = deps.onError;
  }

  /** The refusal of a submission while too much waits: it says when there should be room again. */
  async refusal(): Promise<Refusal | undefined> {
    if (performance.now() >= this.#lookAgainAt) this.#looking = this.look();
    if (!this.#isFull(this.#last)) return undefined;
    // The last look may be as old as the time that it told somebody to wait: who came back would be refused once more.
    await this.#looking;
    if (!this.#isFull(this.#last)) return undefined;
    const { depth, endedPerSecond } = this.#last;
    const seconds = endedPerSecond > 0 ? Math.ceil((depth - this.#max + 1) / endedPerSecond) : LONGEST_RETRY_S;
    const retryAfter = Math.min(LONGEST_RETRY_S, Math.max(1, seconds));
    const detail = `${this.#max} jobs are waiting or running already. Send this one again in ${retryAfter} s.`;
    return refuse('queue_full', detail, { retryAfter });
  }

  #isFull(look: Look | undefined): look is Look {
    return look !== undefined && look.depth >= this.#max;
  }

  /** Looks anew; never rejects. */
  async look(): Promise<void> {
    this.#lookAgainAt = Number.POSITIVE_INFINITY;
    try {
      const [depth, ran] = await Promise.all([queueDepth(this.#db), readTypeRuns(this.#db)]);
      const endedPerSecond = ran.reduce((sum, { runs }) => sum + runs, 0) / FADE_SECONDS;
      this.#last = { depth, endedPerSecond };
    } catch (error) {
      this.#onError(error);
    }
    this.#lookAgainAt = performance.now() + LOOK_EVERY_MS;
  }
}
