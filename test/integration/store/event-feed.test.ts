import { describe, expect, onTestFinished, test } from 'vitest';
import type { EventType } from '#domain/event-type.ts';
import { type AccountId, type EventId, newId } from '#domain/ids.ts';
import { type Connection, type Transaction } from '#store/database.ts';
import { type FeedMatch, type FeedRead, findNews, readFeed, readFeedOfJob } from '#store/event-feed.ts';
import { findWalkStart, type WalkPlace } from '#store/job-walk.ts';
import { insertJobs } from '#store/jobs.ts';
import { endRuns } from '#store/end-runs.ts';
import { useDatabase } from '../../support/database.ts';
import { claimRun, insertJob, makeAccount, makeRunning, newJob, runEnd, finalEvent } from '../../support/fixtures.ts';
import { passHorizon } from '../../support/horizon.ts';

const database = useDatabase();

const START: WalkPlace = { xid: '0', eventId: '' };
const ALL: FeedMatch = { types: null, after: new Date(0), anyFrom: '0' };
const WIDE = { limit: 100, look: 100, maxBytes: 1_000_000 };

function read(accountId: AccountId, from: WalkPlace = START, changes: Partial<FeedMatch & typeof WIDE> = {}) {
  const { limit, look, maxBytes, ...match } = { ...WIDE, ...ALL, ...changes };
  return readFeed(database.db, accountId, match, { ...from, limit, look, maxBytes });
}

/** Where a client that was given that page goes on. */
const nextOf = ({ stoppedAt, horizon }: FeedRead): WalkPlace => stoppedAt ?? { xid: horizon, eventId: '' };
const idsOf = ({ events }: FeedRead): EventId[] => events.map(({ id }) => id);

/** An event that is no job's. */
async function insertEvent(
  sql: Connection,
  accountId: AccountId,
  {
    at = new Date(),
    type = 'endpoint.disabled',
    body = null,
  }: { at?: Date; type?: EventType; body?: string | null } = {},
): Promise<EventId> {
  const id = newId('evt', at.getTime());
  await sql`
    INSERT INTO ringback.events (account_id, id, type, body, created_at)
    VALUES (${accountId}, ${id}, ${type}, convert_to(${body}::text, 'UTF8'), ${at})`;
  return id;
}

/** A transaction that has written, and stays open until it is told to commit. */
async function holdOpen(work: (tx: Transaction) => Promise<unknown>) {
  const [written, held] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
  const db = database.open({ max: 1 });
  const done = db.transaction(async (tx) => {
    await work(tx);
    written.resolve();
    await held.promise;
  });
  onTestFinished(() => held.resolve());
  await Promise.race([written.promise, done]);
  return {
    commit: async () => {
      held.resolve();
      await done;
    },
  };
}

async function account(): Promise<AccountId> {
  const { accountId } = await makeAccount(database.db);
  await passHorizon(database.db);
  return accountId;
}

describe('transactions that commit out of order', () => {
  test('the page stops below the one that is open and says so; once it has ended nothing was skipped', async () => {
    const accountId = await account();
    const before = await insertEvent(database.sql, accountId);
    await passHorizon(database.db);
    let held: EventId | undefined;
    const open = await holdOpen(async (tx) => (held = await insertEvent(tx, accountId)));
    const later = [await insertEvent(database.sql, accountId), await insertEvent(database.sql, accountId)];

    const page = await read(accountId);
    expect(idsOf(page)).toEqual([before]);
    expect(page).toMatchObject({ stoppedAt: undefined, isHeldBack: true });
    const again = await read(accountId, nextOf(page));
    expect(again).toMatchObject({ events: [], isHeldBack: true });

    await open.commit();
    await passHorizon(database.db);
    const rest = await read(accountId, nextOf(again));
    // The one that was first to begin, though last to commit, is told first.
    expect(idsOf(rest)).toEqual([held, ...later]);
    expect(rest).toMatchObject({ isHeldBack: false });
    expect(idsOf(await read(accountId))).toEqual([before, held, ...later]);
  });

  test('an order by id or by time of the same events would have skipped one', async () => {
    const accountId = await account();
    const now = Date.now();
    let held: EventId | undefined;
    const open = await holdOpen(async (tx) => (held = await insertEvent(tx, accountId, { at: new Date(now) })));
    const later = await insertEvent(database.sql, accountId, { at: new Date(now + 5) });
    const seenById = await database.sql<{ id: EventId }[]>`
      SELECT id FROM ringback.events WHERE account_id = ${accountId} ORDER BY id`;
    expect(seenById.map(({ id }) => id)).toEqual([later]);
    expect(held! < later).toBe(true);
    await open.commit();
  });

  test('one of another account holds the page back as well, and hides nothing for good', async () => {
    const [accountId, other] = [await account(), await account()];
    const open = await holdOpen((tx) => insertEvent(tx, other));
    const event = await insertEvent(database.sql, accountId);
    const page = await read(accountId);
    expect(page).toMatchObject({ events: [], isHeldBack: true });
    await open.commit();
    await passHorizon(database.db);
    expect(idsOf(await read(accountId, nextOf(page)))).toEqual([event]);
  });

  test('one that holds an event nobody can see yet holds the page back in silence', async () => {
    const accountId = await account();
    const open = await holdOpen((tx) => insertEvent(tx, accountId));
    expect(await read(accountId)).toMatchObject({ events: [], isHeldBack: false });
    await open.commit();
  });

  test('a walk from a time does not begin above the one that is open', async () => {
    const accountId = await account();
    let held: EventId | undefined;
    const open = await holdOpen(async (tx) => (held = await insertEvent(tx, accountId)));
    const { xid } = await findWalkStart(database.db, accountId, new Date());
    await open.commit();
    await passHorizon(database.db);
    expect(idsOf(await read(accountId, { xid, eventId: '' }))).toEqual([held]);
  });

  test('one whose transaction began first but wrote last stands where it wrote', async () => {
    const accountId = await account();
    const ids: EventId[] = [];
    const db = database.open({ max: 1 });
    await db.transaction(async (tx) => {
      await tx`SELECT 1`;
      ids.push(await insertEvent(database.sql, accountId));
      ids.push(await insertEvent(tx, accountId));
    });
    await passHorizon(database.db);
    expect(idsOf(await read(accountId))).toEqual(ids);
  });
});

