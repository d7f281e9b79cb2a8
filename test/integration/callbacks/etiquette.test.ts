import { beforeEach, describe, expect, test } from 'vitest';
import { GIVE_UP_AFTER_MS } from '#domain/circuit.ts';
import { findDelivery, listAttempts } from '#store/delivery-reads.ts';
import { readEndpoints } from '#store/endpoints.ts';
import { Endpoints } from '../../../src/callbacks/endpoints.ts';
import { Redelivery } from '../../../src/callbacks/redelivery.ts';
import { createGuard } from '#egress/guard.ts';
import { useDatabase } from '../../support/database.ts';
import { eventually } from '../../support/eventually.ts';
import {
  accepted,
  type Account,
  type DueDelivery,
  makeAccount,
  makeDelivery,
  makeEndpoint,
  type MadeEndpoint,
  SECRET_KEYS,
} from '../../support/fixtures.ts';
import { errorsIn } from '../../support/log.ts';
import { startReceiver } from '../../support/receiver.ts';
import { advancing, ALLOW_LOOPBACK, startCourier } from '../../support/workers.ts';

const database = useDatabase();
beforeEach(async () => {
  await database.sql`DELETE FROM ringback.delivery_queue`;
});

const parts = () => ({ database });
const HOUR = 3_600_000;

async function setUp() {
  const receiver = await startReceiver();
  const account = await makeAccount(database.db);
  const endpoint = await makeEndpoint(database.db, account.accountId, receiver.url);
  const due = async (count: number) => {
    const made: DueDelivery[] = [];
    while (made.length < count) made.push(await makeDelivery(database.db, account.accountId, endpoint));
    return made;
  };
  return { receiver, account, endpoint, due };
}

const endpoints = () =>
  new Endpoints({
    db: database.db,
    guard: createGuard({ policy: ALLOW_LOOPBACK }),
    keys: SECRET_KEYS,
    announceDeliveries: () => undefined,
    eventsWritten: () => undefined,
  });
const read = async ({ accountId }: Account, { id }: MadeEndpoint) =>
  (await readEndpoints(database.db, accountId, { id, limit: 1 }))[0]!;
const statusesOf = async (due: readonly DueDelivery[]) =>
  Promise.all(due.map(async ({ accountId, id }) => (await findDelivery(database.db, accountId, id))!.status));
const untilAttempt = ({ accountId, id }: DueDelivery) =>
  eventually(async () => {
    const [attempt] = await listAttempts(database.db, accountId, id);
    expect(attempt).toBeDefined();
    return attempt!;
  });

/** For each answer: what is on record, when the next attempt is due, and what becomes of the endpoint. */
describe.each<[string, { status: number; headers?: Record<string, string> }, object, object]>([
  ['204', { status: 204 }, { outcome: 'delivered', pauseS: null }, { circuit: 'closed', consecutiveFailures: 0 }],
  [
    '301',
    { status: 301, headers: { location: '/' } },
    { errorCode: 'redirect_not_followed', pauseS: HOUR / 1000 },
    { circuit: 'closed' },
  ],
  [
    '400',
    { status: 400 },
    { errorCode: 'status_400', pauseS: HOUR / 1000 },
    { circuit: 'closed', consecutiveFailures: 1 },
  ],
  [
    '500',
    { status: 500 },
    { errorCode: 'status_500', pauseS: HOUR / 1000 },
    { circuit: 'closed', consecutiveFailures: 1 },
  ],
  [
    '500 with Retry-After: 7200',
    { status: 500, headers: { 'retry-after': '7200' } },
    { errorCode: 'status_500', pauseS: 7200 },
    { circuit: 'closed' },
  ],
  [
    '500 with Retry-After: 60, less than the schedule',
    { status: 500, headers: { 'retry-after': '60' } },
    { pauseS: HOUR / 1000 },
    { circuit: 'closed' },
  ],
  [
    '500 with a month',
    { status: 500, headers: { 'retry-after': String(30 * 86_400) } },
    { pauseS: 86_400 },
    { circuit: 'closed' },
  ],
  ['429', { status: 429 }, { errorCode: 'status_429', pauseS: HOUR / 1000 }, { circuit: 'open', allowance: 1 }],
  ['502', { status: 502 }, { errorCode: 'status_502' }, { circuit: 'open' }],
  [
    '503 with Retry-After: 120',
    { status: 503, headers: { 'retry-after': '120' } },
    { errorCode: 'status_503', pauseS: HOUR / 1000 },
    { circuit: 'open' },
  ],
  ['504', { status: 504 }, { errorCode: 'status_504' }, { circuit: 'open' }],
])('an answer of %s', (_what, answer, expected, health) => {
  test('is recorded, and followed as it asks', async () => {
    const { receiver, account, endpoint, due } = await setUp();
    receiver.answerAll(answer);
    const [one] = await due(1);
    startCourier(parts(), { schedule: [0, HOUR] });
    const attempt = await untilAttempt(one!);
    const { pauseS, ...record } = expected as { pauseS?: number | null };
    expect(attempt).toMatchObject({ responseStatus: answer.status, ...record });
    if (pauseS === null) expect(attempt.nextAttemptAt).toBeNull();
    else if (pauseS !== undefined) {
      const pause = (attempt.nextAttemptAt!.getTime() - attempt.finishedAt!.getTime()) / 1000;
      expect(pause).toBeGreaterThanOrEqual(0.8 * pauseS);
      expect(pause).toBeLessThanOrEqual(1.2 * pauseS);
    }
    expect((await read(account, endpoint)).health).toMatchObject(health);
  });
});

