import { createHash, randomBytes } from 'node:crypto';
import { Webhook } from 'standardwebhooks';
import { describe, expect, it } from 'vitest';
import { useDatabase } from '../support/database.ts';
import { eventually } from '../support/eventually.ts';
import { makeAccount } from '../support/fixtures.ts';
import { type Answer, type Answering, type ReceivedRequest, startReceiver } from '../support/receiver.ts';
import { client, submit, untilDone } from './support/api.ts';
import { serviceEnv, useService } from './support/main-process.ts';

const database = useDatabase();
const service = useService(() => serviceEnv(database.url, { RINGBACK_CALLBACK_SCHEDULE: '0s,100ms' }));
const echo = { type: 'ringback.echo', input: 1 };
const NOBODY = `ep_${'0'.repeat(26)}`;

/** An account with a key of its own, under that policy from the start. */
async function account(policy = 'verified') {
  const { accountId, key } = await makeAccount(database.db);
  const setPolicy = (to: string) =>
    database.sql`UPDATE ringback.accounts SET callback_policy = ${to} WHERE account_id = ${accountId}`;
  await setPolicy(policy);
  return { accountId, ask: client(service.url, key), setPolicy };
}

const challengeIn = ({ json }: ReceivedRequest): string => (json as { data: { challenge: string } }).data.challenge;
const isChallenge = ({ json }: ReceivedRequest) => (json as { type: string }).type === 'endpoint.challenge';

/** Echoes challenges as its owner means to, and takes everything else. */
const honest: Answering = (request) => ({ status: 200, body: isChallenge(request) ? challengeIn(request) : 'ok' });

async function honestReceiver() {
  const receiver = await startReceiver();
  receiver.answerAll(honest);
  return receiver;
}

const unverified = { status: 409, json: { code: 'endpoint_unverified', detail: expect.stringContaining('/verify') } };

describe('an answer that is no echo leaves an endpoint unverified', () => {
  const answers: Array<[string, (request: ReceivedRequest) => Answer, object]> = [
    ['anything', () => ({ status: 200, body: 'ok' }), { code: 'challenge_not_echoed' }],
    ['nothing', () => ({ status: 204 }), { code: 'challenge_not_echoed' }],
    ['the whole request', ({ body }) => ({ status: 200, body }), { code: 'challenge_not_echoed' }],
    [
      'the request’s data',
      ({ json }) => ({ status: 200, body: JSON.stringify((json as { data: object }).data) }),
      { code: 'challenge_not_echoed' },
    ],
    [
      'the challenge and more than a page of blanks',
      (request) => ({ status: 200, body: challengeIn(request) + ' '.repeat(5000) }),
      { code: 'challenge_not_echoed' },
    ],
    [
      'the challenge with a 500',
      (request) => ({ ...(honest(request) as object), status: 500 }),
      { code: 'status_500' },
    ],
    [
      'the challenge with a redirect to it',
      (request) => {
        const body = challengeIn(request);
        return { status: 302, headers: { location: `/${body}`, [`x-${body}`]: body }, body };
      },
      { code: 'redirect_not_followed' },
    ],
    ['a reset', () => 'reset', { code: expect.any(String) }],
    ['silence', () => 'hang', { code: 'headers_timeout' }],
  ];

  it.each(answers)('%s', async (_what, answer, error) => {
    const { ask, accountId } = await account();
    const receiver = await startReceiver();
    receiver.answerAll(answer);
    const made = await ask('POST', '/v1/endpoints', { url: receiver.url, timeout_ms: 500, event_types: ['job.*'] });
    const { id } = made.json;
    const failed = { status: 'unverified', verification: { trigger: 'probe', error, number: 1 } };
    expect(made).toMatchObject({ status: 201, json: { ...failed, signing_secret: expect.stringMatching(/^whsec_/) } });
    expect(await ask('POST', `/v1/endpoints/${id}/verify`)).toMatchObject({ status: 200, json: { id, ...failed } });
    expect(receiver.requests.map(challengeIn)).toHaveLength(2);
    expect(new Set(receiver.requests.map(challengeIn)).size, 'a challenge is used once').toBe(2);

    const refused = { ...unverified, json: { ...unverified.json, errors: [{ path: '/callback/endpoint_id' }] } };
    expect(await ask('POST', '/v1/jobs', { ...echo, callback: { endpoint_id: id } })).toMatchObject(refused);
    await untilDone(ask, (await submit(ask, echo)).id);
    expect((await ask('GET', `/v1/endpoints/${id}`)).json).toMatchObject({ status: 'unverified' });
    expect(receiver.requests.every(isChallenge), 'nothing else was sent').toBe(true);
    await nobodyCanRead(ask, accountId, receiver.requests.map(challengeIn));
  });
});