describe('a page', () => {
  test('goes on behind its last event, in pieces of any size, in one order', async () => {
    const accountId = await account();
    const ids: EventId[] = [];
    for (let count = 0; count < 3; count++) ids.push(await insertEvent(database.sql, accountId));
    // Events of one transaction: in the order of their ids.
    await database.db.transaction(async (tx) => {
      const together = [];
      for (let count = 0; count < 4; count++) together.push(await insertEvent(tx, accountId));
      ids.push(...together.toSorted());
    });
    await passHorizon(database.db);
    for (const limit of [1, 2, 3, 7, 8]) {
      const seen: EventId[] = [];
      let page = await read(accountId, START, { limit });
      for (seen.push(...idsOf(page)); page.stoppedAt !== undefined; seen.push(...idsOf(page)))
        page = await read(accountId, nextOf(page), { limit });
      expect(seen, `by ${limit}`).toEqual(ids);
    }
  });

  test('ends where it has looked at enough, though it has found nothing', async () => {
    const accountId = await account();
    for (let count = 0; count < 5; count++) await insertEvent(database.sql, accountId);
    const wanted = await insertEvent(database.sql, accountId, { type: 'delivery.exhausted' });
    await passHorizon(database.db);
    const rare = { types: ['delivery.exhausted'], look: 2 };
    let page = await read(accountId, START, rare);
    let pages = 1;
    for (; page.stoppedAt !== undefined && page.events.length === 0; pages++)
      page = await read(accountId, page.stoppedAt, rare);
    expect({ pages, ids: idsOf(page) }).toEqual({ pages: 3, ids: [wanted] });
  });

  test('holds so many bytes of bodies, and one event at least', async () => {
    const accountId = await account();
    const ids: EventId[] = [];
    for (const bytes of [10, 10, 5000, 10, null])
      ids.push(await insertEvent(database.sql, accountId, { body: bytes === null ? null : `"${'x'.repeat(bytes)}"` }));
    await passHorizon(database.db);
    const pages: EventId[][] = [];
    for (let place: WalkPlace | undefined = START; place !== undefined;) {
      const page: FeedRead = await read(accountId, place, { maxBytes: 20 });
      pages.push(idsOf(page));
      place = page.stoppedAt;
    }
    expect(pages).toEqual([ids.slice(0, 2), ids.slice(2, 3), ids.slice(3)]);
  });

  test('is of one account, with the bytes that its callbacks carry', async () => {
    const { accountId, job, endpoint } = await makeRunning(database.db);
    await makeRunning(database.db);
    const end = runEnd(job, finalEvent('job.succeeded', endpoint));
    await endRuns(database.sql, [end]);
    await passHorizon(database.db);
    const { events } = await read(accountId);
    expect(events.map(({ type, jobId, sequence }) => [type, jobId, sequence])).toEqual([
      ['job.queued', job.id, 1],
      ['job.started', job.id, 2],
      ['job.succeeded', job.id, 3],
    ]);
    expect(events.map(({ body }) => body && Buffer.from(body).toString())).toEqual([
      null,
      null,
      end.event.body?.join('3'),
    ]);
    expect(events[2]).toMatchObject({ id: end.event.id, createdAt: end.endedAt });
  });

  test('passes over what was made before a time, but nothing written since the walk began', async () => {
    const accountId = await account();
    const at = new Date('2026-01-01T00:00:00Z');
    const [early, exact] = [new Date(at.getTime() - 1), at];
    for (const each of [early, exact]) await insertEvent(database.sql, accountId, { at: each });
    const late = await insertEvent(database.sql, accountId, { at: new Date(at.getTime() + 1) });
    const { xid, nextXid } = await findWalkStart(database.db, accountId, at);
    // By a clock that is years behind.
    const behind = await insertEvent(database.sql, accountId, { at: new Date('2001-01-01T00:00:00Z') });
    await passHorizon(database.db);
    const page = await read(accountId, { xid, eventId: '' }, { after: at, anyFrom: nextXid });
    expect(idsOf(page)).toEqual([late, behind]);
  });
});

