import { describe, expect, onTestFinished, test } from 'vitest';
import { type AccountId, type JobId, newId } from '#domain/ids.ts';
import type { Database, Transaction } from '#store/database.ts';
import { insertJobs } from '#store/jobs.ts';
import { endRuns } from '#store/end-runs.ts';
import type { EventFeed, FeedEvent, FeedPage, FeedQuery } from '../../../src/jobs/feed/event-feed.ts';
import { useDatabase } from '../../support/database.ts';
import { eventually } from '../../support/eventually.ts';
import { accepted, claimRun, insertJob, makeAccount, newJob, runEnd, waitingEnd } from '../../support/fixtures.ts';
import { passHorizon } from '../../support/horizon.ts';
import { ALL, type FeedInstance, followFeed, startFeedInstance } from './feed-instances.ts';

/** The feed while transactions overtake each other, and who follows it. */

const database = useDatabase();

const sightOf = ({ jobId, sequence, id }: Pick<FeedEvent, 'jobId' | 'sequence' | 'id'>) => `${id} ${jobId} ${sequence}`;

/** Every event of an account, straight from the table. */
async function onRecord(accountId: AccountId): Promise<string[]> {
  const rows = await database.sql<Array<Pick<FeedEvent, 'jobId' | 'sequence' | 'id'>>>`
    SELECT id, job_id AS "jobId", sequence FROM ringback.events WHERE account_id = ${accountId}`;
  return rows.map(sightOf).toSorted();
}

/** A client that keeps nothing but its cursor. */
class Reader {
  readonly #accountId: AccountId;
  readonly #limit: number;
  readonly #query: FeedQuery;
  #cursor: string | undefined;
  readonly seen: FeedEvent[] = [];
  pages = 0;

  constructor(accountId: AccountId, limit = 7, changes: Partial<FeedQuery> = {}) {
    this.#accountId = accountId;
    this.#limit = limit;
    this.#query = { ...ALL, ...changes };
  }

  get cursor(): string {
    return this.#cursor ?? '';
  }

