import { describe, expect, test } from 'vitest';
import { newId } from '#domain/ids.ts';
import { createGuard } from '#egress/guard.ts';
import { settleDeliveries } from '#store/deliveries.ts';
import { DeliveryQueries } from '../../../src/callbacks/delivery-queries.ts';
import { Endpoints } from '../../../src/callbacks/endpoints.ts';
import { Registration } from '../../../src/callbacks/registration.ts';
import { useDatabase } from '../../support/database.ts';
import {
  accepted,
  makeAccount,
  claimDelivery,
  makeDelivery,
  makeEndpoint,
  SECRET_KEYS,
  settlement,
} from '../../support/fixtures.ts';
import { REAL_CLOCK, ALLOW_LOOPBACK } from '../../support/workers.ts';

const database = useDatabase();

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

describe('registering an endpoint', () => {
  test.each([
    ['an address that callbacks may not reach', 'https://10.0.0.1/', 'address_forbidden'],
    ['a scheme that is not HTTP', 'ftp://127.0.0.1/', 'scheme_forbidden'],
    ['no URL at all', 'nonsense', 'malformed'],
  ])('is refused for %s, and stores nothing', async (_, url, reason) => {
    const { accountId } = await makeAccount(database.db);
    expect(await registration().register(accountId, url)).toMatchObject({
      ok: false,
      code: 'invalid_callback_url',
      faults: [{ path: '/url' }],
      extra: { reason },
    });
    expect(await endpoints().list(accountId, { limit: 10 })).toEqual([]);
  });

  test('by many at once makes one, and shows its secret to one of them', async () => {
    const { accountId } = await makeAccount(database.db);
    const answers = await Promise.all(
      Array.from({ length: 10 }, () => registration().register(accountId, 'http://127.0.0.1:81/#x')),
    );
    const values = answers.map(accepted);
    expect(values.flatMap(({ signingSecret }) => signingSecret ?? [])).toHaveLength(1);
    expect(new Set(values.map(({ endpoint }) => endpoint.id)).size).toBe(1);
    expect(await endpoints().list(accountId, { limit: 10 })).toMatchObject([{ url: 'http://127.0.0.1:81/' }]);
  });
});

describe('asking for deliveries', () => {
  test('answers one’s own, with their attempts', async () => {
    const { accountId } = await makeAccount(database.db);
    const due = await makeDelivery(database.db, accountId, await makeEndpoint(database.db, accountId));
    await settleDeliveries(database.sql, [settlement(await claimDelivery(database.db, due))]);
    const queries = new DeliveryQueries(database.db);
    expect(await queries.find(accountId, due.id)).toMatchObject({ ok: true, value: { status: 'delivered' } });
    expect(await queries.listOfJob(accountId, due.jobId)).toMatchObject([{ id: due.id }]);
    expect(await queries.listAttempts(accountId, due.id)).toMatchObject({ ok: true, value: [{ number: 1 }] });
  });

  test('refuses what is not there, and what is another account’s, in the same words', async () => {
    const [one, other] = [await makeAccount(database.db), await makeAccount(database.db)];
    const due = await makeDelivery(database.db, other.accountId, await makeEndpoint(database.db, other.accountId));
    const queries = new DeliveryQueries(database.db);
    for (const id of [due.id, newId('dlv', 1)]) {
      const refusal = { ok: false, code: 'delivery_not_found', detail: `There is no delivery ${id}.` };
      expect(await queries.find(one.accountId, id)).toEqual(refusal);
      expect(await queries.listAttempts(one.accountId, id)).toEqual(refusal);
    }
    expect(await queries.listOfJob(one.accountId, due.jobId)).toEqual([]);
  });
});
