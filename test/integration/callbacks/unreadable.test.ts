import { randomBytes } from 'node:crypto';
import { beforeEach, describe, expect, test } from 'vitest';
import { parseSecretKey, type SecretKey } from '#domain/secret-box.ts';
import { findDelivery, listAttempts } from '#store/delivery-reads.ts';
import { useDatabase } from '../../support/database.ts';
import { eventually } from '../../support/eventually.ts';
import { type DueDelivery, makeAccount, makeDelivery, makeEndpoint, SECRET_KEYS } from '../../support/fixtures.ts';
import { startReceiver } from '../../support/receiver.ts';
import { startCourier } from '../../support/workers.ts';

const database = useDatabase();
beforeEach(async () => {
  await database.sql`DELETE FROM ringback.delivery_queue`;
});

const newKey = (): SecretKey => parseSecretKey(randomBytes(32).toString('base64'))!;

/** Deliveries to an endpoint whose secret is sealed with a key that couriers do not have unless they are given it. */
async function setUp(count: number) {
  const key = newKey();
  const receiver = await startReceiver();
  const { accountId } = await makeAccount(database.db);
  const endpoint = await makeEndpoint(database.db, accountId, receiver.url, [key]);
  const due: DueDelivery[] = [];
  while (due.length < count) due.push(await makeDelivery(database.db, accountId, endpoint));
  return { key, receiver, accountId, endpoint, due };
}

const queueOf = (endpointId: string) => database.sql`
  SELECT item.state, item.attempt_id, lane.blocked_until > now() AS waits FROM ringback.delivery_queue AS item
  JOIN ringback.endpoint_lanes AS lane USING (account_id, endpoint_id)
  WHERE item.endpoint_id = ${endpointId} ORDER BY position`;
/** As if the endpoint had been left alone for long enough. */
const endPause = (endpointId: string) => database.sql`
  UPDATE ringback.endpoint_lanes SET blocked_until = now() WHERE endpoint_id = ${endpointId}`;
const WAITING = { state: 'ready', attempt_id: null, waits: true };

describe('deliveries to an endpoint whose secret cannot be decrypted', () => {
  test('wait as they are: nothing is sent, no attempt is used up, and others go on', async () => {
    const { key, receiver, accountId, endpoint, due } = await setUp(3);
    const { worker, lines } = startCourier({ database }, { schedule: [0] });
    await eventually(async () => expect([...(await queueOf(endpoint.id))]).toEqual([WAITING, WAITING, WAITING]));
    const other = await startReceiver();
    const readable = await makeEndpoint(database.db, accountId, other.url);
    for (let n = 0; n < 30; n++) await makeDelivery(database.db, accountId, readable);
    worker.loop.wake();
    await other.waitFor(30);
    for (const { id } of due) {
      expect(await findDelivery(database.db, accountId, id)).toMatchObject({ status: 'pending', attemptCount: 0 });
      expect(await listAttempts(database.db, accountId, id)).toEqual([]);
    }
    expect(receiver.requests).toEqual([]);
    const said = lines.filter(({ msg }) => String(msg).includes('callbacks wait'));
    expect(said).toMatchObject([{ level: 50, endpoint_id: endpoint.id, missing_key_ids: [key.id] }]);
  });

  test('are sent by whoever has the key, with their whole schedule, in their order', async () => {
    const { key, receiver, accountId, endpoint, due } = await setUp(2);
    startCourier({ database });
    await eventually(async () => expect([...(await queueOf(endpoint.id))]).toEqual([WAITING, WAITING]));
    receiver.script({ status: 500 });
    startCourier({ database }, { keys: [...SECRET_KEYS, key] });
    await eventually(async () => {
      await endPause(endpoint.id);
      const states = await Promise.all(due.map(({ id }) => findDelivery(database.db, accountId, id)));
      expect(states).toMatchObject([{ status: 'delivered' }, { status: 'delivered' }]);
    });
    const attempts = (await Promise.all(due.map(({ id }) => listAttempts(database.db, accountId, id)))).flat();
    expect(attempts.map(({ outcome }) => outcome).toSorted()).toEqual(['delivered', 'delivered', 'rejected']);
  });

  test('wait too when the key of the client certificate cannot be, or the row was tampered with', async () => {
    const { key, endpoint } = await setUp(1);
    await database.sql`
      UPDATE ringback.endpoint_secrets SET ciphertext = ${randomBytes(60)} WHERE endpoint_id = ${endpoint.id}`;
    const { accountId } = await makeAccount(database.db);
    const mutual = await makeEndpoint(database.db, accountId);
    await database.sql`
      UPDATE ringback.endpoints SET tls_certificate = 'PEM', tls_key_id = 'f00', tls_key_ciphertext = '\\x00'
      WHERE id = ${mutual.id}`;
    await makeDelivery(database.db, accountId, mutual);
    const { lines } = startCourier({ database }, { keys: [...SECRET_KEYS, key] });
    for (const { id } of [endpoint, mutual])
      await eventually(async () => expect([...(await queueOf(id))]).toEqual([WAITING]));
    const said = lines.filter(({ msg }) => String(msg).includes('callbacks wait'));
    expect(said.map(({ endpoint_id, missing_key_ids }) => ({ endpoint_id, missing_key_ids }))).toEqual(
      expect.arrayContaining([
        { endpoint_id: endpoint.id, missing_key_ids: undefined },
        { endpoint_id: mutual.id, missing_key_ids: ['f00'] },
      ]),
    );
  });

  test('wait too when no secret of the endpoint signs any more', async () => {
    const { key, accountId, endpoint, due, receiver } = await setUp(1);
    startCourier({ database });
    await eventually(async () => expect([...(await queueOf(endpoint.id))]).toEqual([WAITING]));
    await database.sql`
      UPDATE ringback.endpoint_secrets SET expires_at = now() WHERE endpoint_id = ${endpoint.id}`;
    startCourier({ database }, { keys: [...SECRET_KEYS, key] });
    await endPause(endpoint.id);
    await eventually(async () => expect([...(await queueOf(endpoint.id))]).toEqual([WAITING]));
    expect(receiver.requests, 'without a secret that signs nothing is sent').toEqual([]);
    expect(await listAttempts(database.db, accountId, due[0]!.id)).toEqual([]);
  });
});
