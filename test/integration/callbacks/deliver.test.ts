import { createHash } from 'node:crypto';
import { Webhook } from 'standardwebhooks';
import { beforeEach, describe, expect, test } from 'vitest';
import { findDelivery, listAttempts } from '#store/delivery-reads.ts';
import { Secrets } from '../../../src/callbacks/secrets.ts';
import { useDatabase } from '../../support/database.ts';
import { eventually } from '../../support/eventually.ts';
import {
  accepted,
  type DueDelivery,
  makeAccount,
  makeDelivery,
  makeEndpoint,
  SECRET_KEYS,
} from '../../support/fixtures.ts';
import { errorsIn } from '../../support/log.ts';
import { type ReceivedRequest, startReceiver } from '../../support/receiver.ts';
import { REAL_CLOCK, ALLOW_NOTHING, startCourier } from '../../support/workers.ts';

const database = useDatabase();

beforeEach(async () => {
  await database.sql`DELETE FROM ringback.delivery_queue`;
});

const parts = () => ({ database });

/** A receiver, and a delivery to it. */
async function deliveryToReceiver(path = '/callback') {
  const receiver = await startReceiver();
  const { accountId } = await makeAccount(database.db);
  const endpoint = await makeEndpoint(database.db, accountId, `${receiver.origin}${path}`);
  return { receiver, accountId, endpoint, due: await makeDelivery(database.db, accountId, endpoint) };
}

const read = async ({ accountId, id }: DueDelivery) => (await findDelivery(database.db, accountId, id))!;
const attempts = ({ accountId, id }: DueDelivery) => listAttempts(database.db, accountId, id);
const untilStatus = (due: DueDelivery, status: string) =>
  eventually(async () => {
    const delivery = await read(due);
    expect(delivery.status).toBe(status);
    return delivery;
  });
const untilAttempts = (due: DueDelivery, count: number) =>
  eventually(async () => {
    const made = await attempts(due);
    expect(made).toHaveLength(count);
    return made;
  });
const queued = () => database.sql<{ due_at: Date }[]>`SELECT due_at FROM ringback.delivery_queue`;

/** The independent witness; throws when the signature is not right. */
const verify = (secret: string, { body, headers }: ReceivedRequest) =>
  new Webhook(secret).verify(body.toString(), headers as Record<string, string>);

describe('a delivery', () => {
  test('arrives, signed, and is on record', async () => {
    const { receiver, endpoint, due } = await deliveryToReceiver('/hook?token=x');
    const { worker, lines } = startCourier(parts());
    const request = await receiver.next();
    expect(request).toMatchObject({ method: 'POST', path: '/hook?token=x', body: Buffer.from(due.body) });
    expect(request.headers).toMatchObject({
      'content-type': 'application/json',
      'webhook-id': due.eventId,
      'user-agent': 'Ringback/test',
    });
    expect(verify(endpoint.secret, request)).toEqual(request.json);
    expect(() => verify(`whsec_${Buffer.alloc(32).toString('base64')}`, request)).toThrow();

    const delivery = await untilStatus(due, 'delivered');
    expect(delivery).toMatchObject({ attemptCount: 1, nextAttemptAt: null });
    const [attempt] = await attempts(due);
    expect(attempt).toMatchObject({
      number: 1,
      trigger: 'scheduled',
      outcome: 'delivered',
      url: endpoint.url,
      remoteAddress: '127.0.0.1',
      responseStatus: 200,
      responseBody: Buffer.from('ok'),
      bodyBytes: due.body.length,
      bodySha256: createHash('sha256').update(due.body).digest(),
      nextAttemptAt: null,
    });
    expect(attempt!.requestHeaders).toMatchObject({ 'webhook-signature': request.headers['webhook-signature'] });
    expect(attempt!.signedBy).toHaveLength(1);
    await worker.stop(1000);
    expect(await queued()).toEqual([]);
    expect(errorsIn(lines)).toEqual([]);
  });

  test('is signed with the old and the new secret while a rotation lasts', async () => {
    const { receiver, accountId, endpoint } = await deliveryToReceiver();
    const secrets = new Secrets({ db: database.db, clock: REAL_CLOCK, keys: SECRET_KEYS });
    const rotated = accepted(await secrets.rotate(accountId, endpoint.id));
    startCourier(parts());
    const request = await receiver.next();
    expect(String(request.headers['webhook-signature']).split(' ')).toHaveLength(2);
    expect(verify(endpoint.secret, request)).toEqual(request.json);
    expect(verify(rotated.shown!, request)).toEqual(request.json);
  });
});

