import { beforeAll, describe, expect, test } from 'vitest';
import { DELIVERY_STATUSES } from '#domain/delivery.ts';
import { SUBSCRIBABLE_EVENT_TYPES } from '#domain/endpoint-policy.ts';
import { type AccountId, type EndpointId, type JobId, newId } from '#domain/ids.ts';
import { insertJobs } from '#store/jobs.ts';
import { type DeliveryFilter, DeliveryLists } from '../../../src/callbacks/delivery-lists.ts';
import { useDatabase } from '../../support/database.ts';
import { insertDeliveries, type MadeDelivery, madeDelivery } from '../../support/deliveries.ts';
import { accepted, makeAccount, makeEndpoint, newJob } from '../../support/fixtures.ts';

/** More than two requests look at: 2,000 each. */
const HISTORY = 4500;
/** Of one job, and more than are looked at for it. */
const CHATTY = 2500;

const database = useDatabase();
const lists = () => new DeliveryLists(database.db);

const ANY: DeliveryFilter = {
  statuses: undefined,
  eventTypes: undefined,
  endpointId: undefined,
  jobId: undefined,
  createdAfter: undefined,
  createdBefore: undefined,
};

let accountId: AccountId;
let endpoints: EndpointId[];
let jobs: JobId[];
let chatty: JobId;
/** Oldest first. */
let made: MadeDelivery[];
const START = Date.now() - 3_600_000;

beforeAll(async () => {
  ({ accountId } = await makeAccount(database.db));
  endpoints = [(await makeEndpoint(database.db, accountId)).id, (await makeEndpoint(database.db, accountId)).id];
  const inserted = [0, 1, 2].map(() => newJob(accountId, { createdAt: new Date(START) }));
  await insertJobs(database.sql, inserted);
  jobs = inserted.map(({ id }) => id);
  chatty = jobs[2]!;
  made = Array.from({ length: HISTORY }, (_, n) =>
    madeDelivery({
      accountId,
      endpointId: endpoints[n % 3 === 0 ? 0 : 1]!,
      jobId: n < 20 ? jobs[n % 2]! : n >= HISTORY - CHATTY ? chatty : null,
      eventType: SUBSCRIBABLE_EVENT_TYPES[n % SUBSCRIBABLE_EVENT_TYPES.length]!,
      // The first are rare: two of each status, and after them there is nothing but what was delivered.
      status: n < 12 ? DELIVERY_STATUSES[n % DELIVERY_STATUSES.length]! : 'delivered',
      // Several in a millisecond.
      createdAt: new Date(START + Math.floor(n / 4)),
    }),
  ).toSorted((a, b) => (a.id < b.id ? -1 : 1));
  await insertDeliveries(database.db, made);
});

const newestFirst = (fits: (delivery: MadeDelivery) => boolean) =>
  made
    .filter(fits)
    .map(({ id }) => id)
    .toReversed();

/** All pages; `pages` how many it took. */
async function listAll(filter: Partial<DeliveryFilter>, limit = 200) {
  const ids: string[] = [];
  let pages = 0;
  for (let cursor: string | undefined; ;) {
    const page = accepted(await lists().page(accountId, { filter: { ...ANY, ...filter }, limit, cursor }));
    pages += 1;
    expect(page.items.length).toBeLessThanOrEqual(limit);
    expect(page.hasMore).toBe(page.nextCursor !== null);
    ids.push(...page.items.map(({ id }) => id));
    if (page.nextCursor === null) return { ids, pages };
    cursor = page.nextCursor;
  }
}