test('Retry-After as a date is honoured', async () => {
  const { receiver, due } = await setUp();
  const at = new Date(Math.floor(Date.now() / 1000) * 1000 + 2 * HOUR);
  receiver.answerAll({ status: 500, headers: { 'retry-after': at.toUTCString() } });
  const [one] = await due(1);
  startCourier(parts(), { schedule: [0, HOUR] });
  expect((await untilAttempt(one!)).nextAttemptAt).toEqual(at);
});

test('an endpoint that answers 410 is disabled; what was for it is held, and what comes later too', async () => {
  const { receiver, account, endpoint, due } = await setUp();
  receiver.answerAll({ status: 410 });
  const first = await due(1);
  startCourier(parts(), { schedule: [0, 1, 1] });
  await eventually(async () =>
    expect(await read(account, endpoint)).toMatchObject({ status: 'disabled', disabledReason: 'gone' }),
  );
  const later = await due(2);
  expect(await statusesOf(later)).toEqual(['held', 'held']);
  await eventually(async () => expect(await statusesOf(first)).toEqual(['held']));
  expect(await database.sql`SELECT FROM ringback.delivery_queue`).toEqual([]);
  expect(receiver.requests).toHaveLength(1);
});

test('an open circuit burns no attempts, and closes by itself when the receiver is back', async () => {
  const { receiver, account, endpoint, due } = await setUp();
  receiver.script({ status: 503 });
  const all = await due(20);
  startCourier(parts(), { schedule: [0, 1, 1], concurrency: 1 });
  await eventually(async () => expect((await read(account, endpoint)).health.circuit).toBe('open'));
  expect(receiver.requests).toHaveLength(1);
  await eventually(async () => expect(new Set(await statusesOf(all))).toEqual(new Set(['delivered'])), 10_000);
  expect(receiver.requests).toHaveLength(21);
  expect((await read(account, endpoint)).health).toMatchObject({ circuit: 'closed', consecutiveFailures: 0 });
});

test('the limit of attempts at once holds, whatever the courier could do', async () => {
  const { receiver, account, endpoint, due } = await setUp();
  receiver.answerAll('hang');
  accepted(await endpoints().change(account.accountId, endpoint.id, { concurrency: 2 }));
  await due(6);
  startCourier(parts(), { schedule: [0], concurrency: 10, timeoutMs: 400 });
  await receiver.waitFor(6, 10_000);
  const times = receiver.requests.map(({ receivedAt }) => receivedAt.getTime());
  for (let index = 2; index < 6; index++) expect(times[index]! - times[index - 2]!).toBeGreaterThan(300);
});

