import type { Listening, Notifying } from './signals.ts';

/** A NOTIFY holds less than 8,000 bytes. */
const MAX_PAYLOAD = 7900;
/** What changes in this time travels together. */
const GATHER_MS = 10;

/** Who wants to know, in this process. */
export interface ChangeListener {
  /** Ids of what has changed, of what nobody here watches among them. */
  changed(ids: Iterable<string>): void;
  /** Changes may have been missed: whatever is watched is to be looked at. */
  missed(): void;
}

export interface ChangeTimes {
  /** How often a process that watches says so. */
  readonly announceEveryMs: number;
  /** How long the others believe it. */
  readonly believedMs: number;
  /** How long the others may take to hear of the first watcher: what changes until then is looked for. */
  readonly settleMs: number;
}

const TIMES: ChangeTimes = { announceEveryMs: 20_000, believedMs: 60_000, settleMs: 300 };

export interface ChangesDeps {
  readonly db: Notifying;
  readonly listener: Listening;
  readonly instance: string;
  readonly onError: (error: unknown) => void;
  readonly times?: Partial<ChangeTimes>;
}

/**
 * Tells whoever watches what has changed: in this process at once, in others by NOTIFY, and then only while another
 * process has said that somebody watches there. So a process on its own never notifies of a change, and nobody pays for
 * watchers that are not there. A NOTIFY names ids and nothing else; whoever watches reads what became of them.
 */
export class Changes {
  readonly #channel: string;
  readonly #db: Notifying;
  readonly #listening: Listening;
  readonly #instance: string;
  readonly #onError: (error: unknown) => void;
  readonly #times: ChangeTimes;
  /** Until when the others are believed to watch, by the monotonic clock. */
  readonly #others = new Map<string, number>();
  readonly #outbox = new Set<string>();
  #listener: ChangeListener | undefined;
  #isWatching = false;
  #announcedAt = Number.NEGATIVE_INFINITY;
  /** Timers that are set. */
  #announcer: NodeJS.Timeout | undefined;
  #announcement: NodeJS.Timeout | undefined;
  #settling: NodeJS.Timeout | undefined;
  #departure: NodeJS.Timeout | undefined;
  #isSending = false;
  #isClosed = false;

  /** @param channel one for each kind of thing that changes */
  constructor(channel: string, deps: ChangesDeps) {
    this.#channel = channel;
    this.#db = deps.db;
    this.#listening = deps.listener;
    this.#instance = deps.instance;
    this.#onError = deps.onError;
    this.#times = { ...TIMES, ...deps.times };
  }

  /** Tells this one, from now on. */
  tell(listener: ChangeListener): void {
    this.#listener = listener;
  }

  /** Hears the other processes. What a lost connection may have hidden is looked for once there is a new one. */
  async listen(): Promise<void> {
    await this.#listening.listen(
      this.#channel,
      (payload) => this.#hear(payload.split(' ')),
      () => this.#connected(),
    );
  }

  /** Resolves when the last changes have been told, or could not be. */
  async close(): Promise<void> {
    this.watching(false);
    this.#isClosed = true;
    clearTimeout(this.#announcement);
    clearTimeout(this.#settling);
    clearTimeout(this.#departure);
    if (this.#outbox.size > 0) await this.#notifyOfChanges();
  }

  /** Call after the commit that changed them. */
  protected publishIds(ids: readonly string[]): void {
    this.#listener?.changed(ids);
    if (!this.#isWatchedElsewhere()) return;
    for (const id of ids) this.#outbox.add(id);
    this.#depart();
  }

  /** The first watcher of this process has come, or the last one has gone. */
  watching(isWatching: boolean): void {
    this.#isWatching = isWatching;
    clearInterval(this.#announcer);
    if (!isWatching || this.#isClosed) return;
    const { announceEveryMs } = this.#times;
    // Watchers that come and go by the second are still one announcement in this time: the others believe it longer.
    if (performance.now() - this.#announcedAt >= announceEveryMs) this.#introduce();
    this.#announcer = setInterval(() => void this.#announce(), announceEveryMs);
  }

  #hear([kind, instance = '', ...ids]: string[]): void {
    if (instance === this.#instance) return;
    if (kind === 'changed') this.#listener?.changed(ids);
    if (kind === 'watching') this.#others.set(instance, performance.now() + this.#times.believedMs);
    if (kind === 'hello') this.#introduce();
  }

  /** Nobody knows what was said while we were not there: what has changed, and who watches. */
  #connected(): void {
    void this.#notify([`hello ${this.#instance}`]);
    this.#introduce();
  }

  /** Says that somebody watches here to those who have not heard it yet, and looks for what they changed until they did. */
  #introduce(): void {
    if (!this.#isWatching || this.#isClosed || this.#announcement !== undefined) return;
    // Many may say hello at once.
    this.#announcement = setTimeout(() => {
      this.#announcement = undefined;
      void this.#announce().then(() => {
        this.#listener?.missed();
        clearTimeout(this.#settling);
        if (!this.#isClosed) this.#settling = setTimeout(() => this.#listener?.missed(), this.#times.settleMs);
      });
    }, GATHER_MS);
  }

  async #announce(): Promise<void> {
    this.#announcedAt = performance.now();
    const isSaid = await this.#notify([`watching ${this.#instance}`]);
    if (!isSaid) this.#announcedAt = Number.NEGATIVE_INFINITY;
  }

  #isWatchedElsewhere(): boolean {
    const now = performance.now();
    for (const [instance, until] of this.#others) if (until < now) this.#others.delete(instance);
    return this.#others.size > 0;
  }

  /** One NOTIFY at a time: under load the next one carries all that changed meanwhile. */
  #depart(): void {
    if (this.#departure !== undefined || this.#isSending || this.#isClosed) return;
    this.#departure = setTimeout(() => {
      this.#departure = undefined;
      this.#isSending = true;
      void this.#notifyOfChanges().then(() => {
        this.#isSending = false;
        if (this.#outbox.size > 0) this.#depart();
      });
    }, GATHER_MS);
  }

  #notifyOfChanges(): Promise<boolean> {
    const ids = [...this.#outbox];
    this.#outbox.clear();
    return this.#notify(packed(`changed ${this.#instance}`, ids));
  }

  /** One transaction, whatever their number: it takes a lock that the whole database shares. */
  async #notify(payloads: readonly string[]): Promise<boolean> {
    const { sql } = this.#db;
    try {
      await sql`
        SELECT pg_notify(${this.#channel}, payload)
        FROM json_array_elements_text(${JSON.stringify(payloads)}::text::json) AS payload`;
      return true;
    } catch (error) {
      if (!this.#isClosed) this.#onError(error);
      return false;
    }
  }
}

/** As few payloads as hold all ids. */
function packed(head: string, ids: readonly string[]): string[] {
  const payloads: string[] = [];
  let payload = head;
  for (const id of ids) {
    if (payload.length + 1 + id.length > MAX_PAYLOAD) {
      payloads.push(payload);
      payload = head;
    }
    payload += ` ${id}`;
  }
  return [...payloads, payload];
}
