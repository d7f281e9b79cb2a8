import { beforeEach, describe, expect, test } from 'vitest';
import { mintSecret, openSecret } from '#domain/endpoint.ts';
import { type AccountId, newId } from '#domain/ids.ts';
import { formatSigningSecret } from '#domain/signing-secret.ts';
import {
  type ClaimedDeliveries,
  claimDeliveries,
  type DeliveryClaim,
  FIRST_LANE,
  type SealedDestination,
} from '#store/claim-deliveries.ts';
import { settleDeliveries } from '#store/deliveries.ts';
import { findLapsedAttempts, promoteDueDeliveries, renewAttempts } from '#store/delivery-queue.ts';
import { rotateSecret } from '#store/endpoint-secrets.ts';
import { useDatabase } from '../../support/database.ts';
import {
  claimDelivery,
  makeAccount,
  makeDelivery,
  makeEndpoint,
  SECRET_KEYS,
  settlement,
  WORKER,
} from '../../support/fixtures.ts';

const database = useDatabase();
beforeEach(async () => {
  await database.sql`DELETE FROM ringback.delivery_queue`;
});

const claimOf = (changes: Partial<DeliveryClaim> = {}): DeliveryClaim => ({
  limit: 100,
  workerId: WORKER,
  leaseMs: 15_000,
  afterLane: FIRST_LANE,
  now: new Date(),
  endpointLimit: 1000,
  ...changes,
});
const claim = (changes: Partial<DeliveryClaim> = {}) => claimDeliveries(database.sql, claimOf(changes));

/** An endpoint of an account of its own, or of that one, with so many deliveries due. */
async function lane(count: number, accountId?: AccountId) {
  const account = accountId ?? (await makeAccount(database.db)).accountId;
  const endpoint = await makeEndpoint(database.db, account);
  const due = [];
  for (let made = 0; made < count; made++) due.push(await makeDelivery(database.db, account, endpoint));
  return { accountId: account, endpoint, due };
}

const countOf = ({ deliveries }: ClaimedDeliveries, { endpoint }: { endpoint: { id: string } }) =>
  deliveries.filter(({ endpointId }) => endpointId === endpoint.id).length;

describe('a claim', () => {
  test('answers what is due with the bytes of its event, under a lease', async () => {
    const { due } = await lane(1);
    const now = new Date();
    const { deliveries, more } = await claim({ now });
    expect(deliveries).toMatchObject([{ ...due[0]!, attemptId: expect.stringMatching(/^att_/), attemptCount: 0 }]);
    expect(more).toBe(false);
    expect(await database.sql`SELECT * FROM ringback.delivery_queue`).toMatchObject([
      { state: 'leased', attempt_id: deliveries[0]!.attemptId, worker_id: WORKER, leased_at: now },
    ]);
    expect(await claim()).toMatchObject({ deliveries: [], destinations: [] });
  });

  test('takes the oldest of an endpoint first, and gives each attempt an id of its own', async () => {
    const { due } = await lane(40);
    const { deliveries } = await claim({ limit: 70 });
    const inOrder = due.map(({ id }) => id).toSorted();
    expect(deliveries.map(({ id }) => id).toSorted()).toEqual(inOrder.slice(0, 35));
    expect(new Set(deliveries.map(({ attemptId }) => attemptId)).size).toBe(35);
  });

  test('leaves what another claim is taking to it', async () => {
    await lane(10);
    const taken = await Promise.all(Array.from({ length: 5 }, () => claim({ limit: 4 })));
    const ids = taken.flatMap(({ deliveries }) => deliveries.map(({ id }) => id));
    expect(new Set(ids).size).toBe(ids.length);
    const rest = await claim();
    expect(ids.length + rest.deliveries.length).toBe(10);
  });
});

