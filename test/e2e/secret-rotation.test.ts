import type { JsonWebKey } from 'node:crypto';
import { expect, it, onTestFinished } from 'vitest';
import { useDatabase } from '../support/database.ts';
import { eventually } from '../support/eventually.ts';
import { client, submit } from './support/api.ts';
import { serviceEnv, useService } from './support/main-process.ts';
import { knows, knowsKey, startVerifyingReceiver, type Verifier } from './support/verifying-receiver.ts';

const database = useDatabase();
const key = 'rbk_for-rotation';
const service = useService(() =>
  serviceEnv(database.url, { RINGBACK_BOOTSTRAP_KEY: key, RINGBACK_CALLBACK_SCHEDULE: '0s,100ms,200ms' }),
);
const ask = (...args: Parameters<ReturnType<typeof client>>) => client(service.url, key)(...args);

/** Of each step, so that the next begins in the middle of the flow. */
const CALLBACKS = 50;
const CLIENTS = 6;
const MOST_JOBS = 5000;

/** Submits without a pause until it is stopped, which the test does or its end. */
function startFlow(endpointId: string) {
  const over = new AbortController();
  let submitted = 0;
  const flow = Promise.all(
    Array.from({ length: CLIENTS }, async () => {
      while (!over.signal.aborted && submitted < MOST_JOBS) {
        submitted++;
        await submit(ask, { type: 'ringback.echo', input: 1, callback: { endpoint_id: endpointId } });
      }
    }),
  );
  const stop = async () => {
    over.abort();
    await flow;
    return submitted;
  };
  onTestFinished(async () => void (await stop()));
  return stop;
}

async function rotate(id: string, body: object) {
  const rotated = await ask('POST', `/v1/endpoints/${id}/rotate-secret`, body);
  expect(rotated.status, rotated.text).toBe(200);
  return rotated.json;
}

/** What a receiver knows that got the secret, or fetched the key. */
async function verifierOf(
  id: string,
  secret: { id: string; scheme: string; signing_secret: string },
): Promise<Verifier> {
  if (secret.scheme === 'v1') return knows(secret.signing_secret);
  const { json } = await ask('GET', `/.well-known/jwks.json?endpoint_id=${id}`);
  return knowsKey(json.keys.find(({ kid }: JsonWebKey) => kid === secret.id));
}

/** What was under way at the rotation is signed as it was claimed: with the old secret alone. */
async function untilAttemptsFromBefore(at: Date): Promise<void> {
  await eventually(async () => {
    const old = await database.sql`SELECT FROM ringback.delivery_queue WHERE leased_at <= ${at}`;
    expect(old).toHaveLength(0);
  });
}

const deliveriesOf = (id: string) => database.sql<Array<{ status: string; attempts: number; count: number }>>`
  SELECT status, attempt_count AS attempts, count(*)::int FROM ringback.deliveries
  WHERE endpoint_id = ${id} GROUP BY status, attempt_count`;

it.each([
  ['v1', 'v1'],
  ['v1', 'v1a'],
  ['v1a', 'v1a'],
  ['v1a', 'v1'],
] as const)(
  'while callbacks flow and %s is rotated to %s, none fails at a receiver that knows the old, then both, then the new',
  { timeout: 60_000 },
  async (from, to) => {
    const receiver = await startVerifyingReceiver();
    const { json: endpoint } = await ask('POST', '/v1/endpoints', { url: receiver.url, concurrency: 16 });
    const { id } = endpoint;
    const first = await rotate(id, { scheme: from, grace_ms: 0 });
    const oldOne = await verifierOf(id, first);
    receiver.know(oldOne);
    const stop = startFlow(id);
    await receiver.takes(CALLBACKS, 1);

    const second = await rotate(id, { scheme: to, grace_ms: 600_000 });
    const newOne = await verifierOf(id, second);
    await receiver.takes(CALLBACKS, 2);
    receiver.know(oldOne, newOne);
    await receiver.takes(CALLBACKS, 2);
    await untilAttemptsFromBefore(new Date());
    receiver.know(newOne);
    await receiver.takes(CALLBACKS, 2);

    // The end of the grace.
    await database.sql`UPDATE ringback.endpoint_secrets SET expires_at = now() WHERE id = ${first.id}`;
    await receiver.takes(CALLBACKS, 1);

    const submitted = await stop();
    await eventually(async () => {
      expect(await deliveriesOf(id)).toEqual([{ status: 'delivered', attempts: 1, count: submitted }]);
    }, 20_000);
    expect(receiver.refused).toEqual([]);
  },
);

it('a rotation without a grace, while callbacks flow, loses none: what was under way is sent again with the new secret', async () => {
  const receiver = await startVerifyingReceiver();
  const { json: endpoint } = await ask('POST', '/v1/endpoints', { url: receiver.url });
  receiver.know(knows(endpoint.signing_secret));
  const stop = startFlow(endpoint.id);
  await receiver.takes(CALLBACKS, 1);
  const rotated = await rotate(endpoint.id, { grace_ms: 0 });
  receiver.know(knows(rotated.signing_secret));
  await receiver.takes(CALLBACKS, 1);
  const submitted = await stop();
  await eventually(async () => {
    const deliveries = await deliveriesOf(endpoint.id);
    expect(deliveries.every(({ status }) => status === 'delivered')).toBe(true);
    expect(deliveries.reduce((sum, { count }) => sum + count, 0)).toBe(submitted);
  }, 20_000);
});