  async step(feed: EventFeed): Promise<FeedPage> {
    const start = this.#cursor === undefined ? this.#query : { ...this.#query, createdAfter: undefined };
    const query = { ...start, cursor: this.#cursor ?? start.cursor, limit: this.#limit };
    const page = accepted(await feed.page(this.#accountId, query));
    this.seen.push(...page.items);
    this.#cursor = page.nextCursor;
    this.pages++;
    return page;
  }

  /** To where everything was told of that is committed by now. */
  async catchUp(feed: EventFeed): Promise<this> {
    await passHorizon(database.db);
    while ((await this.step(feed)).hasMore);
    return this;
  }
}

const readAll = async ({ feed }: FeedInstance, accountId: AccountId, changes: Partial<FeedQuery> = {}) =>
  (await new Reader(accountId, 7, changes).catchUp(feed)).seen;

/** Each once, none missed, and each above the one before. */
function expectWhole(seen: readonly FeedEvent[], recorded: readonly string[]): void {
  const sights = seen.map(sightOf);
  expect(new Set(sights).size, 'events met twice').toBe(sights.length);
  expect(
    recorded.filter((event) => !sights.includes(event)),
    'events missed',
  ).toEqual([]);
  const keys = seen.map(({ xid, id }) => `${xid.padStart(20, '0')} ${id}`);
  expect(keys, 'the order of the feed').toEqual(keys.toSorted());
}

const RELEASED = { runStatus: 'released', jobStatus: 'in_progress' } as const;
const WRITERS = 3;
const JOBS_OF_A_WRITER = 60;
const HOLDS = 10;

/** Takes one job some way through its life, a transaction a step; tells of some of them. */
async function live(by: FeedInstance, db: Database, accountId: AccountId, number: number): Promise<void> {
  const tell = () => number % 4 !== 0 && by.changes.publish([accountId]);
  const job = await insertJob(db, accountId);
  tell();
  if (number % 3 === 0) return void (await endRuns(db.sql, [waitingEnd(job, 'canceled')]));
  const claimed = await claimRun(db, job);
  tell();
  await endRuns(db.sql, [runEnd(claimed, number % 3 === 1 ? RELEASED : {})]);
  tell();
}

async function writeHeld(tx: Transaction, accountId: AccountId, waiting: { accountId: AccountId; id: JobId }) {
  await endRuns(tx, [waitingEnd(waiting, 'canceled')]);
  await insertJobs(tx, [newJob(accountId), newJob(accountId)]);
}

/** Writers that commit as they go, and one that holds each of its transactions open while they and the readers go on. */
async function underFire(by: FeedInstance, accountId: AccountId, readers: readonly Reader[]): Promise<void> {
  let written = 0;
  const held = new AbortController();
  const write = async () => {
    const db = database.open({ max: 2 });
    for (let number = 0; number < JOBS_OF_A_WRITER || !held.signal.aborted; number++, written++)
      await live(by, db, accountId, number);
  };
  const hold = async () => {
    const db = database.open({ max: 1 });
    for (let round = 0; round < HOLDS; round++) {
      const waiting = await insertJob(db, accountId);
      await db.transaction(async (tx) => {
        await writeHeld(tx, accountId, waiting);
        const before = written;
        // Each reader has asked anew after others had committed: whatever passes the held transaction by has done so.
        await eventually(() => expect(written).toBeGreaterThan(before + WRITERS));
        const asked = readers.map(({ pages }) => pages);
        await eventually(() => {
          for (const [index, { pages }] of readers.entries()) expect(pages).toBeGreaterThan(asked[index]! + 1);
        });
      });
      by.changes.publish([accountId]);
    }
    held.abort();
  };
  await Promise.all([hold(), ...Array.from({ length: WRITERS }, write)]);
}

test('under fire every event is met once, in the order of the feed, by whoever reads and whoever follows', async () => {
  const [here, there] = [
    await startFeedInstance(database, { times: { settleMs: 20 } }),
    await startFeedInstance(database),
  ];
  const { accountId } = await makeAccount(database.db);
  const readers = [new Reader(accountId, 1), new Reader(accountId, 7), new Reader(accountId, 200)];
  const followers = await Promise.all([here, here, there].map((instance) => followFeed(instance, accountId)));
  const burntOut = new AbortController();
  const read = async (reader: Reader) => {
    while (!burntOut.signal.aborted) await reader.step(here.feed);
    await reader.catchUp(here.feed);
  };
  const fire = underFire(here, accountId, readers);
  await Promise.all([fire.finally(() => burntOut.abort()), ...readers.map(read)]);

  const recorded = await onRecord(accountId);
  expect(recorded.length).toBeGreaterThan(WRITERS * JOBS_OF_A_WRITER * 2);
  for (const { seen } of readers) expectWhole(seen, recorded);
  here.changes.publish([accountId]);
  for (const { events } of followers) {
    await eventually(() => expect(events()).toHaveLength(recorded.length));
    expectWhole(events(), recorded);
  }
  // And at rest from anywhere.
  for (const limit of [1, 50]) expectWhole((await new Reader(accountId, limit).catchUp(here.feed)).seen, recorded);
  expect([...here.errors, ...there.errors]).toEqual([]);
}, 60_000);

describe('a page', () => {
  test('that has caught up is empty, and its cursor meets what comes, in another process too', async () => {
    const { accountId } = await makeAccount(database.db);
    await insertJob(database.db, accountId);
    const [here, there] = [await startFeedInstance(database), await startFeedInstance(database)];
    const reader = await new Reader(accountId).catchUp(here.feed);
    expect(reader.seen).toHaveLength(1);
    for (const _ of [1, 2]) expect(await reader.step(here.feed)).toMatchObject({ items: [], hasMore: false });
    const job = await insertJob(database.db, accountId);
    await reader.catchUp(there.feed);
    expect(reader.seen.slice(1)).toMatchObject([{ jobId: job.id, type: 'job.queued' }]);
  });

  test('begins at a time, or with the first event there is', async () => {
    const { accountId } = await makeAccount(database.db);
    const here = await startFeedInstance(database);
    const start = Date.now() - 3_600_000;
    const jobs = Array.from({ length: 5 }, (_, n) => newJob(accountId, { createdAt: new Date(start + n * 1000) }));
    for (const job of jobs) await insertJobs(database.sql, [job]);
    const from = async (createdAfter: Date | undefined) =>
      (await readAll(here, accountId, { createdAfter })).map(({ jobId }) => jobId);
    const ids = jobs.map(({ id }) => id);
    expect(await from(undefined)).toEqual(ids);
    expect(await from(jobs[2]!.createdAt)).toEqual(ids.slice(3));
    expect(await from(new Date(start + 1999))).toEqual(ids.slice(2));
    expect(await from(new Date())).toEqual([]);
  });

  test('of some types, or of one job, holds these and no others, whatever it looked at', async () => {
    const { accountId } = await makeAccount(database.db);
    const here = await startFeedInstance(database);
    const [one, other] = [await insertJob(database.db, accountId), await insertJob(database.db, accountId)];
    await endRuns(database.sql, [runEnd(await claimRun(database.db, one)), waitingEnd(other, 'canceled')]);
    const seen = async (types: string[] | undefined, jobId?: JobId) =>
      (await readAll(here, accountId, { filter: { types, jobId } })).map((event) => `${event.jobId} ${event.type}`);
    expect(await seen(['job.canceled'])).toEqual([`${other.id} job.canceled`]);
    expect(await seen(undefined, other.id)).toEqual([`${other.id} job.queued`, `${other.id} job.canceled`]);
    expect(await seen(['job.started', 'job.succeeded'], one.id)).toHaveLength(2);
    expect(await seen(['endpoint.*'])).toEqual([]);
    expect(await seen(undefined, newId('job', Date.now()))).toEqual([]);
  });

  test('is refused a cursor of another account, of other filters or of nobody', async () => {
    const [{ accountId }, { accountId: other }] = [await makeAccount(database.db), await makeAccount(database.db)];
    const { feed } = await startFeedInstance(database);
    const { cursor } = await new Reader(accountId).catchUp(feed);
    const types = { ...ALL, filter: { types: ['job.*', 'job.queued'], jobId: undefined }, limit: 1 };
    const ofTypes = accepted(await feed.page(accountId, types)).nextCursor;
    const ask = (owner: AccountId, changes: Partial<FeedQuery>) => feed.page(owner, { ...types, ...changes });
    const sameFilters = { types: ['job.queued', 'job.*', 'job.*'], jobId: undefined };
    expect(await ask(accountId, { cursor: ofTypes, filter: sameFilters })).toMatchObject({ ok: true });
    for (const [owner, changes] of [
      [other, { cursor: ofTypes }],
      [accountId, { cursor }],
      [accountId, { cursor: ofTypes, filter: { types: ['job.*'], jobId: undefined } }],
      [accountId, { cursor: ofTypes, filter: { ...sameFilters, jobId: newId('job', 1) } }],
      [accountId, { cursor: ofTypes, createdAfter: new Date(5) }],
      [accountId, { cursor: '' }],
      [accountId, { cursor: ofTypes.slice(1) }],
      [accountId, { cursor: Buffer.from('["0","","0","0"]').toString('base64url') }],
    ] as const)
      expect(await ask(owner, changes), JSON.stringify(changes)).toMatchObject({
        ok: false,
        code: 'invalid_query',
        faults: [{ path: '/cursor' }],
      });
    expect(await ask(accountId, { lastEventId: cursor })).toMatchObject({ ok: false, code: 'invalid_last_event_id' });
  });
});

/** A transaction that has written an event of the account, and stays open until it is told to commit. */
async function holdOpen(accountId: AccountId) {
  const [written, held] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
  const db = database.open({ max: 1 });
  const job = newJob(accountId);
  const done = db.transaction(async (tx) => {
    await insertJobs(tx, [job]);
    written.resolve();
    await held.promise;
  });
  onTestFinished(() => held.resolve());
  await Promise.race([written.promise, done]);
  const commit = async () => {
    held.resolve();
    await done;
  };
  return { job, commit };
}

describe('who follows', () => {
  async function start(options: Parameters<typeof startFeedInstance>[1] = {}) {
    const here = await startFeedInstance(database, options);
    const { accountId } = await makeAccount(database.db);
    const write = async (by: FeedInstance = here) => {
      const job = await insertJob(database.db, accountId);
      by.changes.publish([accountId]);
      return job.id;
    };
    return { here, accountId, write };
  }
  type Followed = Awaited<ReturnType<typeof followFeed>>;
  const heard = ({ events }: Followed, ids: readonly JobId[]) =>
    eventually(() => expect(events().map(({ jobId }) => jobId)).toEqual(ids));

  test('is told what was on record, then each event as it is written', async () => {
    const { here, accountId, write } = await start();
    const ids = [await write(), await write()];
    await passHorizon(database.db);
    const followed = await followFeed(here, accountId);
    await heard(followed, ids);
    for (let count = 0; count < 3; count++) {
      ids.push(await write());
      await heard(followed, ids);
    }
    followed.stop.abort();
    await followed.done;
    expect(here.watching).toEqual([true, false]);
    expect(here.errors).toEqual([]);
  });

  test('and comes back with the cursor of any event is told the rest, none twice', async () => {
    const { here, accountId, write } = await start();
    const ids = [await write(), await write(), await write()];
    await passHorizon(database.db);
    const first = await followFeed(here, accountId);
    await heard(first, ids);
    const cursors = first.items.map(({ cursor }) => cursor);
    const again = await Promise.all(cursors.map((lastEventId) => followFeed(here, accountId, { lastEventId })));
    ids.push(await write());
    await heard(first, ids);
    // The first cursor came before any event.
    for (const [index, followed] of again.entries()) await heard(followed, ids.slice(index));
  });

  test('is not told again what was on record, when those who were there before have yet to hear of it', async () => {
    const { here, accountId, write } = await start();
    const early = await followFeed(here, accountId);
    const ids = [await write()];
    await heard(early, ids);
    ids.push((await insertJob(database.db, accountId)).id); // nobody tells of it
    await passHorizon(database.db);
    const late = await followFeed(here, accountId);
    await heard(late, ids);
    // The early one hears of it with the next, or with a look of its own: once in any case.
    ids.push(await write());
    await heard(early, ids);
    await heard(late, ids);
  });

  test('is told of what another process writes', async () => {
    const { here, accountId, write } = await start({ times: { settleMs: 20 } });
    const there = await startFeedInstance(database);
    const followed = await followFeed(here, accountId);
    const ids = [await write(there)];
    await heard(followed, ids);
    ids.push(await write(there));
    await heard(followed, ids);
  });

  test('is told what was held back once it is not, without another event', async () => {
    const { here, accountId, write } = await start();
    const followed = await followFeed(here, accountId);
    await eventually(() => expect(followed.items).toHaveLength(1));
    const held = await holdOpen(accountId);
    const later = await write();
    const before = here.db.statements;
    await eventually(() => expect(here.db.statements).toBeGreaterThan(before + 2));
    expect(followed.events()).toEqual([]);
    await held.commit(); // nobody tells of it
    await heard(followed, [held.job.id, later]);
  });

  test('hears a look at all that is followed when a NOTIFY was missed', async () => {
    const { here, accountId, write } = await start({ checkEveryMs: 50 });
    const deaf = await startFeedInstance(database, { listens: false });
    const followed = await followFeed(here, accountId);
    await eventually(() => expect(followed.items).toHaveLength(1));
    await heard(followed, [await write(deaf)]);
  });

  test('hears after a lost connection what was written meanwhile', async () => {
    const { here, accountId, write } = await start();
    const deaf = await startFeedInstance(database, { listens: false });
    const followed = await followFeed(here, accountId);
    await eventually(() => expect(followed.items).toHaveLength(1));
    const before = here.db.statements;
    await eventually(() => expect(here.db.statements).toBeGreaterThan(before)); // the announcement, and its look
    const id = await write(deaf);
    const cut = await database.sql`
      SELECT pg_terminate_backend(pid) FROM pg_stat_activity
      WHERE datname = current_database() AND application_name = 'ringback-listen'`;
    expect(cut.length).toBeGreaterThan(0);
    await heard(followed, [id]);
  });

  test('costs nothing while nothing happens, and one reading when something does, however many follow', async () => {
    const { here, accountId, write } = await start();
    const all = await Promise.all(Array.from({ length: 50 }, () => followFeed(here, accountId)));
    const ids = [await write()];
    await Promise.all(all.map((followed) => heard(followed, ids)));
    await passHorizon(database.db);
    const idle = here.db.statements;
    await heard(await followFeed(await startFeedInstance(database, { listens: false }), accountId), ids); // some time passes
    expect(here.db.statements).toBe(idle);
    ids.push(await write());
    await Promise.all(all.map((followed) => heard(followed, ids)));
    // What else is written in this cluster may hold the event back for some readings.
    expect(here.db.statements - idle).toBeLessThan(25);
  });

  test('with filters is told what passes them, and no other account’s', async () => {
    const { here, accountId, write } = await start();
    const { accountId: other } = await makeAccount(database.db);
    const wanted = newJob(accountId);
    const [ofJob, ofType, ofOther] = await Promise.all([
      followFeed(here, accountId, { filter: { types: undefined, jobId: wanted.id } }),
      followFeed(here, accountId, { filter: { types: ['job.canceled', 'endpoint.*'], jobId: undefined } }),
      followFeed(here, other),
    ]);
    const all = await followFeed(here, accountId);
    await write();
    await insertJobs(database.sql, [wanted]);
    await endRuns(database.sql, [waitingEnd(wanted, 'canceled')]);
    here.changes.publish([accountId, other]);
    await eventually(() => expect(all.events()).toHaveLength(3));
    await eventually(() => expect(ofJob.events().map(({ type }) => type)).toEqual(['job.queued', 'job.canceled']));
    await eventually(() => expect(ofType.events().map(({ type }) => type)).toEqual(['job.canceled']));
    expect(ofOther.events()).toEqual([]);
  });

  test('reads slowly and holds up nobody; what was passed is read from the table', async () => {
    const { here, accountId, write } = await start();
    const stop = new AbortController();
    onTestFinished(() => stop.abort());
    const slow = accepted(await here.feed.follow(accountId, ALL, stop.signal));
    expect((await slow.next()).value).toMatchObject({ kind: 'place' });
    const fast = await followFeed(here, accountId);
    const ids: JobId[] = [];
    // Several times what a tail keeps.
    for (let count = 0; count < 350; count++) {
      ids.push(await write());
      if (count % 100 === 0) await heard(fast, ids);
    }
    await heard(fast, ids);
    const told: Array<JobId | null> = [];
    while (told.length < ids.length) {
      const { value } = await slow.next();
      if (value?.kind === 'event') told.push(value.event.jobId);
    }
    expect(told).toEqual(ids);
    const next = slow.next();
    ids.push(await write());
    expect((await next).value).toMatchObject({ kind: 'event', event: { jobId: ids.at(-1) } });
  });

  test('hears now and then where it is when nothing passes its filter, and goes on from there', async () => {
    const { here, accountId, write } = await start({ heartbeatMs: 20 });
    const followed = await followFeed(here, accountId, { filter: { types: ['endpoint.*'], jobId: undefined } });
    await write();
    const places = () => followed.items.map(({ cursor }) => cursor);
    await eventually(() => expect(new Set(places()).size).toBeGreaterThan(1));
    expect(followed.events()).toEqual([]);
  });

  test('is let go when the process shuts down, and by a process that has', async () => {
    const { here, accountId } = await start();
    const followed = await followFeed(here, accountId);
    await eventually(() => expect(followed.items).toHaveLength(1));
    await here.watch.close();
    await followed.done;
    await (
      await followFeed(here, accountId)
    ).done;
    expect(here.watching.at(-1)).toBe(false);
    expect(here.errors).toEqual([]);
  });

  test('is let go when the database is away, which is told', async () => {
    const { here, accountId } = await start();
    for (let count = 0; count < 101; count++) await insertJob(database.db, accountId);
    await passHorizon(database.db);
    const following = accepted(await here.feed.follow(accountId, ALL, new AbortController().signal));
    await here.db.close();
    let events = 0;
    for await (const { kind } of following) if (kind === 'event') events++;
    expect(events).toBe(100);
    expect(here.errors).toHaveLength(1);
  });
});