/** Neither who has a key of the account, nor who reads the log or the database. */
async function nobodyCanRead(ask: Awaited<ReturnType<typeof account>>['ask'], accountId: string, challenges: string[]) {
  const events = await ask('GET', '/v1/events?type=endpoint.challenge');
  const deliveries = await database.sql<{ id: string }[]>`
    SELECT id FROM ringback.deliveries WHERE account_id = ${accountId} AND event_type = 'endpoint.challenge'`;
  expect(deliveries).toHaveLength(challenges.length);
  const attempts = await Promise.all(deliveries.map(({ id }) => ask('GET', `/v1/deliveries/${id}/attempts`)));
  expect(attempts.map(({ json }) => json.items.length)).toEqual(challenges.map(() => 1));
  const rows = await database.sql`
    SELECT convert_from(body, 'UTF8') AS text FROM ringback.events WHERE account_id = ${accountId}
    UNION ALL SELECT encode(response_body, 'escape') || response_headers || request_headers
    FROM ringback.delivery_attempts WHERE account_id = ${accountId}`;
  const { logs, printed, stderr } = service.main;
  const said = JSON.stringify([events.text, attempts.map(({ text }) => text), rows, logs, printed, stderr]);
  expect(said).toContain('endpoint.challenge');
  for (const challenge of challenges) {
    expect(challenge).toMatch(/^[\w-]{43}$/); // 256 bits
    expect(said.includes(challenge)).toBe(false);
  }
}

it('a challenge is used once: that of another request is none', async () => {
  const { ask } = await account();
  const receiver = await startReceiver();
  const { json } = await ask('POST', '/v1/endpoints', { url: receiver.url });
  receiver.answerAll({ status: 200, body: challengeIn(receiver.requests[0]!) });
  const again = await ask('POST', `/v1/endpoints/${json.id}/verify`);
  expect(again.json).toMatchObject({ status: 'unverified', verification: { error: { code: 'challenge_not_echoed' } } });
});

