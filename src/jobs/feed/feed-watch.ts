import type { AccountId } from '#domain/ids.ts';
import type { ChangeListener } from '#queue/changes.ts';
import type { EventChanges } from '#queue/event-changes.ts';
import type { Database } from '#store/database.ts';
import { type FeedRead, findNews, readFeed } from '#store/event-feed.ts';
import type { WalkPlace } from '#store/job-walk.ts';
import { Batches } from '../run/batches.ts';
import { AccountTail } from './account-tail.ts';
import { BEGINNING } from './feed-place.ts';

/** As in JobWatch: a process may die between its commit and its NOTIFY, or a connection in silence. */
const CHECK_EVERY_MS = 10_000;
const CHECK_AT_ONCE = 1000;
/** What one stream, and the tail of one account, hold at most; an event may be larger. */
export const CHUNK = { limit: 100, maxBytes: 512 * 1024 } as const;

export interface FeedWatchDeps {
  readonly db: Database;
  readonly changes: Pick<EventChanges, 'tell' | 'watching'>;
  readonly onError: (error: unknown) => void;
  readonly checkEveryMs?: number;
}

interface Followed {
  readonly accountId: AccountId;
  readonly tail: AccountTail;
  followers: number;
}

/** A place at the tail of an account. */
export interface Seat {
  readonly tail: AccountTail;
  leave(): void;
}

/** All who follow feeds in this process, in one place: one tail for each account that somebody follows. */
export class FeedWatch implements ChangeListener {
  readonly #deps: FeedWatchDeps;
  readonly #followed = new Map<string, Followed>();
  /** However many accounts have news at once. */
  readonly #reads: Batches<{ accountId: AccountId; from: WalkPlace }, FeedRead>;
  #checkTimer: NodeJS.Timeout | undefined;
  #checking: Promise<void> | undefined;
  #checkAgain = false;
  #isClosed = false;

  constructor(deps: FeedWatchDeps) {
    this.#deps = deps;
    const step = { ...CHUNK, look: CHUNK.limit };
    const all = { types: null, after: BEGINNING.after, anyFrom: BEGINNING.anyFrom };
    this.#reads = new Batches({
      answer: (asked) =>
        Promise.all(asked.map(({ accountId, from }) => readFeed(deps.db, accountId, all, { ...from, ...step }))),
      maxQuestions: 1,
      maxBatches: 2,
    });
    deps.changes.tell(this);
  }

  join(accountId: AccountId): Seat {
    const followed = this.#followed.get(accountId) ?? this.#begin(accountId);
    followed.followers += 1;
    return { tail: followed.tail, leave: () => this.#leave(followed) };
  }

  changed(accountIds: Iterable<string>): void {
    if (this.#followed.size === 0) return;
    for (const accountId of accountIds) this.#followed.get(accountId)?.tail.changed();
  }

  /** Looks at all that is followed. */
  missed(): void {
    this.#checkAgain = true;
    this.#checking ??= this.#checkAll().finally(() => (this.#checking = undefined));
  }

  /** Lets everybody go; resolves when no statement is under way. */
  async close(): Promise<void> {
    this.#isClosed = true;
    clearInterval(this.#checkTimer);
    this.#deps.changes.watching(false);
    await Promise.all([this.#checking, ...Array.from(this.#followed.values(), ({ tail }) => tail.close())]);
  }

  #begin(accountId: AccountId): Followed {
    const { changes, onError, checkEveryMs = CHECK_EVERY_MS } = this.#deps;
    const tail = new AccountTail({ read: (from) => this.#reads.add({ accountId, from }), onError });
    if (this.#isClosed) void tail.close();
    if (this.#followed.size === 0) {
      changes.watching(true);
      this.#checkTimer = setInterval(() => this.missed(), checkEveryMs);
    }
    const followed = { accountId, tail, followers: 0 };
    this.#followed.set(accountId, followed);
    return followed;
  }

  #leave(followed: Followed): void {
    followed.followers -= 1;
    if (followed.followers > 0) return;
    this.#followed.delete(followed.accountId);
    if (this.#followed.size > 0) return;
    clearInterval(this.#checkTimer);
    this.#deps.changes.watching(false);
  }

  async #checkAll(): Promise<void> {
    while (this.#checkAgain && !this.#isClosed) {
      this.#checkAgain = false;
      const places = Array.from(this.#followed.values(), ({ accountId, tail }) =>
        tail.head === undefined ? [] : [{ accountId, ...tail.head }],
      ).flat();
      try {
        for (let start = 0; start < places.length; start += CHECK_AT_ONCE)
          this.changed(await findNews(this.#deps.db, places.slice(start, start + CHECK_AT_ONCE)));
      } catch (error) {
        this.#deps.onError(error);
      }
    }
  }
}
