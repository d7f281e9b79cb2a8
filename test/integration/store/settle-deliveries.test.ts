import { randomBytes } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import { ATTEMPT_OUTCOMES } from '#domain/attempt.ts';
import { newId } from '#domain/ids.ts';
import { findDelivery, listAttempts, listDeliveriesOfJob } from '#store/delivery-reads.ts';
import type { ClaimedDelivery } from '#store/claim-deliveries.ts';
import { type Settlement, settleDeliveries } from '#store/deliveries.ts';
import { useDatabase } from '../../support/database.ts';
import {
  attemptResult,
  claimDelivery,
  makeAccount,
  makeClaimed,
  makeDelivery,
  makeEndpoint,
  settlement,
  WORKER,
} from '../../support/fixtures.ts';

const database = useDatabase();

const settle = async (...settlements: Settlement[]) =>
  new Set((await settleDeliveries(database.sql, settlements)).keys());
const attempts = ({ accountId, id }: ClaimedDelivery) => listAttempts(database.db, accountId, id);
const rejected = (finishedAt = new Date()) =>
  attemptResult({ outcome: 'rejected', errorCode: 'status_500', errorDetail: 'It answered 500.', finishedAt });

const queued = async ({ id }: Pick<ClaimedDelivery, 'id'>) => {
  const [item] = await database.sql`SELECT * FROM ringback.delivery_queue WHERE delivery_id = ${id}`;
  return item;
};

describe('the fence', () => {
  test('refuses an attempt that is already on record', async () => {
    const due = await makeClaimed(database.db);
    const verdict = { status: 'pending', nextAttemptAt: new Date() } as const;
    expect(await settle(settlement(due, { result: rejected(), verdict }))).toEqual(new Set([due.id]));
    const before = await findDelivery(database.db, due.accountId, due.id);
    expect(await settle(settlement(due))).toEqual(new Set());
    expect(await findDelivery(database.db, due.accountId, due.id)).toEqual(before);
    expect(await attempts(due)).toHaveLength(1);
  });

  test('refuses an attempt that nobody claimed', async () => {
    const due = await makeClaimed(database.db);
    const before = await queued(due);
    expect(await settle(settlement({ ...due, attemptId: newId('att', Date.now()) }))).toEqual(new Set());
    expect(await queued(due)).toEqual(before);
    expect(await attempts(due)).toEqual([]);
  });

  test('refuses any further attempt of a delivery that is over', async () => {
    const due = await makeClaimed(database.db);
    await settle(settlement(due));
    expect(await queued(due)).toBeUndefined();
    expect(await settle(settlement({ ...due, attemptCount: 1 }))).toEqual(new Set());
    expect(await attempts(due)).toHaveLength(1);
  });

  test('lets one of two settle, when both hold the attempt', async () => {
    const due = await makeClaimed(database.db);
    const pending = { status: 'pending', nextAttemptAt: new Date() } as const;
    const answers = await Promise.all([
      settle(settlement(due, { result: rejected(), verdict: pending })),
      settle(settlement(due)),
    ]);
    expect(answers.flatMap((ids) => [...ids])).toEqual([due.id]);
    expect(await attempts(due)).toHaveLength(1);
  });

  test('refuses one of a group and settles its neighbours', async () => {
    const [one, stale, other] = [
      await makeClaimed(database.db),
      await makeClaimed(database.db),
      await makeClaimed(database.db),
    ];
    const group = [settlement(one), settlement({ ...stale, attemptId: one.attemptId }), settlement(other)];
    expect(await settle(...group)).toEqual(new Set([one.id, other.id]));
    expect(await attempts(stale)).toEqual([]);
  });

  test('refuses a delivery of another account', async () => {
    const due = await makeClaimed(database.db);
    const { accountId } = await makeAccount(database.db);
    expect(await settle(settlement({ ...due, accountId }))).toEqual(new Set());
  });
});

