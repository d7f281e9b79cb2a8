import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { HEALTHY } from '#domain/circuit.ts';
import { type AccountId, type DeliveryId, type EndpointId, idBound, type JobId, newId } from '#domain/ids.ts';
import { type Database, openDatabase, type Transaction } from '#store/database.ts';
import {
  type DeliveryMatch,
  findDeliveriesOfJob,
  scanDeliveries,
  scanDeliveriesOfEndpoint,
  scanPendingDeliveries,
} from '#store/delivery-lists.ts';
import { closeLane, disableEndpoint, insertEndpointEvents } from '#store/endpoint-events.ts';
import { blockLanes, lockHealth, writeHealth } from '#store/endpoint-health.ts';
import {
  changeEndpoint,
  deleteEndpoint,
  enableEndpoint,
  isEndpoint,
  pauseEndpoint,
  readEndpoints,
  registerEndpoint,
} from '#store/endpoints.ts';
import { findTarget, lockEndpoint, type TargetKey, unverifyEndpoint } from '#store/callback-policy.ts';
import { lockSecrets } from '#store/endpoint-secrets.ts';
import { insertJobs } from '#store/jobs.ts';
import { insertProbe } from '#store/probes.ts';
import { copyDeliveries, discardHeld, findEventTime, readUnsent, requeueDeliveries } from '#store/redeliver.ts';
import { buffersTouchedBy, withoutAutovacuum } from '../../support/buffers.ts';
import { useDatabase } from '../../support/database.ts';
import { insertDeliveries, type MadeDelivery, madeDelivery } from '../../support/deliveries.ts';
import { makeAccount, makeEndpoint, newJob, WORKER } from '../../support/fixtures.ts';

/**
 * What a page of deliveries costs, and what is written about endpoints, must know neither how long the history is nor how rare
 * what is asked for: measured in buffers, as in flat-cost.test.ts, on tables that PostgreSQL knows nothing about and on those
 * that it knows.
 */
const HISTORY = 8000;
const BACKLOG = 1000;
const ENDPOINTS = 300;
const LOOK = 500;
const GROUP = 50;
const MOST_PER_ROW = 60;

const database = useDatabase();
let accountId: AccountId;
let planned: Database;
/** The first has all of the history, the second the backlog, and the last two hear of other endpoints. */
let endpoints: EndpointId[] = [];
let jobId: JobId = newId('job', 0);
let some: readonly DeliveryId[] = [newId('dlv', 0)];
let held: readonly DeliveryId[] = [newId('dlv', 0)];

const endpointAt = (index: number) => endpoints.at(index) ?? newId('ep', 0);
const refs = () => Array.from({ length: GROUP }, (_, n) => ({ accountId, endpointId: endpointAt(n) }));
const one = (index: number) => ({ accountId, id: endpointAt(index) });
const refAt = (index: number) => ({ accountId, endpointId: endpointAt(index) });
let urlOfOne = '';
const countTarget = async (db: Database, key: TargetKey) =>
  Number((await findTarget(db, accountId, key)).endpoint !== undefined);
const now = () => new Date();

const ANY: DeliveryMatch = {
  statuses: null,
  eventTypes: null,
  endpointId: null,
  jobId: null,
  from: idBound('dlv', 0),
  below: idBound('dlv', Infinity),
};
const NOTHING: DeliveryMatch = { ...ANY, eventTypes: ['endpoint.challenge'] };
const page = { limit: GROUP, look: LOOK };
const listed = async (scanned: Promise<{ deliveries: readonly unknown[] }>) => (await scanned).deliveries.length;
const ofEndpoint = (match: DeliveryMatch, index = 0) => ({ ...match, endpointId: endpointAt(index) });
const ofJob = async (db: Database, most: number) =>
  (await findDeliveriesOfJob(db, accountId, { ...ANY, jobId }, { limit: GROUP, most }))?.length ?? -1;

/** Per row that is looked at: its own, and for what passes the endpoint that has its URL. */
const PAGE = 8 * GROUP;
const LOOKED_THROUGH = 3 * LOOK;

type Statement = readonly [string, number, (db: Database, tx: Transaction) => Promise<number>, number];

