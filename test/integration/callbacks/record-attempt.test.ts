import { beforeEach, describe, expect, test } from 'vitest';
import { findDelivery, listAttempts } from '#store/delivery-reads.ts';
import { startTcpProxy } from '../../e2e/support/tcp-proxy.ts';
import { useDatabase } from '../../support/database.ts';
import { eventually } from '../../support/eventually.ts';
import { type DueDelivery, makeAccount, makeDelivery, makeEndpoint } from '../../support/fixtures.ts';
import { lockRow } from '../../support/locks.ts';
import { raiseOn } from '../../support/raising.ts';
import { startReceiver } from '../../support/receiver.ts';
import { startCourier } from '../../support/workers.ts';

/** What a courier makes of an answer whose record the database does not take at once. */

const database = useDatabase();
const sql = () => ({ sql: database.sql });
const parts = () => ({ database });

beforeEach(async () => {
  await database.sql`DELETE FROM ringback.delivery_queue`;
});

const attemptsOf = ({ accountId, id }: DueDelivery) => listAttempts(database.db, accountId, id);
const deliveryOf = ({ accountId, id }: DueDelivery) => findDelivery(database.db, accountId, id);
const untilStatus = (due: DueDelivery, status: string, timeoutMs = 10_000) =>
  eventually(async () => expect(await deliveryOf(due)).toMatchObject({ status }), timeoutMs);

async function oneDue() {
  const receiver = await startReceiver();
  const { accountId } = await makeAccount(database.db);
  const endpoint = await makeEndpoint(database.db, accountId, receiver.url);
  const another = () => makeDelivery(database.db, accountId, endpoint);
  return { receiver, endpoint, due: await another(), another };
}

const PASSING = ['40001', '40P01', '55P03', '57014', '25006', '57P01', '57P03', '53200', '53300', '08006', '58030'];

describe('an error that passes, at the settlement', () => {
  test.each(PASSING)('%s: the answer is recorded, and nothing is sent twice', async (sqlState) => {
    const { receiver, due } = await oneDue();
    const errors = await raiseOn('INSERT', 'delivery_attempts', sqlState, { ...sql(), times: 3 });
    startCourier(parts());
    await untilStatus(due, 'delivered');
    expect(await errors.raised()).toBe(3);
    expect(await attemptsOf(due)).toMatchObject([{ number: 1, outcome: 'delivered', responseStatus: 200 }]);
    expect(receiver.requests).toHaveLength(1);
  });

  test('of many settled together: each is recorded once', async () => {
    const { receiver, due, another } = await oneDue();
    const all = [due, ...(await Promise.all(Array.from({ length: 19 }, another)))];
    await raiseOn('INSERT', 'delivery_attempts', '40P01', { ...sql(), times: 30 });
    startCourier(parts(), { concurrency: 20, endpointConcurrency: 20 });
    for (const one of all) await untilStatus(one, 'delivered');
    for (const one of all) expect(await attemptsOf(one)).toMatchObject([{ outcome: 'delivered' }]);
    expect(receiver.requests).toHaveLength(20);
  });
});

test('whoever holds the row of one delivery for long delays neither the others nor loses its answer', async () => {
  const { receiver, due, another } = await oneDue();
  const isLocked = Promise.withResolvers<void>();
  const others: DueDelivery[] = [];
  receiver.answerAll(async ({ headers }) => {
    if (headers['webhook-id'] === due.eventId) await isLocked.promise;
    return { status: 200 };
  });
  startCourier(parts());
  await receiver.waitFor(1);
  const holder = await lockRow(database, 'deliveries', 'id', due.id);
  isLocked.resolve();
  // Its settlement waits for the lock, until the server ends it: more than once.
  await eventually(async () => {
    const waiting = await database.sql`
      SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`;
    expect(waiting.count).toBeGreaterThan(0);
  });
  others.push(await another(), await another());
  for (const one of others) await untilStatus(one, 'delivered', 20_000);
  await holder.release();
  await untilStatus(due, 'delivered', 20_000);
  expect(await attemptsOf(due)).toMatchObject([{ outcome: 'delivered' }]);
  expect(receiver.requests).toHaveLength(3);
}, 60_000);

describe('an error that does not pass', () => {
  test.each([
    ['what the receiver sent', "NEW.response_headers::text LIKE '%poison%'"],
    ['an answer with that length', 'NEW.response_bytes > 5'],
  ])('about %s: the attempt is on record for what it was', async (_what, when) => {
    const { receiver, due } = await oneDue();
    receiver.answerAll({ status: 200, headers: { 'x-poison': 'poison' }, body: 'longer than five' });
    await raiseOn('INSERT', 'delivery_attempts', '23514', { ...sql(), when });
    const { lines } = startCourier(parts());
    await untilStatus(due, 'delivered');
    const [attempt, ...more] = await attemptsOf(due);
    expect(more).toEqual([]);
    expect(attempt!.errorDetail).toContain('could not be stored (SQLSTATE 23514)');
    expect(lines).toContainEqual(expect.objectContaining({ msg: 'the record of an attempt was refused', level: 50 }));
    expect(receiver.requests).toHaveLength(1);
  });

  test.each([
    [200, 'delivered', 1],
    [500, 'exhausted', 2],
  ])('about a status of %i: our fault is on record, the delivery ends as it would', async (status, end, count) => {
    const { receiver, due } = await oneDue();
    receiver.answerAll({ status });
    await raiseOn('INSERT', 'delivery_attempts', '22003', { ...sql(), when: 'NEW.response_status IS NOT NULL' });
    startCourier(parts());
    await untilStatus(due, end);
    const attempts = await attemptsOf(due);
    expect(attempts).toHaveLength(count);
    for (const attempt of attempts) {
      expect(attempt).toMatchObject({ outcome: 'interrupted', errorCode: 'record_refused' });
      expect(attempt.errorDetail).toContain(`with status ${status}`);
      expect(attempt.errorDetail).toContain('SQLSTATE 22003');
    }
    expect(receiver.requests).toHaveLength(count);
  });
});

test('a connection lost after the commit: the answer is found on record, and not taken for refused', async () => {
  const { receiver, due, another } = await oneDue();
  const proxy = await startTcpProxy(database.url);
  const db = database.open({ url: proxy.url, max: 1 });
  const { worker, lines } = startCourier(parts(), { db, pollMs: 3_600_000 });
  // So that the statements of the next are known on that connection.
  await untilStatus(due, 'delivered');
  const warm = await another();
  worker.loop.wake();
  await untilStatus(warm, 'delivered');
  receiver.answerAll(() => {
    proxy.mute();
    return { status: 200 };
  });
  const last = await another();
  worker.loop.wake();
  await untilStatus(last, 'delivered');
  await proxy.cut();
  await proxy.restore();
  const line = () => lines.find(({ msg, delivery_id: id }) => msg === 'attempt' && id === last.id);
  await eventually(() => expect(line()).toMatchObject({ outcome: 'delivered', delivery: 'delivered' }), 20_000);
  expect(receiver.requests).toHaveLength(3);
}, 40_000);
