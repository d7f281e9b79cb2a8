const BEAT_MS = 1000;
const BEAT_AGAIN_MS = 250;
const DEPART_WITHIN_MS = 1000;

export interface PresenceDeps {
  /** Takes the lock that lives as long as this process does, now and on each new session. */
  readonly lock: () => Promise<void>;
  /** Gives a sign of life on any connection. */
  readonly beat: () => Promise<void>;
  /** Says that there will be no more of them. */
  readonly depart: () => Promise<void>;
  readonly onError: (error: unknown) => void;
}

/**
 * Shows the other processes that this one lives: by a lock that its death ends, and by signs of life, which go on when the session
 * that holds the lock cannot be opened again. What a process holds is taken from it at once only when both are missing.
 */
export class Presence {
  readonly #deps: PresenceDeps;
  #timer: NodeJS.Timeout | undefined;
  #isOver = false;

  constructor(deps: PresenceDeps) {
    this.#deps = deps;
  }

  /** To be awaited before anything is claimed. */
  async start(): Promise<void> {
    await this.#deps.lock();
    await this.#deps.beat();
    this.#beatIn(BEAT_MS);
  }

  /** Once nothing more will be recorded for what was claimed. Does not wait long for a database that is away. */
  async stop(): Promise<void> {
    this.#isOver = true;
    clearTimeout(this.#timer);
    const { promise: tooLate, resolve } = Promise.withResolvers<void>();
    const timer = setTimeout(resolve, DEPART_WITHIN_MS);
    await Promise.race([this.#deps.depart().catch(() => undefined), tooLate]);
    clearTimeout(timer);
  }

  #beatIn(ms: number): void {
    if (this.#isOver) return;
    this.#timer = setTimeout(() => void this.#beat(), ms);
  }

  async #beat(): Promise<void> {
    try {
      await this.#deps.beat();
      this.#beatIn(BEAT_MS);
    } catch (error) {
      if (!this.#isOver) this.#deps.onError(error);
      this.#beatIn(BEAT_AGAIN_MS);
    }
  }
}