describe('an attempt that fails', () => {
  test.each([
    ['a 500', { status: 500, body: 'no' } as const, 'rejected', 'status_500'],
    [
      'a redirect, which is not followed',
      { status: 302, headers: { location: '/' } } as const,
      'rejected',
      'redirect_not_followed',
    ],
    ['a reset', 'reset' as const, 'network', expect.any(String)],
  ])('with %s is made again on schedule, with the same bytes', async (_, answer, outcome, errorCode) => {
    const { receiver, endpoint, due } = await deliveryToReceiver();
    receiver.script(answer);
    startCourier(parts(), { schedule: [0, 300] });
    await untilStatus(due, 'delivered');
    const [first, second] = await untilAttempts(due, 2);
    expect(first).toMatchObject({ number: 1, outcome, errorCode });
    expect(second).toMatchObject({ number: 2, outcome: 'delivered' });
    const pause = first!.nextAttemptAt!.getTime() - first!.finishedAt!.getTime();
    expect(pause).toBeGreaterThanOrEqual(240);
    expect(pause).toBeLessThanOrEqual(360);
    expect(second!.startedAt.getTime()).toBeGreaterThanOrEqual(first!.nextAttemptAt!.getTime());
    const [one, two] = receiver.requests;
    expect(receiver.requests).toHaveLength(2);
    expect(two!.body).toEqual(one!.body);
    expect(two!.headers['webhook-id']).toBe(one!.headers['webhook-id']);
    expect(verify(endpoint.secret, two!)).toEqual(two!.json);
  });

  test('because the receiver does not answer is a timeout', async () => {
    const { receiver, due } = await deliveryToReceiver();
    receiver.script('hang');
    startCourier(parts(), { timeoutMs: 200, schedule: [0, 3_600_000] });
    const [attempt] = await untilAttempts(due, 1);
    expect(attempt).toMatchObject({ outcome: 'timeout', responseStatus: null, remoteAddress: '127.0.0.1' });
    expect(await read(due)).toMatchObject({ status: 'pending', nextAttemptAt: attempt!.nextAttemptAt });
  });

  test('because the address is forbidden is blocked, and reaches nobody', async () => {
    const { receiver, due } = await deliveryToReceiver();
    startCourier(parts(), { policy: ALLOW_NOTHING, schedule: [0] });
    await untilStatus(due, 'exhausted');
    expect(await attempts(due)).toMatchObject([{ outcome: 'blocked', errorCode: 'address_forbidden' }]);
    expect(receiver.requests).toEqual([]);
  });

  test('with a Retry-After waits that long, though the schedule is shorter', async () => {
    const { receiver, due } = await deliveryToReceiver();
    receiver.script({ status: 503, headers: { 'Retry-After': '3600' } });
    startCourier(parts(), { schedule: [0, 1, 1] });
    const [attempt] = await untilAttempts(due, 1);
    const asked = attempt!.finishedAt!.getTime() + 3_600_000;
    expect(attempt!.nextAttemptAt!.getTime()).toBe(asked);
    expect((await read(due)).nextAttemptAt!.getTime()).toBe(asked);
    expect((await queued()).map(({ due_at }) => due_at.getTime())).toEqual([asked]);
  });

  test('with a Retry-After shorter than the schedule keeps to the schedule', async () => {
    const { receiver, due } = await deliveryToReceiver();
    receiver.script({ status: 429, headers: { 'Retry-After': '1' } });
    startCourier(parts(), { schedule: [0, 3_600_000] });
    const [attempt] = await untilAttempts(due, 1);
    const pause = attempt!.nextAttemptAt!.getTime() - attempt!.finishedAt!.getTime();
    expect(pause).toBeGreaterThanOrEqual(0.8 * 3_600_000);
  });

  test('for the last time on the schedule exhausts the delivery', async () => {
    const { receiver, due } = await deliveryToReceiver();
    receiver.answerAll({ status: 500 });
    const { worker } = startCourier(parts(), { schedule: [0, 1, 1] });
    const delivery = await untilStatus(due, 'exhausted');
    expect(delivery).toMatchObject({ attemptCount: 3, nextAttemptAt: null, finishedAt: expect.any(Date) });
    expect((await attempts(due)).map(({ number, outcome }) => [number, outcome])).toEqual([
      [1, 'rejected'],
      [2, 'rejected'],
      [3, 'rejected'],
    ]);
    await worker.stop(1000);
    expect(await queued()).toEqual([]);
    expect(receiver.requests).toHaveLength(3);
  });

  test('keeps what the receiver said, byte by byte', async () => {
    const { receiver, due } = await deliveryToReceiver();
    const body = Buffer.from([0, 1, 255, 0, 92, 34]);
    receiver.script({ status: 500, headers: { 'X-Odd': 'caf\u00e9' }, body });
    startCourier(parts(), { schedule: [0, 3_600_000] });
    const [attempt] = await untilAttempts(due, 1);
    expect(attempt).toMatchObject({ responseStatus: 500, responseBody: body, responseBytes: 6 });
    expect(attempt!.responseHeaders).toContainEqual(['X-Odd', expect.any(String)]);
  });
});