test('the rate holds across couriers', async () => {
  const { receiver, account, endpoint, due } = await setUp();
  accepted(await endpoints().change(account.accountId, endpoint.id, { ratePerSecond: 5 }));
  await due(15);
  for (let count = 0; count < 3; count++) startCourier(parts());
  const requests = await receiver.waitFor(15, 15_000);
  const took = requests.at(-1)!.receivedAt.getTime() - requests[0]!.receivedAt.getTime();
  // A second's worth may go at once: the other ten take two seconds.
  expect(took).toBeGreaterThan(1500);
});

describe('an endpoint that keeps its order', () => {
  const order = async (accountId: Account['accountId'], id: MadeEndpoint['id']) =>
    accepted(await endpoints().change(accountId, id, { ordering: 'endpoint' }));

  test('is sent one at a time, by however many couriers, and nothing overtakes what failed', async () => {
    const { receiver, account, endpoint, due } = await setUp();
    await order(account.accountId, endpoint.id);
    receiver.script({ status: 200 }, { status: 500 }, 'reset', { status: 200 });
    const all = await due(6);
    for (let count = 0; count < 3; count++) startCourier(parts(), { schedule: [0, 50, 50, 50] });
    await eventually(async () => expect(new Set(await statusesOf(all))).toEqual(new Set(['delivered'])), 10_000);
    const [a, b, c, d, e, f] = all.map(({ eventId }) => eventId);
    expect(receiver.requests.map(({ headers }) => headers['webhook-id'])).toEqual([a, b, b, b, c, d, e, f]);
  });

  test('is not sent the same again and again when the fault is ours: its time has to come', async () => {
    const { receiver, account, endpoint, due } = await setUp();
    await order(account.accountId, endpoint.id);
    await database.sql`UPDATE ringback.endpoint_secrets SET key_id = 'gone' WHERE endpoint_id = ${endpoint.id}`;
    const [first, second] = await due(2);
    const { worker } = startCourier(parts(), { schedule: [0, HOUR, HOUR, HOUR] });
    const attempt = await untilAttempt(first!);
    expect(attempt).toMatchObject({ errorCode: 'secret_unreadable' });
    await eventually(async () => {
      const [lane] = await database.sql`
        SELECT blocked_until FROM ringback.endpoint_lanes WHERE endpoint_id = ${endpoint.id}`;
      expect(lane!['blocked_until']).toEqual(attempt.nextAttemptAt);
    });
    // Another endpoint's delivery, claimed later, has come and gone.
    const other = await makeEndpoint(database.db, account.accountId, receiver.url.replace('/callback', '/other'));
    const later = await makeDelivery(database.db, account.accountId, other);
    worker.loop.wake();
    await untilAttempt(later);
    expect(await listAttempts(database.db, account.accountId, first!.id)).toHaveLength(1);
    expect(await listAttempts(database.db, account.accountId, second!.id)).toEqual([]);
  });

  test('goes on after what is exhausted', async () => {
    const { receiver, account, endpoint, due } = await setUp();
    await order(account.accountId, endpoint.id);
    receiver.script({ status: 500 }, { status: 500 });
    const all = await due(3);
    startCourier(parts(), { schedule: [0, 50] });
    await eventually(async () => expect(await statusesOf(all)).toEqual(['exhausted', 'delivered', 'delivered']));
  });
});