test('a group with one row that breaks a constraint fails whole', async () => {
  const [one, other] = [await makeClaimed(database.db), await makeClaimed(database.db)];
  const bad = settlement(other, { result: attemptResult({ errorCode: 'delivered_and_yet' }) });
  await expect(settle(settlement(one), bad)).rejects.toMatchObject({ constraint_name: 'delivery_attempts_error' });
  expect(await attempts(one)).toEqual([]);
  expect(await queued(one)).toMatchObject({ state: 'leased', attempt_id: one.attemptId });
});

test('an attempt is on record with all that was seen of it', async () => {
  const due = await makeClaimed(database.db);
  const startedAt = new Date();
  const finishedAt = new Date(startedAt.getTime() + 250);
  const made = settlement(due, {
    url: 'https://example.com/a?b=c',
    requestHeaders: { 'webhook-id': due.eventId, 'x-b': '2', 'x-a': '1' },
    bodySha256: 'ab'.repeat(32),
    result: attemptResult({
      startedAt,
      finishedAt,
      remoteAddress: '2001:db8::1',
      timings: { dnsMs: 1.5, connectMs: 2.25, tlsMs: 3, firstByteMs: 4, totalMs: 250.125 },
      response: {
        status: 201,
        headers: [
          ['Set-Cookie', 'a=1'],
          ['Set-Cookie', 'b=2'],
        ],
        bodyPrefix: Buffer.from('hello'),
        bodyBytes: 9000,
        truncated: true,
      },
    }),
  });
  expect(await settle(made)).toEqual(new Set([due.id]));
  expect(await attempts(due)).toEqual([
    {
      accountId: due.accountId,
      id: due.attemptId,
      deliveryId: due.id,
      eventId: due.eventId,
      jobId: due.jobId,
      endpointId: due.endpointId,
      number: 1,
      trigger: 'scheduled',
      method: 'POST',
      url: 'https://example.com/a?b=c',
      remoteAddress: '2001:db8::1',
      requestHeaders: { 'webhook-id': due.eventId, 'x-b': '2', 'x-a': '1' },
      bodySha256: Buffer.from('ab'.repeat(32), 'hex'),
      bodyBytes: due.body.length,
      signedBy: made.signedBy,
      outcome: 'delivered',
      errorCode: null,
      errorDetail: null,
      responseStatus: 201,
      responseHeaders: [
        ['Set-Cookie', 'a=1'],
        ['Set-Cookie', 'b=2'],
      ],
      responseBody: Buffer.from('hello'),
      responseBytes: 9000,
      responseTruncated: true,
      dnsMs: 1.5,
      connectMs: 2.25,
      tlsMs: 3,
      firstByteMs: 4,
      totalMs: 250.125,
      startedAt,
      finishedAt,
      nextAttemptAt: null,
      workerId: WORKER,
      traceId: null,
    },
  ]);
  expect(await findDelivery(database.db, due.accountId, due.id)).toMatchObject({
    status: 'delivered',
    attemptCount: 1,
    nextAttemptAt: null,
    updatedAt: finishedAt,
    finishedAt,
  });
});

test('a delivery to be attempted again stays pending until then', async () => {
  const due = await makeClaimed(database.db);
  const nextAttemptAt = new Date(Date.now() + 300_000);
  await settle(settlement(due, { result: rejected(), verdict: { status: 'pending', nextAttemptAt } }));
  expect(await findDelivery(database.db, due.accountId, due.id)).toMatchObject({
    status: 'pending',
    attemptCount: 1,
    nextAttemptAt,
    finishedAt: null,
  });
  expect(await attempts(due)).toMatchObject([{ outcome: 'rejected', errorCode: 'status_500', nextAttemptAt }]);
  expect(await queued(due)).toMatchObject({
    state: 'delayed',
    due_at: nextAttemptAt,
    attempt_id: null,
    worker_id: null,
  });
});

