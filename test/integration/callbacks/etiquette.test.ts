import { beforeEach, describe, expect, onTestFinished, test } from 'vitest';
import { GIVE_UP_AFTER_MS } from '#domain/circuit.ts';
import type { Clock } from '#domain/clock.ts';
import { DEFAULT_DELIVERY_SCHEDULE } from '#domain/retry.ts';
import { findDelivery, listAttempts } from '#store/delivery-reads.ts';
import { readEndpoints } from '#store/endpoints.ts';
import { Endpoints } from '../../../src/callbacks/endpoints.ts';
import { Registration } from '../../../src/callbacks/registration.ts';
import { Redelivery } from '../../../src/callbacks/redelivery.ts';
import { createGuard } from '#egress/guard.ts';
import { createSender, type Sender } from '#egress/send.ts';
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
import { type Receiver, startReceiver } from '../../support/receiver.ts';
import { REAL_CLOCK, advancing, ALLOW_LOOPBACK, startCourier } from '../../support/workers.ts';

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

const registration = () =>
  new Registration({
    clock: REAL_CLOCK,
    db: database.db,
    guard: createGuard({ policy: ALLOW_LOOPBACK }),
    keys: SECRET_KEYS,
    verification: { challenge: () => Promise.reject(new Error('the policy asks for none')) },
    announceDeliveries: () => undefined,
  });
