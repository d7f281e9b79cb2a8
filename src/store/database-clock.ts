import { uptime } from 'node:os';
import type { Clock } from '#domain/clock.ts';
import { type ClockNews, type ClockReading, SteadyClock } from '#domain/steady-clock.ts';
import { CLOCK_BOUND_MS, readClock, readConfirmedAt } from './clock.ts';
import type { Database } from './database.ts';

const READ_EVERY_MS = 1000;
/** The first readings pay for connecting. */
const FIRST_READINGS = 3;
/** Without a reading for so long, the process was suspended, or the database out of reach. */
const GAP_MS = 5000;
/** A service that starts long after it stopped, or while the clock is wrong for a moment, does nothing by the clock for so long. */
const STRANGE_MS = 60_000;

export interface DatabaseClockOptions {
  readonly db: Database;
  /** What a reading has shown, to be logged. */
  readonly onNews: (news: ClockNews) => void;
  readonly readEveryMs?: number;
}

/** The database's time, without asking it each time: read once a second, and counted on by the monotonic clock between. */
export class DatabaseClock implements Clock {
  readonly #options: DatabaseClockOptions;
  readonly #steady: SteadyClock;
  /** Monotonic: of the last reading, and since when the readings have come without a gap and agreed. */
  #readAt: number;
  #undisturbedSince: number;
  #steps = 0;
  /** Monotonic: from when on a clock that nobody knows is taken for right. */
  readonly #knownFrom: number;
  #timer: NodeJS.Timeout | undefined;
  #reading: Promise<void> | undefined;
  #isClosed = false;

  /** Rejects when the database cannot be read. */
  static async open(options: DatabaseClockOptions): Promise<DatabaseClock> {
    let sharpest = await read(options.db);
    for (let count = 1; count < FIRST_READINGS; count++) {
      const another = await read(options.db);
      if (roundTrip(another) < roundTrip(sharpest)) sharpest = another;
    }
    const aheadMs = sharpest.database - (await readConfirmedAt(options.db));
    return new DatabaseClock(options, sharpest, Math.abs(aheadMs) <= CLOCK_BOUND_MS);
  }

  private constructor(options: DatabaseClockOptions, first: ClockReading, isKnown: boolean) {
    this.#options = options;
    this.#steady = new SteadyClock(first, isKnown);
    this.#readAt = performance.now();
    this.#knownFrom = this.#readAt + (isKnown ? 0 : STRANGE_MS);
    this.#undisturbedSince = this.#readAt;
    this.#schedule();
  }

  readonly now = (): Date => new Date(this.#steady.timeAt(performance.now()));
  readonly random = (): number => Math.random();

  /** True for a while after a start at which the clock was not where the record of it ends: nothing is due by it yet. */
  get isStrange(): boolean {
    return performance.now() < this.#knownFrom;
  }

  /** How often the time has moved other than by passing. */
  get steps(): number {
    return this.#steps;
  }

  /** For how many milliseconds this process and the database have been in touch, and agreed on the time. */
  undisturbedMs(): number {
    const now = performance.now();
    return this.#steady.isJumped || now - this.#readAt > GAP_MS ? 0 : now - this.#undisturbedSince;
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    clearTimeout(this.#timer);
    await this.#reading;
  }

  #schedule(): void {
    if (this.#isClosed) return;
    this.#timer = setTimeout(() => {
      this.#reading = this.#readOnce().finally(() => this.#schedule());
    }, this.#options.readEveryMs ?? READ_EVERY_MS).unref();
  }

  async #readOnce(): Promise<void> {
    // While it cannot be read, time goes on; who needs the database will say what is wrong with it.
    const reading = await read(this.#options.db).catch(() => undefined);
    if (reading === undefined) return;
    const news = this.#steady.take(reading);
    if (news !== undefined || reading.answeredAt - this.#readAt > GAP_MS) this.#undisturbedSince = reading.answeredAt;
    this.#readAt = reading.answeredAt;
    if (news?.kind === 'adopted' || news?.kind === 'resumed') this.#steps++;
    if (news !== undefined) this.#options.onNews(news);
  }
}

async function read(db: Database): Promise<ClockReading> {
  const askedAt = performance.now();
  const database = await readClock(db);
  return { database, askedAt, answeredAt: performance.now(), uptime: uptime() * 1000 };
}

function roundTrip({ askedAt, answeredAt }: ClockReading): number {
  return answeredAt - askedAt;
}
