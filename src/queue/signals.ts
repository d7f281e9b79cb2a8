const CHANNEL = 'ringback_wake';

/** A commit that notifies takes a lock that the whole database shares: at most one per queue in this time. */
const DEBOUNCE_MS = 25;

/** Sends notifications: the database. */
export interface Notifying {
  readonly sql: (text: TemplateStringsArray, ...parameters: readonly string[]) => Promise<unknown>;
}

/** Hears notifications: the session of this process that listens. */
export interface Listening {
  /** `connected` is called once the channel is heard, and again after each lost connection. */
  listen(channel: string, hear: (payload: string) => void, connected: () => void): Promise<void>;
}

export interface Sleeper {
  readonly hasRoom: boolean;
  wake(): void;
}

/**
 * What processes tell each other: that something was queued, and that a job was called off. A loop of this process that
 * has room is told directly and nobody else needs to know; only when it is full, or when another process runs that role,
 * a NOTIFY goes out, outside the transaction that queued. A lost NOTIFY costs one poll, or one renewal of a lease.
 */
export class Signals {
  readonly #db: Notifying;
  readonly #listener: Listening;
  readonly #instance: string;
  readonly #onError: (error: unknown) => void;
  readonly #sleepers = new Map<string, Set<Sleeper>>();
  readonly #cancelListeners = new Set<(jobId: string) => void>();
  readonly #muted = new Map<string, { again: boolean }>();

  constructor(db: Notifying, listener: Listening, instance: string, onError: (error: unknown) => void) {
    this.#db = db;
    this.#listener = listener;
    this.#instance = instance;
    this.#onError = onError;
  }

  /** Wakes the sleeper when something is queued there. Answers how to be left alone again. */
  register(queue: string, sleeper: Sleeper): () => void {
    const sleepers = this.#sleepers.get(queue) ?? new Set();
    this.#sleepers.set(queue, sleepers.add(sleeper));
    return () => {
      if (sleepers.delete(sleeper) && sleepers.size === 0 && this.#sleepers.get(queue) === sleepers)
        this.#sleepers.delete(queue);
    };
  }

  /** Hears of every job that is called off while it runs, wherever. */
  onCancel(listener: (jobId: string) => void): void {
    this.#cancelListeners.add(listener);
  }

  /** Hears the other processes. After a lost connection every sleeper is woken, because nobody knows what it missed. */
  async listen(): Promise<void> {
    await this.#listener.listen(
      CHANNEL,
      (payload) => this.#hear(payload.split(' ')),
      () => {
        for (const sleepers of this.#sleepers.values()) for (const sleeper of sleepers) sleeper.wake();
      },
    );
  }

  #hear([kind, subject = '', instance]: string[]): void {
    if (instance === this.#instance) return;
    if (kind === 'wake') for (const sleeper of this.#sleepers.get(subject) ?? []) sleeper.wake();
    if (kind === 'cancel') for (const listener of this.#cancelListeners) listener(subject);
  }

  /** Call after the commit that queued something. */
  announce(queue: string): void {
    const sleepers = [...(this.#sleepers.get(queue) ?? [])];
    const startsHere = sleepers.some(({ hasRoom }) => hasRoom);
    for (const sleeper of sleepers) sleeper.wake();
    if (!startsHere) this.#announceElsewhere(queue);
  }

  /** Call after the commit that called a job off. */
  cancel(jobId: string): void {
    for (const listener of this.#cancelListeners) listener(jobId);
    this.#notify(`cancel ${jobId}`);
  }

  #announceElsewhere(queue: string): void {
    const muted = this.#muted.get(queue);
    if (muted !== undefined) {
      muted.again = true;
      return;
    }
    const window = { again: false };
    this.#muted.set(queue, window);
    this.#notify(`wake ${queue}`);
    setTimeout(() => {
      this.#muted.delete(queue);
      if (window.again) this.#announceElsewhere(queue);
    }, DEBOUNCE_MS).unref();
  }

  #notify(message: string): void {
    const { sql } = this.#db;
    sql`SELECT pg_notify(${CHANNEL}, ${`${message} ${this.#instance}`})`.catch(this.#onError);
  }
}
