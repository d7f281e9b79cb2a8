import type { Clock } from '#domain/clock.ts';

const POLL_MS = 1000;
const BATCH = 1000;

/**
 * Makes what is queued ready when its time comes. Keeps the earliest appointment it is told of, and looks once a second for
 * those that other processes made. Any number of processes may do this.
 */
export class DueWork {
  readonly #clock: Pick<Clock, 'now'>;
  readonly #promote: (limit: number) => Promise<number>;
  readonly #onError: (error: unknown) => void;
  #timer: NodeJS.Timeout | undefined;
  /** These two by the monotonic clock. */
  #timerAt = Number.POSITIVE_INFINITY;
  #appointment = Number.POSITIVE_INFINITY;
  #promoting: Promise<void> | undefined;
  #running = false;

  /** @param deps.promote makes up to `limit` ready and announces them; answers how many */
  constructor(deps: {
    clock: Pick<Clock, 'now'>;
    promote: (limit: number) => Promise<number>;
    onError: (error: unknown) => void;
  }) {
    this.#clock = deps.clock;
    this.#promote = deps.promote;
    this.#onError = deps.onError;
  }

  start(): void {
    this.#running = true;
    this.#look();
  }

  /** Something will be due at that time (Unix milliseconds): no need to wait for the next look. */
  at(time: number): void {
    this.#appointment = Math.min(this.#appointment, performance.now() + time - this.#clock.now().getTime());
    if (this.#appointment < this.#timerAt) this.#sleepUntil(this.#appointment);
  }

  async stop(): Promise<void> {
    this.#running = false;
    clearTimeout(this.#timer);
    await this.#promoting;
  }

  #look(): void {
    this.#promoting ??= this.#promoteOnce().finally(() => {
      this.#promoting = undefined;
      this.#sleepUntil(Math.min(performance.now() + POLL_MS, this.#appointment));
    });
  }

  async #promoteOnce(): Promise<void> {
    if (this.#appointment <= performance.now()) this.#appointment = Number.POSITIVE_INFINITY;
    try {
      let items = BATCH;
      while (items >= BATCH && this.#running) items = await this.#promote(BATCH);
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
        this.#look();
      },
      Math.max(0, at - performance.now()),
    );
  }
}