describe('the events of one job', () => {
  test('are found without those of others, and begin where the place is', async () => {
    const accountId = await account();
    const [job, other] = [newJob(accountId), newJob(accountId)];
    await insertJobs(database.sql, [job]);
    await insertJobs(database.sql, [other]);
    await endRuns(database.sql, [runEnd(await claimRun(database.db, job))]);
    await passHorizon(database.db);
    const ofJob = (from: WalkPlace, account_ = accountId, changes: Partial<FeedMatch & typeof WIDE> = {}) =>
      readFeedOfJob(database.db, account_, job.id, { ...ALL, ...changes }, { ...from, ...WIDE, ...changes });
    const page = await ofJob(START, accountId, { limit: 2 });
    expect(page.events.map(({ sequence }) => sequence)).toEqual([1, 2]);
    expect((await ofJob(nextOf(page))).events.map(({ type }) => type)).toEqual(['job.succeeded']);
    expect((await ofJob(START, accountId, { types: ['job.started'] })).events).toMatchObject([{ sequence: 2 }]);
    const [, stranger] = [accountId, await account()];
    expect(await ofJob(START, stranger)).toMatchObject({ events: [], stoppedAt: undefined });
  });

  test('are held back by a transaction that is open', async () => {
    const accountId = await account();
    const open = await holdOpen((tx) => insertJobs(tx, [newJob(accountId)]));
    const job = await insertJob(database.db, accountId);
    const page = await readFeedOfJob(database.db, accountId, job.id, ALL, { ...START, ...WIDE });
    expect(page).toMatchObject({ events: [], isHeldBack: true });
    await open.commit();
    await passHorizon(database.db);
    const rest = await readFeedOfJob(database.db, accountId, job.id, ALL, { ...nextOf(page), ...WIDE });
    expect(rest).toMatchObject({ events: [{ jobId: job.id }], isHeldBack: false });
  });
});

describe('types', () => {
  test.each([
    [['job.*'], ['job.queued']],
    [['endpoint.*'], ['endpoint.disabled', 'endpoint.recovered']],
    [['endpoint.recovered'], ['endpoint.recovered']],
    [
      ['delivery.*', 'job.queued'],
      ['job.queued', 'delivery.exhausted'],
    ],
    [['job'], []],
    [['*'], []],
  ])('%j lets pass %j', async (types, expected) => {
    const accountId = await account();
    await insertJob(database.db, accountId);
    for (const type of ['endpoint.disabled', 'endpoint.recovered', 'delivery.exhausted'] as const)
      await insertEvent(database.sql, accountId, { type });
    await passHorizon(database.db);
    expect((await read(accountId, START, { types })).events.map(({ type }) => type)).toEqual(expected);
  });
});

test('accounts with news are those with an event beyond their place, committed by then', async () => {
  const [quiet, busy, held] = [await account(), await account(), await account()];
  for (const accountId of [quiet, busy]) await insertEvent(database.sql, accountId);
  await passHorizon(database.db);
  const [seen, behind] = [await read(quiet), await read(busy)];
  const open = await holdOpen((tx) => insertEvent(tx, held));
  const places = [
    { accountId: quiet, ...nextOf(seen) },
    { accountId: busy, ...nextOf(behind) },
    { accountId: held, ...nextOf(await read(held)) },
  ];
  expect(await findNews(database.db, places)).toEqual([]);
  expect(await findNews(database.db, [{ accountId: busy, ...START }])).toEqual([busy]);
  await insertEvent(database.sql, busy); // above the horizon, which `open` holds back
  expect(await findNews(database.db, places)).toEqual([busy]);
  await open.commit();
  expect((await findNews(database.db, places)).toSorted()).toEqual([busy, held].toSorted());
});
