/** How long a claim lasts without a sign of life. */
export const LEASE_MS = 15_000;
const RENEW_MS = LEASE_MS / 3;

/** Renews the claims of everything under way that has lasted a while; what ends quickly costs no renewal. */
export class Leases<Ref extends object> {
  readonly #renewAll: (refs: readonly Ref[]) => Promise<readonly Ref[]>;
  readonly #onError: (error: unknown) => void;
  readonly #monotonicNow: () => number;
  /** Since when, by the monotonic clock: one that is set back must not make what is held look new, and not renewed. */
  readonly #held = new Map<Ref, { readonly since: number; readonly onLost: () => void }>();
  #timer: NodeJS.Timeout | undefined;

  /** @param renewAll renews leases and answers those that are somebody else's by now */
  constructor(
    renewAll: (refs: readonly Ref[]) => Promise<readonly Ref[]>,
    onError: (error: unknown) => void,
    monotonicNow = () => performance.now(),
  ) {
    this.#renewAll = renewAll;
    this.#onError = onError;
    this.#monotonicNow = monotonicNow;
  }

  start(): void {
    this.#timer = setInterval(() => void this.#renew(), RENEW_MS);
  }

  stop(): void {
    clearInterval(this.#timer);
  }

  /** `onLost` is called when somebody else has the item by now; what is done with it will be refused. */
  hold(ref: Ref, onLost: () => void = () => undefined): void {
    this.#held.set(ref, { since: this.#monotonicNow(), onLost });
  }

  drop(ref: Ref): void {
    this.#held.delete(ref);
  }

  async #renew(): Promise<void> {
    const before = this.#monotonicNow() - RENEW_MS / 2;
    const refs = [...this.#held].filter(([, { since }]) => since < before).map(([ref]) => ref);
    if (refs.length === 0) return;
    try {
      for (const ref of await this.#renewAll(refs)) {
        const held = this.#held.get(ref);
        // What ended meanwhile is held no more.
        if (this.#held.delete(ref)) held?.onLost();
      }
    } catch (error) {
      this.#onError(error);
    }
  }
}

/**
 * Leases that ended before this time could have been renewed, and were not. None could while the database and this process have
 * not been in touch, or have not agreed on the time, for as long as a lease lasts: then everybody else may have been cut off as
 * well, or the database's clock may have jumped past the ends of leases that are held.
 */
export function lapsedBefore(clock: { readonly now: () => Date; readonly undisturbedMs: () => number }): Date {
  return clock.undisturbedMs() < LEASE_MS ? new Date(0) : clock.now();
}
