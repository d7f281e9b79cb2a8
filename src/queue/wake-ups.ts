import type { Sql } from 'postgres';

const CHANNEL = 'ringback_wake';

/** A commit that notifies takes a lock that the whole database shares: at most one per queue in this time. */
const DEBOUNCE_MS = 25;

interface Sleeper {
  readonly hasRoom: boolean;
  wake(): void;
}

/**
 * Tells claim loops that something was queued. A loop of this process that has room is told directly and nobody else
 * needs to know; only when it is full, or when another process runs that role, a NOTIFY goes out, outside the
 * transaction that queued. A lost NOTIFY costs one poll interval.
 */
export class WakeUps {
  readonly #db: { readonly sql: Sql };
  readonly #listener: Sql;
  readonly #instance: string;
  readonly #onError: (error: unknown) => void;
  readonly #sleepers = new Map<string, Sleeper>();
  readonly #muted = new Map<string, { again: boolean }>();

  /** @param listener a direct connection: LISTEN belongs to a session */
  constructor(db: { readonly sql: Sql }, listener: Sql, instance: string, onError: (error: unknown) => void) {
    this.#db = db;
    this.#listener = listener;
    this.#instance = instance;
    this.#onError = onError;
  }

  register(queue: string, sleeper: Sleeper): void {
    this.#sleepers.set(queue, sleeper);
  }

  /** Hears the other processes. After a lost connection every sleeper is woken, because nobody knows what it missed. */
  async listen(): Promise<void> {
    if (this.#sleepers.size === 0) return;
    await this.#listener.listen(
      CHANNEL,
      (payload) => {
        const [queue, instance] = payload.split(' ');
        if (instance !== this.#instance) this.#sleepers.get(queue ?? '')?.wake();
      },
      () => {
        for (const sleeper of this.#sleepers.values()) sleeper.wake();
      },
    );
  }

  /** Call after the commit that queued something. */
  announce(queue: string): void {
    const sleeper = this.#sleepers.get(queue);
    const startsHere = sleeper?.hasRoom === true;
    sleeper?.wake();
    if (!startsHere) this.#notify(queue);
  }

  #notify(queue: string): void {
    const muted = this.#muted.get(queue);
    if (muted !== undefined) {
      muted.again = true;
      return;
    }
    const window = { again: false };
    this.#muted.set(queue, window);
    const { sql } = this.#db;
    sql`SELECT pg_notify(${CHANNEL}, ${`${queue} ${this.#instance}`})`.catch(this.#onError);
    setTimeout(() => {
      this.#muted.delete(queue);
      if (window.again) this.#notify(queue);
    }, DEBOUNCE_MS).unref();
  }
}
