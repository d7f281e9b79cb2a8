/** One reading of the database's clock. Milliseconds all: `database` since 1970, the others on clocks that only go on. */
export interface ClockReading {
  readonly database: number;
  /** By the process's monotonic clock: when it was asked, and when the response was there. */
  readonly askedAt: number;
  readonly answeredAt: number;
  /** How long the machine has been up, suspensions included, where the platform counts them. */
  readonly uptime: number;
}

/** What a reading has shown. `byMs` is what the database's clock is ahead of the time before: negative when it was set back. */
export type ClockNews =
  | { readonly kind: 'jumped'; readonly byMs: number; readonly believedInMs: number }
  | { readonly kind: 'returned' }
  | { readonly kind: 'adopted'; readonly byMs: number }
  | { readonly kind: 'resumed'; readonly byMs: number };

/** Beyond what a reading is uncertain by: two clocks that drift apart never differ by so much from one reading to the next. */
const STEP_MS = 1000;
const LEAST_PATIENCE_MS = 60_000;
const MOST_PATIENCE_MS = 300_000;
/** What a reading loses in sharpness with its age: 100 ppm, twice what quartz may be off. */
const DRIFT = 1e-4;

/**
 * The database's time between readings: a reading, and the monotonic time since. The process's own wall clock has no part in
 * it. A jump of the database's clock is believed when it has lasted as long as it is wide, one minute at least and five at most, or
 * as long as the time before it was seen: until then time goes on as before, and a clock that is wrong for a moment makes nothing
 * due, expired or over.
 */
export class SteadyClock {
  /** The database's time less monotonic time, and what that may be off by, as of the reading at `#readAt`. */
  #offset: number;
  #uncertainty: number;
  #readAt: number;
  #last: ClockReading;
  #step: { readonly offset: number; readonly since: number } | undefined;
  /** Since when what is believed now has been seen. */
  #believedSince: number;
  /** The latest time given out: time never goes back, unless the database's does. */
  #latest = Number.NEGATIVE_INFINITY;

  /** @param isKnown the reading agrees with what other processes, or this one before, have seen of the clock for long */
  constructor(reading: ClockReading, isKnown: boolean) {
    const { offset, uncertainty } = measure(reading);
    [this.#offset, this.#uncertainty, this.#readAt, this.#last] = [offset, uncertainty, reading.answeredAt, reading];
    this.#believedSince = reading.answeredAt - (isKnown ? MOST_PATIENCE_MS : 0);
  }

  /** Unix milliseconds, at a monotonic time. */
  timeAt(monotonic: number): number {
    this.#latest = Math.max(this.#latest, monotonic + this.#offset);
    return this.#latest;
  }

  /** True while a jump of the database's clock is not believed. */
  get isJumped(): boolean {
    return this.#step !== undefined;
  }

  take(reading: ClockReading): ClockNews | undefined {
    const { offset, uncertainty } = measure(reading);
    const last = this.#last;
    this.#last = reading;
    const byMs = offset - this.#offset;
    const isSame = (difference: number) => Math.abs(difference) <= uncertainty + STEP_MS;
    if (isSame(byMs)) {
      const hadJumped = this.#step !== undefined;
      this.#step = undefined;
      const age = reading.answeredAt - this.#readAt;
      if (Math.abs(byMs) > uncertainty || uncertainty <= this.#uncertainty + age * DRIFT) this.#set(reading);
      return hadJumped ? { kind: 'returned' } : undefined;
    }
    // Monotonic clocks stand still while a machine sleeps: the database has not jumped when it went on for just as long.
    const asleep = reading.uptime - last.uptime - (reading.answeredAt - last.answeredAt);
    if (asleep > STEP_MS && isSame(byMs - asleep)) return this.#adopt(reading, 'resumed', byMs);
    const isNew = this.#step === undefined || !isSame(offset - this.#step.offset);
    if (isNew) this.#step = { offset, since: reading.answeredAt };
    const { since } = this.#step!;
    const wanted = Math.min(MOST_PATIENCE_MS, Math.max(LEAST_PATIENCE_MS, Math.abs(byMs)));
    const believedInMs = Math.min(wanted, since - this.#believedSince) - (reading.answeredAt - since);
    if (believedInMs <= 0) return this.#adopt(reading, 'adopted', byMs);
    return isNew ? { kind: 'jumped', byMs, believedInMs } : undefined;
  }

  #adopt(reading: ClockReading, kind: 'adopted' | 'resumed', byMs: number): ClockNews {
    this.#set(reading);
    if (kind === 'adopted') this.#believedSince = this.#step!.since;
    this.#step = undefined;
    this.#latest = Number.NEGATIVE_INFINITY;
    return { kind, byMs };
  }

  #set(reading: ClockReading): void {
    const { offset, uncertainty } = measure(reading);
    [this.#offset, this.#uncertainty, this.#readAt] = [offset, uncertainty, reading.answeredAt];
  }
}

/** The database read its clock at some time between question and response: the middle, give or take the half. */
function measure({ database, askedAt, answeredAt }: ClockReading): { offset: number; uncertainty: number } {
  return { offset: database - (askedAt + answeredAt) / 2, uncertainty: (answeredAt - askedAt) / 2 };
}