const endpoints = () =>
  new Endpoints({
    db: database.db,
    clock: REAL_CLOCK,
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

/** Sends from an address that this machine lacks, to that URL. */
function unableTo(url: string): Sender {
  const options = { policy: ALLOW_LOOPBACK, userAgent: 'Ringback/test', now: REAL_CLOCK.now };
  const [unable, able] = [createSender({ ...options, localAddress: '192.0.2.1' }), createSender(options)];
  const close = async () => void (await Promise.all([unable.close(), able.close()]));
  onTestFinished(close);
  return { send: (request) => (request.url === url ? unable : able).send(request), close };
}

/** A clock that stands still, and no jitter: what is decided by them can be told to the millisecond. */
const NOON = new Date(new Date().setUTCHours(12, 0, 0, 0));
const STANDING: Clock = { now: () => NOON, random: () => 0.5 };
const inSeconds = (seconds: number) => new Date(NOON.getTime() + seconds * 1000);

interface Row {
  readonly status: number;
  readonly retryAfter?: string;
  readonly errorCode: string | null;
  /** Until the next attempt, in seconds; null for none. */
  readonly next: number | null;
  /** Until anything is sent to the endpoint, in seconds; null while its circuit is closed. */
  readonly resumes: number | null;
}

/** For each answer: what is on record, when the next attempt is set, and until when the endpoint is left alone. The schedule says an hour. */
const TABLE: readonly Row[] = [
  { status: 200, errorCode: null, next: null, resumes: null },
  { status: 201, errorCode: null, next: null, resumes: null },
  { status: 204, errorCode: null, next: null, resumes: null },
  { status: 200, retryAfter: '7200', errorCode: null, next: null, resumes: null },
  { status: 301, errorCode: 'redirect_not_followed', next: 3600, resumes: null },
  { status: 302, errorCode: 'redirect_not_followed', next: 3600, resumes: null },
  { status: 307, errorCode: 'redirect_not_followed', next: 3600, resumes: null },
  { status: 308, errorCode: 'redirect_not_followed', next: 3600, resumes: null },
  { status: 301, retryAfter: '7200', errorCode: 'redirect_not_followed', next: 7200, resumes: null },
  { status: 400, errorCode: 'status_400', next: 3600, resumes: null },
  { status: 401, errorCode: 'status_401', next: 3600, resumes: null },
  { status: 404, errorCode: 'status_404', next: 3600, resumes: null },
  { status: 404, retryAfter: '7200', errorCode: 'status_404', next: 7200, resumes: null },
  { status: 408, errorCode: 'status_408', next: 3600, resumes: null },
  { status: 413, errorCode: 'status_413', next: 3600, resumes: null },
  { status: 500, errorCode: 'status_500', next: 3600, resumes: null },
  { status: 501, errorCode: 'status_501', next: 3600, resumes: null },
  // Retry-After: the longer of what the receiver asks for and what the schedule says, a day at most.
  { status: 500, retryAfter: '60', errorCode: 'status_500', next: 3600, resumes: null },
  { status: 500, retryAfter: '0', errorCode: 'status_500', next: 3600, resumes: null },
  { status: 500, retryAfter: '7200', errorCode: 'status_500', next: 7200, resumes: null },
  { status: 500, retryAfter: '2592000', errorCode: 'status_500', next: 86_400, resumes: null },
  { status: 500, retryAfter: '99999999999999999999', errorCode: 'status_500', next: 86_400, resumes: null },
  { status: 500, retryAfter: inSeconds(7200).toUTCString(), errorCode: 'status_500', next: 7200, resumes: null },
  { status: 500, retryAfter: rfc850(inSeconds(7200)), errorCode: 'status_500', next: 7200, resumes: null },
  { status: 500, retryAfter: asctime(inSeconds(7200)), errorCode: 'status_500', next: 7200, resumes: null },
  { status: 500, retryAfter: inSeconds(-60).toUTCString(), errorCode: 'status_500', next: 3600, resumes: null },
  // What means nothing is as if it were not there.
  { status: 500, retryAfter: '-60', errorCode: 'status_500', next: 3600, resumes: null },
  { status: 500, retryAfter: '7200.5', errorCode: 'status_500', next: 3600, resumes: null },
  { status: 500, retryAfter: 'tomorrow', errorCode: 'status_500', next: 3600, resumes: null },
  { status: 500, retryAfter: inSeconds(7200).toISOString(), errorCode: 'status_500', next: 3600, resumes: null },
  // These four ask for less: the endpoint is left alone, all of its deliveries.
  { status: 429, errorCode: 'status_429', next: 3600, resumes: 1 },
  { status: 502, errorCode: 'status_502', next: 3600, resumes: 1 },
  { status: 503, errorCode: 'status_503', next: 3600, resumes: 1 },
  { status: 504, errorCode: 'status_504', next: 3600, resumes: 1 },
  { status: 429, retryAfter: '30', errorCode: 'status_429', next: 3600, resumes: 30 },
  { status: 503, retryAfter: '120', errorCode: 'status_503', next: 3600, resumes: 120 },
  { status: 503, retryAfter: inSeconds(90).toUTCString(), errorCode: 'status_503', next: 3600, resumes: 90 },
  { status: 503, retryAfter: '7200', errorCode: 'status_503', next: 7200, resumes: 300 },
];

function rfc850(at: Date): string {
  const [, day, month, year, time] = /, (\d+) (\w+) \d\d(\d\d) (\S+)/.exec(at.toUTCString())!;
  return `${at.toLocaleString('en', { weekday: 'long', timeZone: 'UTC' })}, ${day}-${month}-${year} ${time} GMT`;
}

function asctime(at: Date): string {
  const [, weekday, day, month, year, time] = /(\w+), (\d+) (\w+) (\d+) (\S+)/.exec(at.toUTCString())!;
  return `${weekday} ${month} ${String(Number(day)).padStart(2)} ${time} ${year}`;
}

test.each(TABLE)(
  'an answer of $status with Retry-After $retryAfter: next in $next s, resumed in $resumes s',
  async (row) => {
    const { receiver, account, endpoint, due } = await setUp();
    const { status, retryAfter, errorCode, next, resumes } = row;
    receiver.answerAll({
      status,
      ...(retryAfter !== undefined && { headers: { 'retry-after': retryAfter, location: '/' } }),
    });
    const [one] = await due(1);
    startCourier(parts(), { schedule: [0, HOUR], clock: STANDING });
    const attempt = await untilAttempt(one!);
    expect(attempt).toMatchObject({
      outcome: next === null ? 'delivered' : 'rejected',
      responseStatus: status,
      errorCode,
    });
    expect(attempt.startedAt).toEqual(NOON);
    const finishedAt = attempt.finishedAt!.getTime();
    // A date is a time; seconds count from the end of the attempt.
    const isDate = retryAfter?.includes(':') === true;
    const tookMs = finishedAt - NOON.getTime();
    const after = (seconds: number | null, usual: number) =>
      seconds === null
        ? null
        : new Date((seconds === usual || !isDate ? finishedAt : finishedAt - tookMs) + seconds * 1000);
    expect(attempt.nextAttemptAt).toEqual(after(next, 3600));
    const { health } = await read(account, endpoint);
    expect(health).toMatchObject({ circuit: resumes === null ? 'closed' : 'open', resumeAt: after(resumes, 1) });
    expect(health.consecutiveFailures).toBe(next === null ? 0 : 1);
  },
);

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
  accepted(await registration().change(account.accountId, endpoint.id, { concurrency: 2 }));
  await due(6);
  startCourier(parts(), { schedule: [0], concurrency: 10, timeoutMs: 400 });
  await receiver.waitFor(6, 10_000);
  const times = receiver.requests.map(({ receivedAt }) => receivedAt.getTime());
  for (let index = 2; index < 6; index++) expect(times[index]! - times[index - 2]!).toBeGreaterThan(300);
});

