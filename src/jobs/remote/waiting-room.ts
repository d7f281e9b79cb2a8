import type { Sleeper } from '#queue/signals.ts';
import type { ClaimedJob } from '#store/claim-runs.ts';

/** What a remote worker asks for. */
export interface ClaimWish {
  readonly pools: readonly string[];
  readonly max: number;
  readonly workerId: string;
  readonly leaseMs: number;
}

export interface WaitingRoomDeps {
  /** Has the sleeper woken when something is ready in the pool; answers how to end that. */
  readonly register: (pool: string, sleeper: Sleeper) => () => void;
  readonly claim: (pool: string, wish: ClaimWish) => Promise<readonly ClaimedJob[]>;
  readonly findReady: (pools: readonly string[]) => Promise<readonly string[]>;
  readonly onError: (error: unknown) => void;
}

/** A NOTIFY may be lost, and a limit may leave room that nobody announces. */
const LOOK_EVERY_MS = 5000;

/** A worker that waits. While it is busy a claim is made for it: what that brings is its own, however late. */
class Guest {
  readonly wish: ClaimWish;
  readonly lines: readonly Line[];
  readonly settled = Promise.withResolvers<readonly ClaimedJob[]>();
  busy = true;
  leaving = false;

  constructor(wish: ClaimWish, lines: readonly Line[]) {
    this.wish = wish;
    this.lines = lines;
  }

  /** Nothing more is claimed for it. */
  dismiss(): void {
    this.leaving = true;
    if (!this.busy) this.settled.resolve([]);
  }
}

/** Those who wait for one pool, in the order in which they came. */
class Line implements Sleeper {
  readonly pool: string;
  readonly guests = new Set<Guest>();
  readonly #serve: (line: Line) => void;
  /** Something may be ready, and nobody has looked yet. */
  wanted = false;
  serving = false;

  constructor(pool: string, serve: (line: Line) => void) {
    this.pool = pool;
    this.#serve = serve;
  }

  get first(): Guest | undefined {
    for (const guest of this.guests) if (!guest.busy && !guest.leaving) return guest;
    return undefined;
  }

  get hasRoom(): boolean {
    return this.first !== undefined;
  }

  wake(): void {
    this.wanted = true;
    this.#serve(this);
  }
}

/**
 * Where workers wait that found nothing to claim. Waiting costs no statement: a pool's line is woken when something is
 * ready there, and then claims are made one after the other, for the first in the line until one comes back empty. So a
 * job wakes one worker and not all of them, and the next wake-up finds the next one.
 */
export class WaitingRoom {
  readonly #deps: WaitingRoomDeps;
  readonly #lines = new Map<string, { readonly line: Line; readonly unregister: () => void }>();
  #look: NodeJS.Timeout | undefined;
  #closed = false;

  constructor(deps: WaitingRoomDeps) {
    this.#deps = deps;
  }

  /** Before the worker's own claim: what is queued from now on is not missed. */
  enter(wish: ClaimWish): Guest {
    const guest = new Guest(
      wish,
      wish.pools.map((pool) => this.#lineOf(pool)),
    );
    for (const { guests } of guest.lines) guests.add(guest);
    this.#look ??= setInterval(() => void this.#lookAround(), LOOK_EVERY_MS);
    return guest;
  }

  leave(guest: Guest): void {
    for (const line of guest.lines) {
      line.guests.delete(guest);
      if (line.guests.size > 0) continue;
      this.#lines.get(line.pool)?.unregister();
      this.#lines.delete(line.pool);
    }
    if (this.#lines.size > 0) return;
    clearInterval(this.#look);
    this.#look = undefined;
  }

  /** Until something is claimed for it, or the time is up, or nobody waits any more. Never rejects. */
  async wait(guest: Guest, waitMs: number, gone: AbortSignal): Promise<readonly ClaimedJob[]> {
    const dismiss = () => guest.dismiss();
    const timer = setTimeout(dismiss, waitMs);
    gone.addEventListener('abort', dismiss);
    if (gone.aborted || this.#closed || waitMs === 0) guest.leaving = true;
    this.#letWait(guest);
    try {
      return await guest.settled.promise;
    } finally {
      clearTimeout(timer);
      gone.removeEventListener('abort', dismiss);
    }
  }

  /** Lets everybody go, and nobody wait from now on. */
  close(): void {
    this.#closed = true;
    for (const { line } of this.#lines.values()) for (const guest of line.guests) guest.dismiss();
  }

  #lineOf(pool: string): Line {
    const known = this.#lines.get(pool);
    if (known !== undefined) return known.line;
    const line = new Line(pool, (woken) => void this.#serve(woken));
    this.#lines.set(pool, { line, unregister: this.#deps.register(pool, line) });
    return line;
  }

  #letWait(guest: Guest): void {
    guest.busy = false;
    if (guest.leaving) guest.settled.resolve([]);
    // Woken while every guest was busy: this one can look now.
    else for (const line of guest.lines) if (line.wanted) void this.#serve(line);
  }

  async #serve(line: Line): Promise<void> {
    if (line.serving) return;
    line.serving = true;
    for (let guest = line.first; line.wanted && guest !== undefined; guest = line.first) {
      line.wanted = false;
      guest.busy = true;
      const jobs = await this.#claim(line.pool, guest.wish);
      if (jobs.length > 0) {
        line.wanted = true;
        guest.settled.resolve(jobs);
      } else {
        this.#letWait(guest);
      }
    }
    line.serving = false;
  }

  async #claim(pool: string, wish: ClaimWish): Promise<readonly ClaimedJob[]> {
    try {
      return await this.#deps.claim(pool, wish);
    } catch (error) {
      this.#deps.onError(error);
      return [];
    }
  }

  async #lookAround(): Promise<void> {
    try {
      for (const pool of await this.#deps.findReady([...this.#lines.keys()])) this.#lines.get(pool)?.line.wake();
    } catch (error) {
      this.#deps.onError(error);
    }
  }
}