/** Each statement, the buffers that it may touch, and what it must find or write. */
const READS: readonly Statement[] = [
  ['a full page', PAGE, (db) => listed(scanDeliveries(db, accountId, ANY, page)), GROUP],
  ['a list of nothing', LOOKED_THROUGH, (db) => listed(scanDeliveries(db, accountId, NOTHING, page)), 0],
  ['of an endpoint', PAGE, (db) => listed(scanDeliveriesOfEndpoint(db, accountId, ofEndpoint(ANY), page)), GROUP],
  [
    'nothing of an endpoint',
    LOOKED_THROUGH,
    (db) => listed(scanDeliveriesOfEndpoint(db, accountId, ofEndpoint(NOTHING), page)),
    0,
  ],
  [
    'of an endpoint without any',
    30,
    (db) => listed(scanDeliveriesOfEndpoint(db, accountId, ofEndpoint(ANY, 5), page)),
    0,
  ],
  ['what is pending', 12 * GROUP, (db) => listed(scanPendingDeliveries(db, accountId, ANY, page)), GROUP],
  ['nothing that is pending', 6 * LOOK, (db) => listed(scanPendingDeliveries(db, accountId, NOTHING, page)), 0],
  ['of a job', PAGE, (db) => ofJob(db, LOOK), GROUP],
  ['of a job with too many', 100, (db) => ofJob(db, 10), -1],
  [
    'an endpoint with much history',
    500,
    async (db) => (await readEndpoints(db, accountId, { id: endpointAt(0), limit: 1 })).length,
    1,
  ],
  [
    'an endpoint with a backlog',
    2500,
    async (db) => (await readEndpoints(db, accountId, { id: endpointAt(1), limit: 1 })).length,
    1,
  ],
  [
    'a page of endpoints',
    20 * GROUP,
    async (db) => (await readEndpoints(db, accountId, { after: endpointAt(1), limit: GROUP })).length,
    GROUP,
  ],
];

const HEALTHS = () => refs().map((ref) => ({ ...ref, ...HEALTHY }));
const unsent = () => ({ ...recovery, endpointId: endpointAt(0) });
const recovery = {
  statuses: ['held'],
  eventTypes: null,
  since: new Date(0),
  until: now(),
  after: '',
  limit: LOOK,
} as const;

async function tell(tx: Transaction): Promise<number> {
  const events = refs().map(({ endpointId }) => ({
    accountId,
    endpointId,
    id: newId('evt', Date.now()),
    type: 'endpoint.recovered' as const,
    body: '{}',
    createdAt: now(),
  }));
  return (await insertEndpointEvents(tx, events)) ? 1 : 0;
}

async function copy(tx: Transaction): Promise<number> {
  const copies = some.slice(0, 1).map((of) => ({ of, id: newId('dlv', Date.now()) }));
  const wanted = { copies, to: endpointAt(7), retry: true, now: now() };
  return (await copyDeliveries(tx, accountId, wanted)).made.size;
}

const WRITES: readonly Statement[] = [
  ['lockHealth', GROUP * 20, async (_db, tx) => (await lockHealth(tx, refs())).length, GROUP],
  ['writeHealth', GROUP * MOST_PER_ROW, async (_db, tx) => (await writeHealth(tx, HEALTHS()), 1), 1],
  [
    'blockLanes',
    GROUP * MOST_PER_ROW,
    async (_db, tx) => (
      await blockLanes(
        tx,
        refs().map((ref) => ({ ...ref, until: now() })),
      ),
      1
    ),
    1,
  ],
  ['insertEndpointEvents', 3 * GROUP * MOST_PER_ROW, (_db, tx) => tell(tx), 1],
  ['disableEndpoint', MOST_PER_ROW, async (_db, tx) => Number(await disableEndpoint(tx, refs()[0]!, 'gone', now())), 1],
  [
    'closeLane',
    GROUP * MOST_PER_ROW,
    async (_db, tx) =>
      (await closeLane(tx, { accountId, endpointId: endpointAt(1) }, { limit: GROUP, now: now() })).closed,
    GROUP,
  ],
  [
    'requeueDeliveries',
    GROUP * MOST_PER_ROW,
    async (_db, tx) => (await requeueDeliveries(tx, accountId, { ids: some, retry: true, now: now() })).queued,
    GROUP,
  ],
  ['readUnsent', LOOKED_THROUGH, async (db) => (await readUnsent(db, accountId, unsent())).length, LOOK],
  ['discardHeld', GROUP * MOST_PER_ROW, (_db, tx) => discardHeld(tx, accountId, { ids: held, now: now() }), GROUP],
  ['copyDeliveries', 2 * MOST_PER_ROW, (_db, tx) => copy(tx), 1],
];
async function ping(tx: Transaction) {
  const at = Date.now();
  const event = {
    accountId,
    endpointId: endpointAt(9),
    id: newId('evt', at),
    type: 'endpoint.ping' as const,
    body: '{}',
  };
  const ids = { deliveryId: newId('dlv', at), attemptId: newId('att', at), workerId: WORKER };
  const probe = { ...ids, timeoutMs: 1000, slackMs: 1000, toUnverified: false };
  return insertProbe(tx, { ...event, createdAt: new Date(at) }, probe);
}