test('the rate holds across couriers', async () => {
  const { receiver, account, endpoint, due } = await setUp();
  accepted(await registration().change(account.accountId, endpoint.id, { ratePerSecond: 5 }));
  await due(15);
  for (let count = 0; count < 3; count++) startCourier(parts());
  const requests = await receiver.waitFor(15, 15_000);
  const took = requests.at(-1)!.receivedAt.getTime() - requests[0]!.receivedAt.getTime();
  // A second's worth may go at once: the other ten take two seconds.
  expect(took).toBeGreaterThan(1500);
});

test('a rate that was counted while the clock was ahead keeps nothing back for longer than it takes', async () => {
  const { receiver, account, endpoint, due } = await setUp();
  accepted(await registration().change(account.accountId, endpoint.id, { ratePerSecond: 5 }));
  await database.sql`
    UPDATE ringback.endpoint_lanes SET paid_until = now() + interval '1 hour' WHERE endpoint_id = ${endpoint.id}`;
  await due(2);
  startCourier(parts());
  await receiver.waitFor(2, 15_000);
});

describe('an endpoint that keeps its order', () => {
  const order = async (accountId: Account['accountId'], id: MadeEndpoint['id']) =>
    accepted(await registration().change(accountId, id, { ordering: 'endpoint' }));

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
    const [first, second] = await due(2);
    const { worker } = startCourier(parts(), { schedule: [0, HOUR, HOUR, HOUR], sender: unableTo(receiver.url) });
    const attempt = await untilAttempt(first!);
    expect(attempt).toMatchObject({ errorCode: 'source_address_unusable' });
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

describe('an endpoint that fails for five days', () => {
  const DAY = 24 * HOUR;
  const typesOf = ({ requests }: Receiver) => requests.map(({ json }) => (json as { type: string }).type);

  test('is disabled, enabled and recovered: no event is lost, and the order is kept', async () => {
    const { receiver, account, endpoint, due } = await setUp();
    const { accountId } = account;
    accepted(await registration().change(accountId, endpoint.id, { ordering: 'endpoint' }));
    const listener = await startReceiver();
    const operations = await makeEndpoint(database.db, accountId, listener.url);
    accepted(await registration().change(accountId, operations.id, { eventTypes: ['endpoint.*', 'delivery.*'] }));
    receiver.answerAll({ status: 500 });
    const before = await due(3);
    // A week ago; when an attempt has failed, the next one's time has come, by the schedule that every endpoint has.
    let time = Date.now() - 7 * DAY;
    const dueAt = (at: number) => (time = Math.max(time, at));
    const clock = { now: () => new Date(time), random: () => 0.5 };
    const { worker } = startCourier(parts(), { schedule: DEFAULT_DELIVERY_SCHEDULE, clock, dueAt, pollMs: HOUR });
    await eventually(async () => {
      const [health] = await database.sql<[{ resumeAt: Date | null }]>`
        SELECT resume_at AS "resumeAt" FROM ringback.endpoint_health WHERE endpoint_id = ${endpoint.id}`;
      // An open circuit may pause for longer than the schedule does.
      dueAt(health.resumeAt?.getTime() ?? 0);
      worker.loop.wake();
      expect(await read(account, endpoint)).toMatchObject({ status: 'disabled', disabledReason: 'failing' });
    }, 20_000);
    const [first] = before;
    const attempts = await listAttempts(database.db, accountId, first!.id);
    expect(attempts, 'all that the schedule has').toHaveLength(DEFAULT_DELIVERY_SCHEDULE.length);
    for (const [index, { startedAt }] of attempts.entries())
      if (index > 0) {
        const lateMs = startedAt.getTime() - attempts[index - 1]!.nextAttemptAt!.getTime();
        expect(lateMs, `attempt ${index + 1}`).toBeGreaterThanOrEqual(0);
        expect(lateMs, `attempt ${index + 1}: no longer than a circuit's pause`).toBeLessThan(2 * HOUR);
      }
    const [beforeLast, last] = (await listAttempts(database.db, accountId, before[1]!.id)).slice(-2);
    const failedFor = (attempt: typeof last) => attempt!.finishedAt!.getTime() - attempts[0]!.finishedAt!.getTime();
    expect(failedFor(last), 'found by the first attempt after five days').toBeGreaterThanOrEqual(GIVE_UP_AFTER_MS);
    expect(failedFor(beforeLast)).toBeLessThan(GIVE_UP_AFTER_MS);
    expect(await statusesOf([first!]), 'and the next one had its turn').toEqual(['exhausted']);

    const during = await due(3);
    await eventually(async () => {
      worker.loop.wake();
      expect(await statusesOf([...before, ...during])).toEqual(['exhausted', 'held', 'held', 'held', 'held', 'held']);
    });
    await eventually(() => expect(typesOf(listener)).toEqual(['delivery.exhausted', 'endpoint.disabled']));
    expect(listener.requests[1]!.json).toMatchObject({ data: { endpoint: { id: endpoint.id }, reason: 'failing' } });

    receiver.answerAll({ status: 200 });
    const failed = receiver.requests.length;
    expect(accepted(await endpoints().enable(accountId, endpoint.id))).toMatchObject({ status: 'enabled' });
    worker.loop.wake();
    await eventually(() => expect(typesOf(listener)).toContain('endpoint.recovered'));
    expect(receiver.requests, 'held until it is recovered').toHaveLength(failed);
    const announceDeliveries = () => worker.loop.wake();
    const advanceJobs = advancing(database, { announceDeliveries });
    const redelivery = new Redelivery({ db: database.db, clock: REAL_CLOCK, announceDeliveries, advanceJobs });
    const window = { since: new Date(Date.now() - HOUR), until: new Date() };
    const wanted = {
      endpointId: endpoint.id,
      to: null,
      ...window,
      statuses: ['held', 'exhausted'] as const,
      eventTypes: null,
    };
    const run = { signal: new AbortController().signal, progress: () => undefined };
    expect(await redelivery.recover(accountId, wanted, run)).toBe(6);
    const requests = await receiver.waitFor(failed + 6);
    const all = [...before, ...during];
    expect(requests.slice(failed).map(({ headers }) => headers['webhook-id'])).toEqual(
      all.map(({ eventId }) => eventId),
    );
    await eventually(async () => expect(new Set(await statusesOf(all))).toEqual(new Set(['delivered'])));
    expect(typesOf(listener)).toEqual(['delivery.exhausted', 'endpoint.disabled', 'endpoint.recovered']);
  });
});

test.each([
  ['by the receiver', 'status_500'],
  ['by a fault of ours', 'source_address_unusable'],
])('what is exhausted %s is told to those who want to know', async (_how, code) => {
  const { receiver, account, due } = await setUp();
  const listener = await startReceiver();
  const operations = await makeEndpoint(database.db, account.accountId, listener.url);
  accepted(await registration().change(account.accountId, operations.id, { eventTypes: ['delivery.exhausted'] }));
  receiver.answerAll({ status: 500 });
  const [one] = await due(1);
  const isOurs = code === 'source_address_unusable';
  startCourier(parts(), { schedule: [0], ...(isOurs && { sender: unableTo(receiver.url) }) });
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