test('a delivery whose next attempt is due by then can be claimed at once', async () => {
  const due = await makeClaimed(database.db);
  const result = rejected();
  // The moment of the settlement, and not one that is read from the clock a moment later.
  await settle(settlement(due, { result, verdict: { status: 'pending', nextAttemptAt: result.finishedAt } }));
  expect(await queued(due)).toMatchObject({ state: 'ready' });
  expect(await claimDelivery(database.db, due)).toMatchObject({ id: due.id, attemptCount: 1 });
});

test('an exhausted delivery is over', async () => {
  const due = await makeClaimed(database.db);
  const result = rejected();
  await settle(settlement(due, { result, verdict: { status: 'exhausted', nextAttemptAt: null } }));
  expect(await findDelivery(database.db, due.accountId, due.id)).toMatchObject({
    status: 'exhausted',
    nextAttemptAt: null,
    finishedAt: result.finishedAt,
  });
});

test.each(ATTEMPT_OUTCOMES.filter((outcome) => outcome !== 'interrupted'))('%s is an outcome', async (outcome) => {
  const due = await makeClaimed(database.db);
  const failure = outcome === 'delivered' ? {} : { errorCode: 'some_code', errorDetail: 'Some detail.' };
  await settle(settlement(due, { result: attemptResult({ outcome, ...failure, response: null }) }));
  expect(await attempts(due)).toMatchObject([{ outcome, responseStatus: null, responseBody: null }]);
});

describe('what PostgreSQL cannot hold as text', () => {
  test('is kept byte by byte in a response body', async () => {
    const due = await makeClaimed(database.db);
    const bodyPrefix = Buffer.concat([Buffer.from([0, 255, 0, 10, 92]), randomBytes(4091)]);
    const response = { status: 200, headers: [], bodyPrefix, bodyBytes: bodyPrefix.length, truncated: false };
    await settle(settlement(due, { result: attemptResult({ response }) }));
    expect((await attempts(due))[0]!.responseBody).toEqual(bodyPrefix);
  });

  test('is cleaned in headers and details', async () => {
    const due = await makeClaimed(database.db);
    const result = attemptResult({
      outcome: 'protocol',
      errorCode: 'invalid_http',
      errorDetail: 'a\0b\ud800',
      response: {
        status: 200,
        headers: [['x-odd', 'c\0d']],
        bodyPrefix: Buffer.alloc(0),
        bodyBytes: 0,
        truncated: false,
      },
    });
    await settle(settlement(due, { result }));
    expect(await attempts(due)).toMatchObject([
      { errorDetail: 'a\uFFFDb\uFFFD', responseHeaders: [['x-odd', 'c\uFFFDd']], responseBody: Buffer.alloc(0) },
    ]);
  });
});

describe('reading deliveries', () => {
  test('finds one with its URL, in one’s own account only', async () => {
    const due = await makeClaimed(database.db);
    const { accountId } = await makeAccount(database.db);
    expect(await findDelivery(database.db, due.accountId, due.id)).toMatchObject({
      id: due.id,
      url: expect.stringContaining('https://example.com/'),
    });
    expect(await findDelivery(database.db, accountId, due.id)).toBeUndefined();
    expect(await listDeliveriesOfJob(database.db, accountId, due.jobId)).toEqual([]);
    expect(await listAttempts(database.db, accountId, due.id)).toEqual([]);
  });

  test('lists those of a job, and the attempts of one in their order', async () => {
    const { accountId } = await makeAccount(database.db);
    const due = await makeDelivery(database.db, accountId, await makeEndpoint(database.db, accountId));
    for (let made = 0; made < 3; made++) {
      const verdict = { status: 'pending', nextAttemptAt: new Date() } as const;
      await settle(settlement(await claimDelivery(database.db, due), { result: rejected(), verdict }));
    }
    const deliveries = await listDeliveriesOfJob(database.db, due.accountId, due.jobId);
    expect(deliveries).toEqual([await findDelivery(database.db, due.accountId, due.id)]);
    expect((await listAttempts(database.db, accountId, due.id)).map(({ number }) => number)).toEqual([1, 2, 3]);
  });
});