describe('an echo', () => {
  it.each<[string, (challenge: string) => string]>([
    ['as text', (challenge) => `${challenge}\n`],
    ['as JSON', (challenge) => JSON.stringify({ challenge })],
  ])('%s verifies an endpoint, on record, and what nobody could read before it still cannot', async (_form, write) => {
    const { ask, accountId } = await account();
    const receiver = await startReceiver();
    const own = `whsec_${randomBytes(32).toString('base64')}`;
    receiver.answerAll((request) => {
      // As a careful receiver does: it vouches for nobody else's account.
      new Webhook(own).verify(request.body, request.headers as Record<string, string>);
      return isChallenge(request) ? { status: 200, body: write(challengeIn(request)) } : { status: 200 };
    });
    const made = await ask('POST', '/v1/endpoints', { url: receiver.url, signing_secret: own });
    expect(made).toMatchObject({
      status: 201,
      json: { status: 'enabled', registered: true, verification: { outcome: 'delivered', error: null } },
    });
    const [challenge] = receiver.requests;
    const { request, response } = made.json.verification;
    expect(request.body_sha256).toBe(createHash('sha256').update(challenge!.body).digest('hex'));
    expect(response.body).toContain('[challenge]');
    await nobodyCanRead(ask, accountId, [challengeIn(challenge!)]);

    await submit(ask, { ...echo, callback: { url: receiver.url } });
    await receiver.waitFor(2);
    const again = await ask('POST', `/v1/endpoints/${made.json.id}/verify`);
    expect(again).toMatchObject({ status: 200, json: { status: 'enabled' } });
    expect(again.json).not.toHaveProperty('verification');
    expect(receiver.requests.filter(isChallenge)).toHaveLength(1);
  });

  it('verifies an endpoint that was unverified when the policy was changed', async () => {
    const { ask, setPolicy } = await account();
    const receiver = await startReceiver();
    const { json } = await ask('POST', '/v1/endpoints', { url: receiver.url });
    await setPolicy('any');
    // Accepted, its callback would never be sent, and nobody would be told.
    for (const callback of [{ endpoint_id: json.id }, { url: receiver.url }])
      expect(await ask('POST', '/v1/jobs', { ...echo, callback })).toMatchObject(unverified);
    receiver.answerAll(honest);
    expect((await ask('POST', `/v1/endpoints/${json.id}/verify`)).json).toMatchObject({ status: 'enabled' });
  });

  it('of a URL that was left meanwhile verifies nothing', async () => {
    const { ask } = await account();
    const [mine, other] = [await startReceiver(), await startReceiver()];
    const { json } = await ask('POST', '/v1/endpoints', { url: mine.url });
    const { promise: moved, resolve: move } = Promise.withResolvers<void>();
    mine.answerAll(async (request) => {
      await moved;
      return honest(request);
    });
    const verifying = ask('POST', `/v1/endpoints/${json.id}/verify`);
    await mine.waitFor(2);
    const changed = await ask('PATCH', `/v1/endpoints/${json.id}`, { url: other.url });
    expect(changed.json).toMatchObject({ url: other.url, status: 'unverified' });
    move();
    expect((await verifying).json).toMatchObject({
      url: other.url,
      status: 'unverified',
      verification: { url: mine.url },
    });
    expect(other.requests.every(isChallenge)).toBe(true);
  });
});

describe('an unverified endpoint', () => {
  it('that is deleted while it is challenged is gone, also for who registers it', async () => {
    const { ask } = await account();
    const receiver = await startReceiver();
    receiver.answerAll(async (request) => {
      const [{ id }] = (await ask('GET', '/v1/endpoints')).json.items;
      await ask('DELETE', `/v1/endpoints/${id}`);
      return honest(request);
    });
    const made = await ask('POST', '/v1/endpoints', { url: receiver.url });
    expect(made).toMatchObject({ status: 404, json: { code: 'endpoint_not_found' } });
    receiver.answerAll(honest);
    const again = await ask('POST', '/v1/endpoints', { url: receiver.url });
    expect(again).toMatchObject({ status: 201, json: { status: 'enabled' } });
  });

  it('is neither enabled, paused nor pinged, and its challenges are not sent again', async () => {
    const { ask } = await account();
    const receiver = await startReceiver();
    const { json } = await ask('POST', '/v1/endpoints', { url: receiver.url });
    const path = `/v1/endpoints/${json.id}`;
    for (const verb of ['enable', 'pause', 'ping'])
      expect(await ask('POST', `${path}/${verb}`), verb).toMatchObject(unverified);
    const [{ id }] = await database.sql<[{ id: string }]>`
      SELECT id FROM ringback.deliveries WHERE endpoint_id = ${json.id}`;
    const resent = await ask('POST', `/v1/deliveries/${id}/redeliver`, {});
    expect(resent).toMatchObject({ status: 409, json: { code: 'delivery_unrepeatable' } });

    const other = await honestReceiver();
    const to = await ask('POST', '/v1/endpoints', { url: other.url });
    const elsewhere = { since: '2020-01-01T00:00:00Z', endpoint_id: to.json.id };
    const carried = await untilDone(ask, (await ask('POST', `${path}/recover`, elsewhere)).json.id);
    expect(carried).toMatchObject({ status: 'succeeded', output: { queued: 0 } });

    receiver.answerAll(honest);
    expect((await ask('POST', `${path}/verify`)).json).toMatchObject({ status: 'enabled' });
    const recovery = await ask('POST', `${path}/recover`, { since: '2020-01-01T00:00:00Z' });
    await untilDone(ask, recovery.json.id);
    expect((await ask('POST', `${path}/ping`)).json).toMatchObject({ outcome: 'delivered' });
    expect(receiver.requests.map(isChallenge)).toEqual([true, true, false]);
    expect((await ask('GET', `/v1/deliveries/${id}`)).json).toMatchObject({ status: 'exhausted', attempts: 1 });
  });

  it('gets what was due meanwhile once it is verified', async () => {
    const { ask } = await account();
    const receiver = await startReceiver();
    const { json } = await ask('POST', '/v1/endpoints', { url: receiver.url, event_types: ['job.succeeded'] });
    await untilDone(ask, (await submit(ask, echo)).id);
    await eventually(async () =>
      expect((await ask('GET', `/v1/endpoints/${json.id}`)).json.health).toMatchObject({ backlog: 1 }),
    );
    expect(receiver.requests).toHaveLength(1);
    receiver.answerAll(honest);
    await ask('POST', `/v1/endpoints/${json.id}/verify`);
    const requests = await receiver.waitFor(3);
    expect(requests.map(({ json: body }) => (body as { type: string }).type)).toEqual([
      'endpoint.challenge',
      'endpoint.challenge',
      'job.succeeded',
    ]);
  });

  it('that is not there answers 404', async () => {
    const { ask } = await account();
    expect(await ask('POST', `/v1/endpoints/${NOBODY}/verify`)).toMatchObject({
      status: 404,
      json: { code: 'endpoint_not_found' },
    });
  });
});