describe('an endpoint that has failed for five days', () => {
  test('is disabled, enabled and recovered: no event is lost, and the order is kept', async () => {
    const { receiver, account, endpoint, due } = await setUp();
    const { accountId } = account;
    accepted(await endpoints().change(accountId, endpoint.id, { ordering: 'endpoint' }));
    const listener = await startReceiver();
    const operations = await makeEndpoint(database.db, accountId, listener.url);
    accepted(await endpoints().change(accountId, operations.id, { eventTypes: ['endpoint.*', 'delivery.*'] }));
    receiver.answerAll({ status: 500 });
    const before = await due(3);
    // Its clock says that it began long ago.
    const since = new Date(Date.now() - GIVE_UP_AFTER_MS);
    await database.sql`
      UPDATE ringback.endpoint_health SET failing_since = ${since}, consecutive_failures = 7, last_failure_at = ${since}
      WHERE endpoint_id = ${endpoint.id}`;
    startCourier(parts(), { schedule: [0, 50, 50, 50] });
    await eventually(async () =>
      expect(await read(account, endpoint)).toMatchObject({ status: 'disabled', disabledReason: 'failing' }),
    );
    const during = await due(3);
    await eventually(async () => expect(new Set(await statusesOf([...before, ...during]))).toEqual(new Set(['held'])));
    const told = await listener.next();
    expect(told.json).toMatchObject({
      type: 'endpoint.disabled',
      data: { endpoint: { id: endpoint.id }, reason: 'failing' },
    });

    receiver.answerAll({ status: 200 });
    const failed = receiver.requests.length;
    expect(accepted(await endpoints().enable(accountId, endpoint.id))).toMatchObject({ status: 'enabled' });
    expect(receiver.requests, 'held until it is recovered').toHaveLength(failed);
    const redelivery = new Redelivery({
      db: database.db,
      announceDeliveries: () => undefined,
      advanceJobs: advancing(database, { announceDeliveries: () => undefined }),
    });
    const queued = await redelivery.recover(
      accountId,
      {
        endpointId: endpoint.id,
        since: new Date(Date.now() - HOUR),
        until: new Date(),
        statuses: ['held', 'exhausted'],
        eventTypes: null,
      },
      { signal: new AbortController().signal, progress: () => undefined },
    );
    expect(queued).toBe(6);
    const requests = await receiver.waitFor(failed + 6);
    expect(requests.slice(failed).map(({ headers }) => headers['webhook-id'])).toEqual(
      [...before, ...during].map(({ eventId }) => eventId),
    );
    await eventually(() =>
      expect(listener.requests.map(({ json }) => (json as { type: string }).type)).toEqual([
        'endpoint.disabled',
        'endpoint.recovered',
      ]),
    );
  });
});

test.each([
  ['by the receiver', 'status_500'],
  ['by a fault of ours', 'secret_unreadable'],
])('what is exhausted %s is told to those who want to know', async (_how, code) => {
  const { receiver, account, endpoint, due } = await setUp();
  if (code === 'secret_unreadable')
    await database.sql`UPDATE ringback.endpoint_secrets SET key_id = 'gone' WHERE endpoint_id = ${endpoint.id}`;
  const listener = await startReceiver();
  const operations = await makeEndpoint(database.db, account.accountId, listener.url);
  accepted(await endpoints().change(account.accountId, operations.id, { eventTypes: ['delivery.exhausted'] }));
  receiver.answerAll({ status: 500 });
  const [one] = await due(1);
  startCourier(parts(), { schedule: [0] });
  expect((await listener.next()).json).toMatchObject({
    type: 'delivery.exhausted',
    data: { endpoint: { id: one!.endpointId }, delivery: { id: one!.id, attempts: 1, last_error: code } },
  });
});

test('what was claimed is sent, though what is due to a disabled endpoint cannot be held just then', async () => {
  const { receiver, account, due } = await setUp();
  const gone = await makeEndpoint(database.db, account.accountId);
  const stuck = await makeDelivery(database.db, account.accountId, gone);
  await database.sql`
    UPDATE ringback.endpoints SET status = 'disabled', disabled_reason = 'gone' WHERE id = ${gone.id}`;
  await database.sql`
    CREATE FUNCTION ringback.no_room() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'no room'; END $$`;
  await database.sql`
    CREATE TRIGGER no_room BEFORE UPDATE ON ringback.deliveries FOR EACH ROW
    WHEN (new.status = 'held') EXECUTE FUNCTION ringback.no_room()`;
  const healthy = await due(3);
  const { lines } = startCourier(parts());
  await eventually(async () => expect(new Set(await statusesOf(healthy))).toEqual(new Set(['delivered'])));
  expect(receiver.requests).toHaveLength(3);
  await eventually(() => expect(errorsIn(lines).length).toBeGreaterThan(0));
  await database.sql`DROP FUNCTION ringback.no_room CASCADE`;
  await eventually(async () => expect(await statusesOf([stuck])).toEqual(['held']));
});
