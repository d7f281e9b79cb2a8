import { describe, expect, test } from 'vitest';
import { mintSecret, openSecret } from '#domain/endpoint.ts';
import { type AccountId, type EndpointId, newId, timeOf } from '#domain/ids.ts';
import { formatSigningSecret } from '#domain/signature.ts';
import {
  type DueDelivery,
  readDestinations,
  readDueDeliveries,
  recordInterrupted,
  settleDeliveries,
} from '#store/deliveries.ts';
import { rotateSecret } from '#store/endpoints.ts';
import { useDatabase } from '../../support/database.ts';
import {
  inTransaction,
  makeAccount,
  makeDelivery,
  makeEndpoint,
  readDelivery,
  SECRET_KEYS,
  settlement,
  WORKER,
} from '../../support/fixtures.ts';

const database = useDatabase();

async function dueDelivery(): Promise<DueDelivery> {
  const { accountId } = await makeAccount(database.db);
  return makeDelivery(database.db, accountId, await makeEndpoint(database.db, accountId));
}

const keyOf = ({ id, ...delivery }: DueDelivery) => ({
  ...delivery,
  deliveryId: id,
  eventCreatedAt: new Date(timeOf(delivery.eventId)),
});

describe('reading what is due', () => {
  test('answers the delivery with the bytes of its event', async () => {
    const due = await dueDelivery();
    expect(due).toEqual({
      accountId: due.accountId,
      id: expect.stringMatching(/^dlv_/),
      eventId: expect.stringMatching(/^evt_/),
      eventType: 'job.succeeded',
      jobId: expect.stringMatching(/^job_/),
      endpointId: expect.stringMatching(/^ep_/),
      attemptCount: 0,
      body: Buffer.from('{"type":"job.succeeded"}'),
    });
  });

  test.each(['delivered', 'exhausted'] as const)('leaves out what was %s', async (status) => {
    const due = await dueDelivery();
    const verdict = { status, nextAttemptAt: null } as const;
    await inTransaction(database.db, (tx) => settleDeliveries(tx, [settlement(due, { verdict })]));
    expect(await readDelivery(database.db, due)).toBeUndefined();
  });

  test('leaves out another account’s, and what is not there', async () => {
    const due = await dueDelivery();
    const { accountId } = await makeAccount(database.db);
    expect(await readDelivery(database.db, { ...due, accountId })).toBeUndefined();
    expect(await readDelivery(database.db, { ...due, id: newId('dlv', Date.now()) })).toBeUndefined();
  });

  test('answers for many at once, of many accounts', async () => {
    const due = await Promise.all(Array.from({ length: 12 }, dueDelivery));
    const found = await inTransaction(database.db, (tx) => readDueDeliveries(tx, due.map(keyOf)));
    expect(found.map(({ id }) => id).toSorted()).toEqual(due.map(({ id }) => id).toSorted());
  });
});

describe('reading destinations', () => {
  const read = (keys: Array<{ accountId: AccountId; endpointId: EndpointId }>, now: Date) =>
    inTransaction(database.db, (tx) => readDestinations(tx, keys, now));

  test('answers the URL and the secrets that sign now, the newest first', async () => {
    const { accountId } = await makeAccount(database.db);
    const endpoint = await makeEndpoint(database.db, accountId);
    const now = new Date(Date.now() + 1000);
    const next = mintSecret(SECRET_KEYS, accountId, endpoint.id, now);
    const graceEndsAt = new Date(now.getTime() + 60_000);
    const rotation = { accountId, endpointId: endpoint.id, secret: next.sealed, graceEndsAt, now };
    await rotateSecret(database.db, rotation);

    const secretsAt = async (at: Date) => {
      const [destination] = await read([{ accountId, endpointId: endpoint.id }], at);
      expect(destination).toMatchObject({ accountId, endpointId: endpoint.id, url: endpoint.url });
      return destination!.secrets.map(({ ciphertext, ...secret }) => {
        const key = openSecret(SECRET_KEYS, destination!, {
          ...secret,
          ciphertext: Buffer.from(ciphertext, 'base64'),
        });
        return formatSigningSecret('export' in key ? key.export() : key);
      });
    };
    expect(await secretsAt(new Date(graceEndsAt.getTime() - 1))).toEqual([next.text, endpoint.secret]);
    expect(await secretsAt(graceEndsAt)).toEqual([next.text]);
  });

  test('answers no secrets when all have expired, and nothing for a stranger', async () => {
    const { accountId } = await makeAccount(database.db);
    const { id, url } = await makeEndpoint(database.db, accountId);
    await database.sql`UPDATE ringback.endpoint_secrets SET expires_at = now() WHERE endpoint_id = ${id}`;
    const later = new Date(Date.now() + 60_000);
    expect(await read([{ accountId, endpointId: id }], later)).toEqual([
      { accountId, endpointId: id, url, secrets: [] },
    ]);
    const stranger = await makeAccount(database.db);
    expect(await read([{ accountId: stranger.accountId, endpointId: id }], later)).toEqual([]);
  });
});

describe('an attempt whose courier died', () => {
  const record = (delivery: DueDelivery, now = new Date()) => {
    const { accountId, id: deliveryId } = delivery;
    const lost = [{ accountId, deliveryId, attemptId: newId('att', now.getTime()), workerId: WORKER, now }];
    return inTransaction(database.db, (tx) => recordInterrupted(tx, lost));
  };
  const attemptsOf = (id: string) => database.sql`
    SELECT * FROM ringback.delivery_attempts WHERE delivery_id = ${id} ORDER BY number`;

  test('goes on record as interrupted, and the delivery stays due', async () => {
    const due = await dueDelivery();
    const now = new Date();
    await record(due, now);
    expect(await attemptsOf(due.id)).toMatchObject([
      {
        account_id: due.accountId,
        event_id: due.eventId,
        job_id: due.jobId,
        endpoint_id: due.endpointId,
        number: 1,
        trigger: 'scheduled',
        method: 'POST',
        url: expect.stringContaining('https://example.com/'),
        outcome: 'interrupted',
        error_code: 'courier_lost',
        signed_by: [],
        response_status: null,
        started_at: now,
        finished_at: null,
        worker_id: WORKER,
      },
    ]);
    expect(await readDelivery(database.db, due)).toEqual({ ...due, attemptCount: 1 });
  });

  test('takes its number: the dead courier’s own settlement is refused, the next one’s is not', async () => {
    const due = await dueDelivery();
    await record(due);
    const late = await inTransaction(database.db, (tx) => settleDeliveries(tx, [settlement(due)]));
    expect(late).toEqual(new Set());
    const again = (await readDelivery(database.db, due))!;
    const settled = await inTransaction(database.db, (tx) => settleDeliveries(tx, [settlement(again)]));
    expect(settled).toEqual(new Set([due.id]));
    expect((await attemptsOf(due.id)).map(({ number, outcome }) => [number, outcome])).toEqual([
      [1, 'interrupted'],
      [2, 'delivered'],
    ]);
  });

  test('leaves no record once the delivery is over', async () => {
    const due = await dueDelivery();
    await inTransaction(database.db, (tx) => settleDeliveries(tx, [settlement(due)]));
    await record(due);
    expect(await attemptsOf(due.id)).toHaveLength(1);
    expect(await database.sql`SELECT attempt_count FROM ringback.deliveries WHERE id = ${due.id}`).toEqual([
      { attempt_count: 1 },
    ]);
  });
});
