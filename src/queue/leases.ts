import type { Connection } from './boss.ts';
import type { ItemQueue, ItemRef } from './item-queue.ts';

/** How long a claim lasts without a sign of life. */
export const LEASE_MS = 15_000;
const RENEW_MS = LEASE_MS / 3;

/** Renews the claims of everything under way that has lasted a while; what ends quickly costs no renewal. */
export class Leases {
  readonly #queue: ItemQueue<object>;
  readonly #db: { readonly sql: Connection };
  readonly #onError: (error: unknown) => void;
  readonly #held = new Map<ItemRef, { readonly since: number; readonly onLost: () => void }>();
  #timer: NodeJS.Timeout | undefined;

  constructor(queue: ItemQueue<object>, db: { readonly sql: Connection }, onError: (error: unknown) => void) {
    this.#queue = queue;
    this.#db = db;
    this.#onError = onError;
  }

  start(): void {
    this.#timer = setInterval(() => void this.#renew(), RENEW_MS);
  }

  stop(): void {
    clearInterval(this.#timer);
  }

  /** `onLost` is called when somebody else has the item by now; what is done with it will be refused. */
  hold(ref: ItemRef, onLost: () => void = () => undefined): void {
    this.#held.set(ref, { since: Date.now(), onLost });
  }

  drop(ref: ItemRef): void {
    this.#held.delete(ref);
  }

  async #renew(): Promise<void> {
    const before = Date.now() - RENEW_MS / 2;
    const refs = [...this.#held].filter(([, { since }]) => since < before).map(([ref]) => ref);
    try {
      if ((await this.#queue.touch(this.#db.sql, refs)) < refs.length) await this.#findLost(refs);
    } catch (error) {
      this.#onError(error);
    }
  }

  /** One by one, because a renewal of many only says how many there were. What ended meanwhile is held no more. */
  async #findLost(refs: readonly ItemRef[]): Promise<void> {
    for (const ref of refs) {
      const held = this.#held.get(ref);
      if (held === undefined || (await this.#queue.touch(this.#db.sql, [ref])) === 1) continue;
      if (this.#held.delete(ref)) held.onLost();
    }
  }
}