describe('a list of deliveries has each that fits once, newest first,', () => {
  test.each<[string, () => Partial<DeliveryFilter>, (delivery: MadeDelivery) => boolean]>([
    ['all', () => ({}), () => true],
    ['by a rare status', () => ({ statuses: ['exhausted'] }), ({ status }) => status === 'exhausted'],
    ['by what is pending', () => ({ statuses: ['pending'] }), ({ status }) => status === 'pending'],
    [
      'by several statuses',
      () => ({ statuses: ['pending', 'held', 'held'] }),
      ({ status }) => status === 'pending' || status === 'held',
    ],
    ['by type', () => ({ eventTypes: ['job.failed'] }), ({ eventType }) => eventType === 'job.failed'],
    [
      'by a family of types',
      () => ({ eventTypes: ['endpoint.*'] }),
      ({ eventType }) => eventType.startsWith('endpoint.'),
    ],
    ['by endpoint', () => ({ endpointId: endpoints[0]! }), ({ endpointId }) => endpointId === endpoints[0]],
    [
      'by endpoint and a rare status',
      () => ({ endpointId: endpoints[0]!, statuses: ['exhausted', 'superseded'] }),
      ({ endpointId, status }) => endpointId === endpoints[0] && ['exhausted', 'superseded'].includes(status),
    ],
    [
      'by endpoint and what is pending',
      () => ({ endpointId: endpoints[0]!, statuses: ['pending'] }),
      ({ endpointId, status }) => endpointId === endpoints[0] && status === 'pending',
    ],
    ['by job', () => ({ jobId: jobs[0]! }), ({ jobId }) => jobId === jobs[0]],
    [
      'by job, endpoint and status',
      () => ({ jobId: jobs[0]!, endpointId: endpoints[0]!, statuses: ['delivered', 'pending'] }),
      ({ jobId, endpointId, status }) =>
        jobId === jobs[0] && endpointId === endpoints[0] && (status === 'delivered' || status === 'pending'),
    ],
    ['by a job with very many', () => ({ jobId: chatty }), ({ jobId }) => jobId === chatty],
    [
      'by a job with very many, and endpoint',
      () => ({ jobId: chatty, endpointId: endpoints[0]! }),
      ({ jobId, endpointId }) => jobId === chatty && endpointId === endpoints[0],
    ],
    [
      'by time, neither end included',
      () => ({ createdAfter: new Date(START + 100), createdBefore: new Date(START + 200) }),
      ({ createdAt }) => createdAt.getTime() > START + 100 && createdAt.getTime() < START + 200,
    ],
    ['by a time without any', () => ({ createdAfter: new Date() }), () => false],
    ['by an endpoint that is not there', () => ({ endpointId: newId('ep', 0) }), () => false],
    ['by a job that is not there', () => ({ jobId: newId('job', 0) }), () => false],
  ])('%s', async (_by, filter, fits) => {
    const expected = newestFirst(fits);
    expect((await listAll(filter())).ids).toEqual(expected);
    if (expected.length > 30) return;
    for (const limit of [1, 3]) expect((await listAll(filter(), limit)).ids, `in pages of ${limit}`).toEqual(expected);
  });
});

test('one request looks at so many and no more: a page may be empty though more follow', async () => {
  const query = { filter: { ...ANY, statuses: ['exhausted' as const] }, limit: 200, cursor: undefined };
  const first = accepted(await lists().page(accountId, query));
  expect([first.items, first.hasMore]).toEqual([[], true]);
  expect((await listAll({ statuses: ['exhausted'] })).pages).toBe(3);
  expect((await listAll({ statuses: ['pending'] })).pages, 'what is pending is found in the queue').toBe(1);
  expect((await listAll({ jobId: jobs[1]! })).pages, 'and those of a job by it').toBe(1);
});

test('what is made while somebody goes through the list is above where they are', async () => {
  const { accountId: own } = await makeAccount(database.db);
  const { id: endpointId } = await makeEndpoint(database.db, own);
  const older = [1, 2, 3].map((n) => madeDelivery({ accountId: own, endpointId, createdAt: new Date(START + n) }));
  await insertDeliveries(database.db, older);
  const query = { filter: ANY, limit: 2 };
  const first = accepted(await lists().page(own, { ...query, cursor: undefined }));
  await insertDeliveries(database.db, [madeDelivery({ accountId: own, endpointId })]);
  const second = accepted(await lists().page(own, { ...query, cursor: first.nextCursor! }));
  expect([...first.items, ...second.items].map(({ id }) => id)).toEqual(older.map(({ id }) => id).toReversed());
});

test('another account sees none of it, not even how much there is', async () => {
  const { accountId: other } = await makeAccount(database.db);
  for (const filter of [{}, { endpointId: endpoints[0]! }, { jobId: jobs[0]! }, { jobId: chatty }]) {
    const page = accepted(await lists().page(other, { filter: { ...ANY, ...filter }, limit: 1, cursor: undefined }));
    expect(page, JSON.stringify(filter)).toEqual({ items: [], nextCursor: null, hasMore: false });
  }
});

test('those of a deleted endpoint stay on the list', async () => {
  const { accountId: own } = await makeAccount(database.db);
  const { id: endpointId, url } = await makeEndpoint(database.db, own);
  await insertDeliveries(database.db, [madeDelivery({ accountId: own, endpointId, status: 'discarded' })]);
  await database.sql`UPDATE ringback.endpoints SET deleted_at = now() WHERE id = ${endpointId}`;
  const page = accepted(await lists().page(own, { filter: { ...ANY, endpointId }, limit: 9, cursor: undefined }));
  expect(page.items).toMatchObject([{ endpointId, url, status: 'discarded' }]);
});