/** Found by its id, an endpoint costs nothing more in an account with many. */
const SETTINGS: readonly Statement[] = [
  ['isEndpoint', 20, async (db) => Number(await isEndpoint(db, accountId, endpointAt(9))), 1],
  ['findTarget by its id', 30, (db) => countTarget(db, { id: endpointAt(9) }), 1],
  ['findTarget by its URL', 30, (db) => countTarget(db, { url: urlOfOne }), 1],
  ['lockEndpoint', 30, async (_db, tx) => Number((await lockEndpoint(tx, refAt(9))) !== undefined), 1],
  ['unverifyEndpoint', MOST_PER_ROW, async (_db, tx) => unverifyEndpoint(tx, refAt(9), now()).then(() => 1), 1],
  ['registerEndpoint', MOST_PER_ROW, async (_db, tx) => registerEndpoint(tx, one(9), now()).then(() => 1), 1],
  [
    'changeEndpoint',
    MOST_PER_ROW,
    async (_db, tx) => Number(await changeEndpoint(tx, one(9), { description: 'x' }, now())),
    1,
  ],
  ['pauseEndpoint', MOST_PER_ROW, async (_db, tx) => Number(await pauseEndpoint(tx, one(9), now())), 1],
  ['enableEndpoint', MOST_PER_ROW, async (_db, tx) => Number(await enableEndpoint(tx, one(1), now())), 1],
  ['deleteEndpoint', MOST_PER_ROW, async (_db, tx) => Number(await deleteEndpoint(tx, one(9), now())), 1],
  ['insertProbe', 2 * MOST_PER_ROW, async (_db, tx) => Number((await ping(tx)) !== undefined), 1],
  [
    'lockSecrets',
    20,
    async (_db, tx) => (await lockSecrets(tx, { accountId, endpointId: endpointAt(9) }, now()))?.length ?? 0,
    1,
  ],
];
const STATEMENTS = [...READS, ...WRITES, ...SETTINGS];

const openOne = () => openDatabase({ url: database.url, applicationName: 'ringback-test', max: 1, pooled: false });

/** Undone, so that the next one meets what this one met. */
async function undone(db: Database, work: (db: Database, tx: Transaction) => Promise<number>): Promise<number> {
  const enough = new Error('enough');
  let found = 0;
  const begun = db.transaction(async (tx) => {
    found = await work({ ...db, sql: tx as never }, tx);
    throw enough;
  });
  await begun.catch((error: unknown) => {
    if (error !== enough) throw error;
  });
  return found;
}

async function costsIn(db: Database): Promise<Array<{ found: number; buffers: number }>> {
  const costs = [];
  for (const [, , work] of STATEMENTS) {
    let found = 0;
    const buffers = await buffersTouchedBy(db, async () => (found = await undone(db, work)));
    costs.push({ found, buffers });
  }
  return costs;
}

function expectBounded(costs: ReadonlyArray<{ found: number; buffers: number }>): void {
  for (const [index, [name, most, , found]] of STATEMENTS.entries()) {
    expect.soft(costs[index]!.found, name).toBe(found);
    expect.soft(costs[index]!.buffers, name).toBeLessThanOrEqual(most);
    expect.soft(costs[index]!.buffers, 'what the counters count').toBeGreaterThan(0);
  }
}

