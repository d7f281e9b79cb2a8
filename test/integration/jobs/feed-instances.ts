import { onTestFinished } from 'vitest';
import { type AccountId, newId } from '#domain/ids.ts';
import type { ChangeTimes } from '#queue/changes.ts';
import { EventChanges } from '#queue/event-changes.ts';
import { EventFeed, type FeedItem, type FeedQuery } from '../../../src/jobs/feed/event-feed.ts';
import { FeedWatch } from '../../../src/jobs/feed/feed-watch.ts';
import type { TestDatabase } from '../../support/database.ts';
import { accepted } from '../../support/fixtures.ts';
import { counting } from './watch-instances.ts';
import { REAL_CLOCK } from '../../support/workers.ts';

/** Long enough to be no part of the test. */
const NEVER_MS = 3_600_000;

export interface FeedInstanceOptions {
  readonly times?: Partial<ChangeTimes>;
  readonly checkEveryMs?: number;
  readonly heartbeatMs?: number;
  /** False for a process that hears nobody. */
  readonly listens?: boolean;
}

/** A process that feeds are followed in, and that writes events. It looks by itself at nothing, unless told to. */
export async function startFeedInstance(database: TestDatabase, options: FeedInstanceOptions = {}) {
  const { checkEveryMs = NEVER_MS, heartbeatMs = NEVER_MS } = options;
  const db = counting(database.open());
  const listener = database.listener();
  const errors: unknown[] = [];
  const onError = (error: unknown) => void errors.push(error);
  const times = { announceEveryMs: NEVER_MS, believedMs: NEVER_MS, settleMs: NEVER_MS, ...options.times };
  const changes = new EventChanges({ db, listener, instance: newId('wrk', Date.now()), onError, times });
  const watching: boolean[] = [];
  const told: Pick<EventChanges, 'tell' | 'watching'> = {
    tell: (to) => changes.tell(to),
    watching: (isWatching) => {
      if (watching.at(-1) !== isWatching) watching.push(isWatching);
      changes.watching(isWatching);
    },
  };
  const watch = new FeedWatch({ db, changes: told, onError, checkEveryMs });
  const feed = new EventFeed({ db, clock: REAL_CLOCK, watch, onError, heartbeatMs });
  if (options.listens !== false) await changes.listen();
  onTestFinished(async () => {
    await Promise.all([watch.close(), changes.close()]);
  });
  return { db, changes, watch, watching, feed, errors };
}

export type FeedInstance = Awaited<ReturnType<typeof startFeedInstance>>;

export const ALL: FeedQuery = {
  filter: { types: undefined, jobId: undefined },
  createdAfter: undefined,
  cursor: undefined,
  lastEventId: undefined,
};

/** Follows, and keeps what comes; `done` resolves at the end. Stopped with the test. */
export async function followFeed({ feed }: FeedInstance, accountId: AccountId, changes: Partial<FeedQuery> = {}) {
  const items: FeedItem[] = [];
  const stop = new AbortController();
  onTestFinished(() => stop.abort());
  const following = accepted(await feed.follow(accountId, { ...ALL, ...changes }, stop.signal));
  const done = (async () => {
    for await (const item of following) items.push(item);
  })();
  const events = () => items.flatMap((item) => (item.kind === 'event' ? [item.event] : []));
  return { items, events, stop, done, cursor: () => items.at(-1)?.cursor };
}
