import type { Clock } from '#domain/clock.ts';
import { refuseCursor } from '#domain/cursor.ts';
import type { AccountId } from '#domain/ids.ts';
import { type Result, refuse } from '#domain/problem.ts';
import type { Database } from '#store/database.ts';
import { findEpoch } from '#store/database-epochs.ts';
import { type FeedEvent, readFeed, readFeedOfJob } from '#store/event-feed.ts';
import { startWalk, type Walking } from '../read/job-walk.ts';
import { Batches } from '../run/batches.ts';
import { HEARTBEAT_MS, LONGEST_MS } from '../wait/job-events.ts';
import { BEGINNING, type FeedFilter, isWanted, openPlace, placeOf, sealPlace } from './feed-place.ts';
import { CHUNK, type FeedWatch } from './feed-watch.ts';

export type { FeedEvent };

export interface FeedQuery {
  readonly filter: FeedFilter;
  /** Where to begin without a cursor: with events made after that time. Undefined: with the first there is. */
  readonly createdAfter: Date | undefined;
  readonly cursor: string | undefined;
  /** A cursor, as events of a stream carry it; wins over the other. */
  readonly lastEventId: string | undefined;
}

export interface FeedPage {
  /** Oldest first. May be few, or none, though there is more: one request looks at so many events and no more. */
  readonly items: readonly FeedEvent[];
  readonly nextCursor: string;
  /** Whether to ask on at once. */
  readonly hasMore: boolean;
}

/** What somebody who follows a feed is told. */
export type FeedItem =
  | { readonly kind: 'event'; readonly event: FeedEvent; readonly cursor: string }
  /** Nothing of what was asked for has happened for a while, or up to that cursor. */
  | { readonly kind: 'place'; readonly cursor: string };

interface Step {
  readonly limit: number;
  readonly maxBytes: number;
}

interface Read {
  readonly events: readonly FeedEvent[];
  readonly next: Walking;
  readonly hasMore: boolean;
}

interface Asked {
  readonly accountId: AccountId;
  readonly filter: FeedFilter;
  readonly place: Walking;
}

/** Events that one request looks at, and the bytes of bodies that it answers. */
const LOOK = 2000;
const MAX_PAGE_BYTES = 4 * 1024 * 1024;
const NOT_OURS = 'must be the next_cursor of an earlier page of this feed, asked for with the same filters';
const FROM_ANOTHER_COPY =
  'is from a state of the database that is gone: it was restored to an earlier one; start anew with created_after, from before the restored backup';

export interface EventFeedDeps {
  readonly db: Database;
  readonly clock: Clock;
  readonly watch: FeedWatch;
  readonly onError: (error: unknown) => void;
  readonly heartbeatMs?: number;
}

/** The events of an account in the order of the feed: docs/decisions/0010. Each once, and none is missed. */
export class EventFeed {
  readonly #deps: EventFeedDeps;
  /** Those who follow read the table by themselves until they have come up to its end: a few of them at once. */
  readonly #reads: Batches<Asked, Read | undefined>;

