import type { FeedEvent, FeedRead } from '#store/event-feed.ts';
import type { WalkPlace } from '#store/job-walk.ts';
import { isBefore, isSamePlace } from './feed-place.ts';

export interface AccountTailDeps {
  /** The next events after that place, whatever they are. */
  readonly read: (from: WalkPlace) => Promise<FeedRead>;
  readonly onError: (error: unknown) => void;
}

/** Events that were read together. */
export interface Chunk {
  readonly from: WalkPlace;
  readonly to: WalkPlace;
  readonly events: readonly FeedEvent[];
}

/** What is written in this time is read together. */
const GATHER_MS = 10;
const ERROR_PAUSE_MS = 500;
/** Between looks at events that an older transaction holds back: from the first to the last, while it stays open. */
const HELD_MS = { first: 10, last: 1000 } as const;

/**
 * The end of one account's feed, read once for all who have come up to it. It keeps the last events that it read and no
 * others, and reads on only while somebody has come to its end: whoever takes longer reads the table by himself until he is
 * there again. Nothing is read while nothing is written.
 */
export class AccountTail {
  readonly #deps: AccountTailDeps;
  /** Up to where it has read; undefined until somebody has come. */
  #head: WalkPlace | undefined;
  #latest: Chunk | undefined;
  readonly #waiting = new Set<() => void>();
  /** There may be something to read. */
  #isDue = false;
  #delayMs = GATHER_MS;
  #heldAt: string | undefined;
  #heldMs: number = HELD_MS.first;
  #timer: NodeJS.Timeout | undefined;
  #reading: Promise<void> | undefined;
  #isOver = false;

  constructor(deps: AccountTailDeps) {
    this.#deps = deps;
  }

  get isOver(): boolean {
    return this.#isOver;
  }

  get head(): WalkPlace | undefined {
    return this.#head;
  }

  /** What comes after that place, if it is what was read last. */
  chunkAfter(place: WalkPlace): Chunk | undefined {
    const chunk = this.#latest;
    return chunk !== undefined && !isBefore(place, chunk.from) && isBefore(place, chunk.to) ? chunk : undefined;
  }

  /** Whether more was read than is kept for somebody at that place. */
  hasLost(place: WalkPlace): boolean {
    return this.#head !== undefined && isBefore(place, this.#head) && this.chunkAfter(place) === undefined;
  }

  /** For somebody who has seen all up to that place: true as soon as there is more, or it is over; false after that time. */
  async news(place: WalkPlace, withinMs: number, signal: AbortSignal): Promise<boolean> {
    if (this.#isOver || signal.aborted) return true;
    this.#begin(place);
    const { promise, resolve } = Promise.withResolvers<boolean>();
    const wake = () => resolve(true);
    const timer = setTimeout(resolve, withinMs, false);
    this.#waiting.add(wake);
    signal.addEventListener('abort', wake);
    this.#schedule();
    try {
      return await promise;
    } finally {
      clearTimeout(timer);
      this.#waiting.delete(wake);
      signal.removeEventListener('abort', wake);
    }
  }

  /** Something was written, or may have been. */
  changed(): void {
    this.#isDue = true;
    this.#schedule();
  }

  /** Lets everybody go; resolves when no statement is under way. */
  async close(): Promise<void> {
    this.#isOver = true;
    clearTimeout(this.#timer);
    this.#wake();
    await this.#reading;
  }

  /** While nobody waits the head stands still: the first to come says where it goes on. */
  #begin(place: WalkPlace): void {
    if (this.#waiting.size > 0 || (this.#head !== undefined && isSamePlace(this.#head, place))) return;
    this.#head = place;
    this.#isDue = true;
  }

  #schedule(): void {
    if (!this.#isDue || this.#isOver || this.#waiting.size === 0) return;
    if (this.#timer !== undefined || this.#reading !== undefined) return;
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      this.#isDue = false;
      this.#reading = this.#readOn().then(() => {
        this.#reading = undefined;
        this.#schedule();
      });
    }, this.#delayMs);
  }

  async #readOn(): Promise<void> {
    const from = this.#head;
    if (from === undefined) return;
    try {
      const read = await this.#deps.read(from);
      if (this.#head === from) this.#take(from, read);
      else this.#isDue = true;
    } catch (error) {
      if (!this.#isOver) this.#deps.onError(error);
      this.#isDue = true;
      this.#delayMs = ERROR_PAUSE_MS;
    }
  }

  #take(from: WalkPlace, { events, stoppedAt, horizon, isHeldBack }: FeedRead): void {
    this.#delayMs = stoppedAt !== undefined ? 0 : isHeldBack ? this.#pauseAt(horizon) : GATHER_MS;
    if (stoppedAt !== undefined || isHeldBack) this.#isDue = true;
    // The head stays where it is when nothing came: who stands there would have to be told where it is now.
    if (events.length === 0) return;
    this.#head = stoppedAt ?? { xid: horizon, eventId: '' };
    this.#latest = { from, to: this.#head, events };
    this.#wake();
  }

  /** Longer and longer while the horizon stands still: somebody may have forgotten a transaction. */
  #pauseAt(horizon: string): number {
    this.#heldMs = horizon === this.#heldAt ? Math.min(2 * this.#heldMs, HELD_MS.last) : HELD_MS.first;
    this.#heldAt = horizon;
    return this.#heldMs;
  }

  #wake(): void {
    for (const wake of this.#waiting) wake();
  }
}
