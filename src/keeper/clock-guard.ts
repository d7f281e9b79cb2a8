import type { Clock } from '#domain/clock.ts';
import type { Logger } from '#log.ts';
import { type ClockVerdict, confirmClock } from '#store/clock.ts';
import type { Database } from '#store/database.ts';

const HOUR_MS = 3_600_000;
/** A weekend, and the day after: so long an operator has, who is warned of a clock that is wrong. */
const LONGEST_MS = 72 * HOUR_MS;
/** What destroys names its times by the process's clock, which does not jump: a verdict need not be newer. */
const BELIEVED_MS = 10_000;
const REMIND_EVERY_MS = HOUR_MS;

export interface ClockGuardDeps {
  readonly db: Database;
  readonly clock: Clock;
  readonly log: Logger;
}

/**
 * Keeps what destroys records (retention, partitions, idempotency keys) from running by a clock that disagrees with the record
 * of it: see docs/guides/clocks.md.
 */
export class ClockGuard {
  readonly #deps: ClockGuardDeps;
  /** These by the monotonic clock. */
  #askAgainAt = Number.NEGATIVE_INFINITY;
  #remindAt = Number.NEGATIVE_INFINITY;
  #mayDestroy = false;

  constructor(deps: ClockGuardDeps) {
    this.#deps = deps;
  }

  async mayDestroy(): Promise<boolean> {
    if (performance.now() < this.#askAgainAt) return this.#mayDestroy;
    const { db, clock } = this.#deps;
    const verdict = await confirmClock(db, { now: clock.now(), longestMs: LONGEST_MS });
    const wasHeld = this.#remindAt !== Number.NEGATIVE_INFINITY;
    this.#mayDestroy = verdict?.isConfirmed === true;
    this.#askAgainAt = performance.now() + BELIEVED_MS;
    if (!this.#mayDestroy) this.#remind(verdict);
    else if (wasHeld) {
      this.#remindAt = Number.NEGATIVE_INFINITY;
      this.#deps.log.warn(
        "the database's clock agrees with the record: what is over is retired, forgotten and dropped again",
      );
    }
    return this.#mayDestroy;
  }

  #remind(verdict: ClockVerdict | undefined): void {
    if (performance.now() < this.#remindAt) return;
    this.#remindAt = performance.now() + REMIND_EVERY_MS;
    this.#deps.log.error(
      verdict === undefined
        ? { what: 'it has just jumped' }
        : { ahead_ms: Math.round(verdict.aheadMs), confirmed_from: verdict.confirmedFrom },
      "the database's clock disagrees with the record: nothing is retired, forgotten or dropped. If it is right, and it was the " +
        'service that stood still: UPDATE ringback.database_clock SET confirmed_at = now(). See docs/guides/clocks.md',
    );
  }
}