describe('between endpoints', () => {
  test('what there is to take is shared, whatever the backlogs', async () => {
    const lanes = [await lane(30), await lane(2), await lane(30)];
    const first = await claim({ limit: 12 });
    expect(lanes.map((one) => countOf(first, one))).toEqual([4, 2, 4]);
    expect(first.more, 'places are left').toBe(true);
  });

  test('of one account too', async () => {
    const one = await lane(20);
    const other = await lane(1, one.accountId);
    expect(countOf(await claim({ limit: 4 }), other)).toBe(1);
  });

  test('one with much under way comes after one with little', async () => {
    const [busy, idle] = [await lane(10), await lane(0)];
    await claim({ limit: 9 });
    const due = await makeDelivery(database.db, idle.accountId, idle.endpoint);
    const other = { workerId: newId('wrk', Date.now()) };
    expect((await claim({ limit: 1, ...other })).deliveries.map(({ id }) => id)).toEqual([due.id]);
    expect(countOf(await claim({ limit: 1, ...other }), busy)).toBe(1);
  });

  test('an endpoint’s own limit holds to the letter, however many claim at once', async () => {
    const { endpoint } = await lane(30);
    await database.sql`UPDATE ringback.endpoints SET concurrency = 3 WHERE id = ${endpoint.id}`;
    const { sql } = database.open({ max: 8 });
    for (let round = 0; round < 20; round++) {
      const claims = Array.from({ length: 8 }, () =>
        claimDeliveries(sql, claimOf({ workerId: newId('wrk', Date.now()) })),
      );
      const claimed = (await Promise.all(claims)).flatMap(({ deliveries }) => deliveries);
      expect(claimed).toHaveLength(3);
      await sql`
        UPDATE ringback.delivery_queue SET state = 'ready', attempt_id = NULL, worker_id = NULL, leased_at = NULL,
          lease_expires_at = NULL
        WHERE state = 'leased'`;
    }
  });

  test('one has no more at a courier than are left for others, however many it may have', async () => {
    const greedy = await lane(60);
    await database.sql`UPDATE ringback.endpoints SET concurrency = 10000 WHERE id = ${greedy.endpoint.id}`;
    let free = 40;
    for (let round = 0; round < 5; round++) free -= countOf(await claim({ limit: free }), greedy);
    expect(free).toBe(20);
    const second = await lane(30);
    free -= countOf(await claim({ limit: free }), second);
    expect(free, 'half of what the first has left').toBe(10);
    const third = await lane(1);
    expect(countOf(await claim({ limit: free }), third)).toBe(1);
    expect(countOf(await claim({ limit: 40, workerId: newId('wrk', Date.now()) }), greedy), 'at another courier').toBe(
      20,
    );
  });

  test('claims go round when there are more endpoints than one looks at', async () => {
    const { accountId } = await makeAccount(database.db);
    for (let made = 0; made < 70; made++) await lane(1, accountId);
    const seen = new Set<string>();
    let afterLane: DeliveryClaim['afterLane'] = FIRST_LANE;
    for (let round = 0; round < 10; round++) {
      const { deliveries, nextLane, more } = await claim({ limit: 10, afterLane });
      expect(deliveries).toHaveLength(seen.size < 70 ? 10 : 0);
      expect(more).toBe(seen.size < 70);
      for (const { endpointId } of deliveries) seen.add(endpointId);
      afterLane = nextLane;
    }
    expect(seen.size).toBe(70);
  });
});

