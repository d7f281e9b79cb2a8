import type { Connection } from './boss.ts';
import type { ItemQueue, ItemRef } from './item-queue.ts';

/** How long a claim lasts without a sign of life. */
export const LEASE_MS = 15_000;
const RENEW_MS = LEASE_MS / 3;

/** Renews the claims of everything under way that has lasted a while; what ends quickly costs no renewal. */
export class Leases {
  readonly #queue: ItemQueue<object>;
  readonly #sql: Connection;
  readonly #onError: (error: unknown) => void;
  readonly #held = new Map<ItemRef, number>();
  #timer: NodeJS.Timeout | undefined;

  constructor(queue: ItemQueue<object>, sql: Connection, onError: (error: unknown) => void) {
    this.#queue = queue;
    this.#sql = sql;
    this.#onError = onError;
  }

  start(): void {
    this.#timer = setInterval(() => void this.#renew(), RENEW_MS);
  }

  stop(): void {
    clearInterval(this.#timer);
  }

  hold(ref: ItemRef): void {
    this.#held.set(ref, Date.now());
  }

  drop(ref: ItemRef): void {
    this.#held.delete(ref);
  }

  async #renew(): Promise<void> {
    const before = Date.now() - RENEW_MS / 2;
    const refs = [...this.#held].filter(([, since]) => since < before).map(([ref]) => ref);
    try {
      await this.#queue.touch(this.#sql, refs);
    } catch (error) {
      this.#onError(error);
    }
  }
}