/** History of the account, and as much of another one. */
async function grow(
  owner: AccountId,
  of: { history: EndpointId; backlog: EndpointId; job: JobId },
): Promise<MadeDelivery[]> {
  const start = Date.now() - HISTORY;
  const history = Array.from({ length: HISTORY }, (_, n) =>
    madeDelivery({
      accountId: owner,
      endpointId: of.history,
      createdAt: new Date(start + n),
      jobId: n % 40 === 0 ? of.job : null,
      status: n % 100 === 0 ? 'held' : 'delivered',
    }),
  );
  const backlog = Array.from({ length: BACKLOG }, (_, n) =>
    madeDelivery({
      accountId: owner,
      endpointId: of.backlog,
      createdAt: new Date(start + n * 8),
      status: 'pending',
      attemptCount: 0,
    }),
  );
  const all = [...history, ...backlog];
  for (let from = 0; from < all.length; from += 1000) await insertDeliveries(database.db, all.slice(from, from + 1000));
  await database.sql`
    INSERT INTO ringback.events (account_id, id, type, body, created_at)
    SELECT account_id, event_id, event_type, '{}'::bytea, created_at FROM ringback.deliveries WHERE account_id = ${owner}`;
  return history;
}

beforeAll(async () => {
  await withoutAutovacuum(database.db);
  ({ accountId } = await makeAccount(database.db));
  planned = openOne();
  for (let count = 0; count < 7; count++) await costsIn(planned);
  const made: EndpointId[] = [];
  for (let count = 0; count < ENDPOINTS; count++) {
    const { id, url } = await makeEndpoint(database.db, accountId);
    made.push(id);
    urlOfOne = url;
  }
  endpoints = made.toSorted();
  await database.sql`
    UPDATE ringback.endpoints SET event_types = ARRAY['endpoint.*'] WHERE id = ANY (${endpoints.slice(-2)}::text[])`;
  const { accountId: other } = await makeAccount(database.db);
  const [job, otherJob] = [newJob(accountId), newJob(other)];
  await insertJobs(database.sql, [job, otherJob]);
  jobId = job.id;
  const [theirs, theirBacklog] = [await makeEndpoint(database.db, other), await makeEndpoint(database.db, other)];
  await grow(other, { history: theirs.id, backlog: theirBacklog.id, job: otherJob.id });
  const history = await grow(accountId, { history: endpointAt(0), backlog: endpointAt(1), job: jobId });
  some = history.slice(1, 1 + GROUP).map(({ id }) => id);
  held = history.flatMap(({ id, status }) => (status === 'held' ? [id] : [])).slice(0, GROUP);
  await database.sql`
    UPDATE ringback.endpoints SET status = 'disabled', disabled_reason = 'gone' WHERE id = ${endpointAt(1)}`;
}, 60_000);
afterAll(() => planned.close());

describe('a page, and what is written about an endpoint, costs what it holds', () => {
  test('in a session that planned every statement when the tables were empty', async () => {
    expectBounded(await costsIn(planned));
  });

  test('in a session that begins now, with plans for the first executions and then the lasting one', async () => {
    const fresh = openOne();
    try {
      for (let count = 0; count < 8; count++) expectBounded(await costsIn(fresh));
    } finally {
      await fresh.close();
    }
  });

  test('and when PostgreSQL has statistics', async () => {
    const before = await database.sql`SELECT FROM pg_stats WHERE schemaname = 'ringback' LIMIT 1`;
    expect(before).toHaveLength(0);
    await database.sql`
      ANALYZE ringback.deliveries, ringback.delivery_queue, ringback.endpoints, ringback.endpoint_health,
        ringback.endpoint_lanes, ringback.jobs, ringback.events`;
    const fresh = openOne();
    try {
      for (let count = 0; count < 8; count++) expectBounded(await costsIn(fresh));
    } finally {
      await fresh.close();
    }
  });
});

test('the time of an event is found by its key', async () => {
  const [row] = await database.sql<[{ eventId: never }]>`
    SELECT event_id AS "eventId" FROM ringback.deliveries WHERE id = ${some[0]!}`;
  const fresh = openOne();
  const buffers = await buffersTouchedBy(fresh, async () => {
    expect(await findEventTime(fresh, accountId, row.eventId)).toBeInstanceOf(Date);
  });
  await fresh.close();
  expect(buffers).toBeLessThanOrEqual(MOST_PER_ROW);
});