describe('a verified endpoint', () => {
  it('has to prove itself anew at another URL, and keeps what is due to it', async () => {
    const { ask } = await account();
    const [first, second] = [await honestReceiver(), await startReceiver()];
    const { json } = await ask('POST', '/v1/endpoints', { url: first.url, event_types: ['job.succeeded'] });
    const path = `/v1/endpoints/${json.id}`;
    const same = await ask('PATCH', path, { url: `${first.url}#same`, description: 'still there' });
    expect(same.json).toMatchObject({ status: 'enabled', description: 'still there' });
    expect(same.json).not.toHaveProperty('verification');

    const moved = await ask('PATCH', path, { url: second.url });
    const error = { code: 'challenge_not_echoed' };
    expect(moved.json).toMatchObject({ status: 'unverified', verification: { url: second.url, error } });
    expect(await ask('POST', '/v1/jobs', { ...echo, callback: { url: second.url } })).toMatchObject(unverified);
    await untilDone(ask, (await submit(ask, echo)).id);
    second.answerAll(honest);
    expect((await ask('POST', `${path}/verify`)).json).toMatchObject({ status: 'enabled' });
    await second.waitFor(3);
    expect(second.requests.map(isChallenge)).toEqual([true, true, false]);
    expect(first.requests).toHaveLength(1);
  });

  it('is registered first, also where jobs have named it already', async () => {
    const { ask, setPolicy } = await account('any');
    const receiver = await startReceiver();
    await submit(ask, { ...echo, callback: { url: receiver.url } });
    await receiver.waitFor(1);
    await setPolicy('verified');
    const [{ id }] = (await ask('GET', '/v1/endpoints')).json.items;
    const refused = await ask('POST', '/v1/jobs', { ...echo, callback: { endpoint_id: id } });
    expect(refused).toMatchObject({ status: 422, json: { code: 'endpoint_not_registered' } });
    const registered = await ask('POST', '/v1/endpoints', { url: receiver.url });
    expect(registered).toMatchObject({ status: 200, json: { id, registered: true, status: 'unverified' } });
    receiver.answerAll(honest);
    expect((await ask('POST', `/v1/endpoints/${id}/verify`)).json).toMatchObject({ status: 'enabled' });
    await submit(ask, { ...echo, callback: { url: receiver.url } });
  });
});