  constructor(deps: EventFeedDeps) {
    this.#deps = deps;
    this.#reads = new Batches({
      answer: (asked) => Promise.all(asked.map((one) => read(deps.db, one, CHUNK))),
      maxQuestions: 1,
      maxBatches: 2,
    });
  }

  async page(accountId: AccountId, query: FeedQuery & { readonly limit: number }): Promise<Result<FeedPage>> {
    const place = await this.#placeOf(accountId, query);
    if (!place.ok) return place;
    const { filter, limit } = query;
    const page = await read(
      this.#deps.db,
      { accountId, filter, place: place.value },
      { limit, maxBytes: MAX_PAGE_BYTES },
    );
    if (page === undefined) return refusalOf(query, FROM_ANOTHER_COPY);
    const nextCursor = sealPlace(accountId, filter, page.next);
    return { ok: true, value: { items: page.events, nextCursor, hasMore: page.hasMore } };
  }

  /**
   * The events on record from there on, then each as it goes on record, every one once and in the order of the feed. Ends
   * without an error when `signal` aborts, the process shuts down, the database is away or an hour has passed: who wants
   * more asks again with the last cursor. Read no faster than it is taken, it holds what was read together and no more.
   */
  async follow(
    accountId: AccountId,
    query: FeedQuery,
    signal: AbortSignal,
  ): Promise<Result<AsyncGenerator<FeedItem, void, void>>> {
    const place = await this.#placeOf(accountId, query);
    if (!place.ok) return place;
    const asked = { accountId, filter: query.filter, place: place.value };
    const first = await this.#reads.add(asked);
    if (first === undefined) return refusalOf(query, FROM_ANOTHER_COPY);
    return { ok: true, value: this.#follow(asked, first, signal) };
  }

  async *#follow(asked: Asked, first: Read, signal: AbortSignal): AsyncGenerator<FeedItem, void, void> {
    const seat = this.#deps.watch.join(asked.accountId);
    const { tail } = seat;
    const endsAt = performance.now() + LONGEST_MS;
    const isOver = () => tail.isOver || signal.aborted || performance.now() > endsAt;
    try {
      // At once: who is cut off before the first event goes on from here.
      yield itemOf({ ...asked, place: { ...asked.place, epoch: first.next.epoch } });
      let { place, hasMore } = { place: yield* tell(asked, first), hasMore: first.hasMore };
      while (!isOver()) {
        const chunk = tail.chunkAfter(place);
        if (chunk !== undefined) {
          const events = chunk.events.filter((event) => isWanted(event, asked.filter, place));
          place = yield* tell(asked, { events, next: { ...place, ...chunk.to } });
          hasMore = false;
        } else if (hasMore || tail.hasLost(place)) {
          const page = await this.#reads.add({ ...asked, place });
          if (page === undefined) return;
          place = yield* tell(asked, page);
          ({ hasMore } = page);
          // Far from the last event that was wanted: all in between need not be looked at again.
          if (hasMore && page.events.length === 0) yield itemOf({ ...asked, place });
        } else if (!(await tail.news(place, this.#deps.heartbeatMs ?? HEARTBEAT_MS, signal))) {
          yield itemOf({ ...asked, place });
        }
      }
    } catch (error) {
      this.#deps.onError(error);
    } finally {
      seat.leave();
    }
  }

  async #placeOf(accountId: AccountId, query: FeedQuery): Promise<Result<Walking>> {
    const { filter, createdAfter } = query;
    const cursor = query.lastEventId ?? query.cursor;
    if (cursor === undefined) {
      if (createdAfter === undefined) return { ok: true, value: BEGINNING };
      return { ok: true, value: await startWalk(this.#deps.db, accountId, createdAfter, this.#deps.clock.now()) };
    }
    const place = openPlace(accountId, filter, cursor);
    if (place === undefined || (createdAfter ?? place.after).getTime() !== place.after.getTime())
      return refusalOf(query, NOT_OURS);
    return { ok: true, value: place };
  }
}

/** Undefined when the place is one of another database's. */
async function read(db: Database, { accountId, filter, place }: Asked, step: Step): Promise<Read | undefined> {
  const { types = null, jobId } = filter;
  const { token: epoch, isKnown } = await findEpoch(db, place.epoch);
  if (!isKnown) return undefined;
  const match = { types, after: place.after, anyFrom: place.anyFrom };
  const { events, stoppedAt, horizon } =
    jobId === undefined
      ? await readFeed(db, accountId, match, { ...place, ...step, look: LOOK })
      : await readFeedOfJob(db, accountId, jobId, match, { ...place, ...step });
  if (BigInt(place.xid) > BigInt(horizon)) return undefined;
  const next = { ...place, epoch, ...(stoppedAt ?? { xid: horizon, eventId: '' as const }) };
  return { events, next, hasMore: stoppedAt !== undefined };
}

/** Each event with the cursor that stands behind it; answers where all of them have been told. */
async function* tell(
  { accountId, filter }: Omit<Asked, 'place'>,
  { events, next }: Pick<Read, 'events' | 'next'>,
): AsyncGenerator<FeedItem, Walking, void> {
  for (const event of events) {
    const cursor = sealPlace(accountId, filter, { ...next, ...placeOf(event) });
    yield { kind: 'event', event, cursor };
  }
  return next;
}

function itemOf({ accountId, filter, place }: Asked): FeedItem {
  return { kind: 'place', cursor: sealPlace(accountId, filter, place) };
}

function refusalOf({ lastEventId }: FeedQuery, message: string): Result<never> {
  if (lastEventId === undefined) return refuseCursor(message);
  return refuse('invalid_last_event_id', `Last-Event-ID ${message}`);
}