describe('the destination', () => {
  const secretsOf = (destination: SealedDestination) =>
    destination.secrets.map(({ ciphertext, ...secret }) => {
      const sealed = { ...secret, ciphertext: Buffer.from(ciphertext, 'base64') };
      const { scheme, key } = openSecret(SECRET_KEYS, destination, sealed);
      return formatSigningSecret({ scheme, key: key.export() });
    });

  test('is told once for all deliveries of an endpoint', async () => {
    const lanes = [await lane(3), await lane(2)];
    const { destinations } = await claim();
    expect(destinations.map(({ endpointId, url }) => [endpointId, url])).toEqual(
      expect.arrayContaining(lanes.map(({ endpoint }) => [endpoint.id, endpoint.url])),
    );
    expect(destinations).toHaveLength(2);
  });

  test('has the secrets that sign now, the newest first', async () => {
    const { accountId, endpoint } = await lane(2);
    const now = new Date(Date.now() + 1000);
    const next = mintSecret(SECRET_KEYS, accountId, endpoint.id, now);
    const graceEndsAt = new Date(now.getTime() + 60_000);
    const rotation = { accountId, endpointId: endpoint.id, secret: next.sealed, graceEndsAt, now };
    await rotateSecret(database.sql, rotation);
    const before = await claim({ limit: 2, now: new Date(graceEndsAt.getTime() - 1) });
    expect(secretsOf(before.destinations[0]!)).toEqual([next.text, endpoint.secret]);
    const after = await claim({ limit: 2, now: graceEndsAt });
    expect(secretsOf(after.destinations[0]!)).toEqual([next.text]);
  });

  test('has none when all have expired', async () => {
    const { endpoint } = await lane(1);
    await database.sql`UPDATE ringback.endpoint_secrets SET expires_at = now() WHERE endpoint_id = ${endpoint.id}`;
    const { destinations } = await claim({ now: new Date(Date.now() + 60_000) });
    expect(destinations).toMatchObject([{ url: endpoint.url, secrets: [] }]);
  });
});

describe('a lease', () => {
  const refOf = ({ accountId, id, attemptId }: ClaimedDeliveries['deliveries'][number]) => ({
    accountId,
    deliveryId: id,
    attemptId,
  });

  test('is renewed for those who hold it, and for nobody else', async () => {
    await lane(2);
    const [one, other] = (await claim({ leaseMs: -1000 })).deliveries;
    const stranger = { ...refOf(other!), attemptId: newId('att', Date.now()) };
    expect(await renewAttempts(database.sql, [refOf(one!), stranger], { leaseMs: 60_000, now: new Date() })).toEqual(
      new Set([one!.attemptId]),
    );
    expect(await findLapsedAttempts(database.db, { limit: 10, before: new Date() })).toMatchObject([
      { attemptId: other!.attemptId },
    ]);
  });

  test('that ran out is found with all that goes on record', async () => {
    const { due, endpoint } = await lane(1);
    const now = new Date();
    await claim({ leaseMs: -1, now });
    expect(await findLapsedAttempts(database.db, { limit: 10, before: new Date() })).toEqual([
      {
        accountId: due[0]!.accountId,
        deliveryId: due[0]!.id,
        attemptId: expect.stringMatching(/^att_/),
        eventId: due[0]!.eventId,
        jobId: due[0]!.jobId,
        endpointId: endpoint.id,
        url: endpoint.url,
        trigger: 'scheduled',
        attemptCount: 0,
        interruptions: 0,
        ordering: 'job',
        scheduleFrom: 0,
        retrySchedule: null,
        workerId: WORKER,
        startedAt: now,
      },
    ]);
  });
});

test('what is due later is ready when it is due, and not before', async () => {
  const { due } = await lane(2);
  const at = (ms: number) => ({ status: 'pending', nextAttemptAt: new Date(Date.now() + ms) }) as const;
  for (const [index, ms] of [100, 60_000].entries()) {
    const claimed = await claimDelivery(database.db, due.toSorted((a, b) => (a.id < b.id ? -1 : 1))[index]!);
    await settleDeliveries(database.sql, [settlement(claimed, { verdict: at(ms) })]);
  }
  await database.sql`UPDATE ringback.delivery_queue SET due_at = now() WHERE due_at < now() + interval '1 s'`;
  expect(await promoteDueDeliveries(database.db, new Date(), 10)).toBe(1);
  expect(await promoteDueDeliveries(database.db, new Date(), 10)).toBe(0);
  expect((await claim()).deliveries).toHaveLength(1);
});
