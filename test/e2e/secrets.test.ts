import { createPublicKey, type JsonWebKey, verify as verifyWith } from 'node:crypto';
import { Webhook } from 'standardwebhooks';
import { describe, expect, it } from 'vitest';
import { formatSigningSecret, newSigningSecret } from '#domain/signing-secret.ts';
import { useDatabase } from '../support/database.ts';
import { makeAccount } from '../support/fixtures.ts';
import { type ReceivedRequest, startReceiver } from '../support/receiver.ts';
import { client, submit } from './support/api.ts';
import { serviceEnv, useService } from './support/main-process.ts';
import { expectProblem } from './support/problem.ts';

const database = useDatabase();
const key = 'rbk_for-secrets';
const service = useService(() => serviceEnv(database.url, { RINGBACK_BOOTSTRAP_KEY: key }));
const ask = (...args: Parameters<ReturnType<typeof client>>) => client(service.url, key)(...args);
const own = (scheme: 'v1' | 'v1a') => formatSigningSecret(newSigningSecret(scheme));
const FORM = { 'content-type': 'application/x-www-form-urlencoded' };
const NOBODY = `ep_${'0'.repeat(26)}`;
const WEEK_MS = 7 * 86_400_000;

async function register(url = 'http://127.0.0.1:9/') {
  const { json, text } = await ask('POST', '/v1/endpoints', {
    url: `${url}${url.endsWith('/') ? crypto.randomUUID() : ''}`,
  });
  expect(json.signing_secret, text).toMatch(/^whsec_/);
  return json as { id: string; signing_secret: string };
}

const rotate = (id: string, body?: unknown, headers?: Record<string, string>) =>
  ask('POST', `/v1/endpoints/${id}/rotate-secret`, body, headers);

async function rotated(id: string, body?: unknown, headers?: Record<string, string>) {
  const answer = await rotate(id, body, headers);
  expect(answer.status, answer.text).toBe(200);
  return answer.json;
}

const keySet = (query: string) => fetch(`${service.url}/.well-known/jwks.json${query}`);
const keysOf = async (id: string) =>
  ((await (await keySet(`?endpoint_id=${id}`)).json()) as { keys: Array<JsonWebKey & { kid: string }> }).keys;

const secretsOf = async (id: string) => (await ask('GET', `/v1/endpoints/${id}/secrets`)).json;

const signatures = ({ headers }: ReceivedRequest) => String(headers['webhook-signature']).split(' ');

/** As a receiver has it who knows the key set alone. */
function isSignedBy(jwk: JsonWebKey, { headers, body }: ReceivedRequest): boolean {
  const head = `${String(headers['webhook-id'])}.${String(headers['webhook-timestamp'])}.`;
  const message = Buffer.concat([Buffer.from(head), body]);
  const given = signatures({ headers } as ReceivedRequest).filter((text) => text.startsWith('v1a,'));
  const publicKey = createPublicKey({ key: jwk, format: 'jwk' });
  return given.some((text) => verifyWith(null, message, publicKey, Buffer.from(text.slice(4), 'base64')));
}

const verifyV1 = (secret: string, { headers, body }: ReceivedRequest) =>
  new Webhook(secret).verify(body, headers as Record<string, string>);

async function callback(receiver: Awaited<ReturnType<typeof startReceiver>>, endpointId: string) {
  await submit(ask, { type: 'ringback.echo', input: 1, callback: { endpoint_id: endpointId } });
  return receiver.next();
}

describe('rotating a secret', () => {
  it.each<[string, unknown, Record<string, string> | undefined]>([
    ['no body', undefined, undefined],
    ['no body that is said to be JSON', undefined, { 'content-type': 'application/json' }],
    ['no body that is said to be a form', undefined, FORM],
    ['an empty object', {}, undefined],
  ])('with %s makes another one, and both sign for a day', async (_what, body, headers) => {
    const endpoint = await register();
    const {
      signing_secret: secret,
      old_secrets_sign_until: until,
      ...rest
    } = await rotated(endpoint.id, body, headers);
    expect(secret).toMatch(/^whsec_/);
    expect(secret).not.toBe(endpoint.signing_secret);
    expect(Date.parse(until) - Date.now()).toBeGreaterThan(23 * 3_600_000);
    expect(rest).toEqual({ id: expect.stringMatching(/^sec_/), scheme: 'v1' });
  });

  it('takes the owner’s own, does not tell it back or log it, and without a grace it alone signs', async () => {
    const receiver = await startReceiver();
    const { id, signing_secret: old } = await register(receiver.url);
    const secret = own('v1');
    const answer = await rotate(id, { signing_secret: secret, grace_ms: 0 });
    expect(answer.status, answer.text).toBe(200);
    expect(answer.json).toEqual({ id: expect.any(String), scheme: 'v1', old_secrets_sign_until: expect.any(String) });
    expect(Date.parse(answer.json.old_secrets_sign_until)).toBeLessThanOrEqual(Date.now());
    const call = await callback(receiver, id);
    expect(signatures(call)).toHaveLength(1);
    verifyV1(secret, call);
    expect(() => verifyV1(old, call)).toThrow('No matching signature');
    expect(JSON.stringify(service.main.logs)).not.toContain(secret.slice(6));
  });

  it('to v1a signs with ed25519 beside the old one; the key set verifies it, and names the secret', async () => {
    const receiver = await startReceiver();
    const { id, signing_secret: old } = await register(receiver.url);
    const made = await rotated(id, { scheme: 'v1a' });
    expect(made).toMatchObject({ scheme: 'v1a', signing_secret: expect.stringMatching(/^whsk_/) });
    const call = await callback(receiver, id);
    expect(signatures(call).map((text) => text.split(',')[0])).toEqual(['v1a', 'v1']);
    verifyV1(old, call);
    const [jwk, ...others] = await keysOf(id);
    expect(others).toEqual([]);
    expect(jwk).toEqual({
      kty: 'OKP',
      crv: 'Ed25519',
      x: Buffer.from(made.public_key.slice('whpk_'.length), 'base64').toString('base64url'),
      kid: made.id,
      use: 'sig',
      alg: 'EdDSA',
    });
    expect(isSignedBy(jwk!, call)).toBe(true);
    expect(isSignedBy(jwk!, { ...call, body: Buffer.from(`${call.body.toString()} `) })).toBe(false);

    const pinged = await ask('POST', `/v1/endpoints/${id}/ping`);
    expect(pinged.json.request.signed_by[0]).toBe(made.id);
    expect(isSignedBy(jwk!, await receiver.next())).toBe(true);
  });

  it('takes an ed25519 key of the owner’s, with and without its public key behind it', async () => {
    const { id } = await register();
    const pair = '6Xb/dCcHpPea21PS1N9VY/NZW723CEc77N4rJCubMbfVKIDij2HKpMKkioLlX0dRqSKJp4AJ6p9lMicMFs6Kvg==';
    for (const secret of [pair, Buffer.from(pair, 'base64').subarray(0, 32).toString('base64')]) {
      const made = await rotated(id, { signing_secret: `whsk_${secret}`, grace_ms: 0 });
      expect(made).toMatchObject({ scheme: 'v1a', public_key: 'whpk_1SiA4o9hyqTCpIqC5V9HUakiiaeACeqfZTInDBbOir4=' });
      expect(made).not.toHaveProperty('signing_secret');
    }
    expect(await keysOf(id)).toMatchObject([{ x: '1SiA4o9hyqTCpIqC5V9HUakiiaeACeqfZTInDBbOir4' }]);
  });

  it.each<[string, object, string]>([
    ['a secret without its prefix', { signing_secret: own('v1').slice(6) }, '/signing_secret'],
    ['a public key', { signing_secret: own('v1a').replace('whsk', 'whpk') }, '/signing_secret'],
    ['too short a secret', { signing_secret: 'whsec_c2hvcnQ=' }, '/signing_secret'],
    ['a pattern', { signing_secret: `whsec_${'A'.repeat(43)}=` }, '/signing_secret'],
    ['a secret of another scheme', { signing_secret: own('v1'), scheme: 'v1a' }, '/scheme'],
  ])('is refused with %s, and changes nothing', async (_what, body, path) => {
    const { id } = await register();
    const before = await secretsOf(id);
    const answer = await rotate(id, body);
    const document = expectProblem(answer, 'invalid_signing_secret');
    expect(document.errors.map((fault: { path: string }) => fault.path)).toEqual([path]);
    expect(await secretsOf(id)).toEqual(before);
  });

  it.each<[string, unknown, string]>([
    ['an unknown scheme', { scheme: 'v2' }, '/scheme'],
    ['a grace of more than a week', { grace_ms: WEEK_MS + 1 }, '/grace_ms'],
    ['a grace before now', { grace_ms: -1 }, '/grace_ms'],
    ['half a millisecond', { grace_ms: 0.5 }, '/grace_ms'],
    ['a secret that is endless', { signing_secret: `whsec_${'a'.repeat(100_000)}` }, '/signing_secret'],
    ['a secret that is a number', { signing_secret: 1 }, '/signing_secret'],
    ['a member that is none', { graceMs: 0 }, ''],
    ['null', 'null', ''],
    ['a list', [], ''],
  ])('is refused with %s', async (_what, body, path) => {
    const { id } = await register();
    const document = expectProblem(await rotate(id, body), 'invalid_body');
    expect(document.errors.map((fault: { path: string }) => fault.path)).toEqual([path]);
    expect((await secretsOf(id)).items).toHaveLength(1);
  });

  it('is refused with a body that is no JSON, instead of ignoring it', async () => {
    const { id } = await register();
    expectProblem(await rotate(id, '{"grace_ms":0}', FORM), 'unsupported_media_type');
    expectProblem(await rotate(id, '{"grace_ms":'), 'malformed_json');
    expect((await secretsOf(id)).items).toHaveLength(1);
  });

  it('is refused when ten sign already, until a rotation ends the others', async () => {
    const { id } = await register();
    for (let made = 1; made < 10; made++) await rotated(id, { grace_ms: WEEK_MS });
    expectProblem(await rotate(id), 'too_many_signing_secrets');
    await rotated(id, { grace_ms: 0 });
    await rotated(id);
  });

  it('is refused for the endpoint of another account, and for none', async () => {
    const { id } = await register();
    const stranger = client(service.url, (await makeAccount(database.db)).key);
    for (const body of [undefined, { scheme: 'v1a' }, { signing_secret: own('v1') }, { signing_secret: 'x' }])
      expectProblem(await stranger('POST', `/v1/endpoints/${id}/rotate-secret`, body), 'endpoint_not_found');
    expectProblem(await rotate(NOBODY), 'endpoint_not_found');
    await ask('DELETE', `/v1/endpoints/${id}`);
    expectProblem(await rotate(id), 'endpoint_not_found');
  });
});

describe('the list of secrets', () => {
  it('says what signs and what has signed, newest first, page by page, and no secret', async () => {
    const { id } = await register();
    const asymmetric = await rotated(id, { scheme: 'v1a', grace_ms: 0 });
    const newest = await rotated(id, { scheme: 'v1' });
    const { items, next_cursor: end } = await secretsOf(id);
    expect(items).toMatchObject([
      { id: newest.id, scheme: 'v1', public_key: null, expires_at: null },
      {
        id: asymmetric.id,
        scheme: 'v1a',
        public_key: asymmetric.public_key,
        expires_at: newest.old_secrets_sign_until,
      },
      { scheme: 'v1', public_key: null, expires_at: asymmetric.old_secrets_sign_until },
    ]);
    expect(end).toBeNull();
    expect(JSON.stringify(items)).not.toMatch(/whsec_|whsk_|ciphertext/);
    const path = `/v1/endpoints/${id}/secrets?limit=2`;
    const first = (await ask('GET', path)).json;
    const rest = (await ask('GET', `${path}&cursor=${first.next_cursor}`)).json;
    expect([...first.items, ...rest.items]).toEqual(items);
  });

  it('is not for strangers', async () => {
    const { id } = await register();
    const stranger = client(service.url, (await makeAccount(database.db)).key);
    expectProblem(await stranger('GET', `/v1/endpoints/${id}/secrets`), 'endpoint_not_found');
    expectProblem(await ask('GET', `/v1/endpoints/${NOBODY}/secrets`), 'endpoint_not_found');
  });
});

describe('the key set', () => {
  it('needs no key, and may be kept for five minutes', async () => {
    const { id } = await register();
    await rotated(id, { scheme: 'v1a' });
    const response = await keySet(`?endpoint_id=${id}`);
    expect(response.status).toBe(200);
    expect(response.headers.get('content-type')).toBe('application/jwk-set+json');
    expect(response.headers.get('cache-control')).toBe('public, max-age=300');
  });

  it('has the keys of that endpoint alone: a stranger’s own key verifies nothing here', async () => {
    const { id } = await register();
    const mine = await rotated(id, { scheme: 'v1a' });
    const stranger = client(service.url, (await makeAccount(database.db)).key);
    const { json: theirs } = await stranger('POST', '/v1/endpoints', { url: 'http://127.0.0.1:9/theirs' });
    await stranger('POST', `/v1/endpoints/${theirs.id}/rotate-secret`, { signing_secret: own('v1a') });
    expect((await keysOf(id)).map(({ kid }) => kid)).toEqual([mine.id]);
    expect(await keysOf(theirs.id)).toHaveLength(1);
  });

  it('has both keys during a rotation, and only the new one after it', async () => {
    const { id } = await register();
    const ids = [];
    for (const grace of [0, 60_000, 60_000]) ids.unshift((await rotated(id, { scheme: 'v1a', grace_ms: grace })).id);
    expect((await keysOf(id)).map(({ kid }) => kid)).toEqual(ids);
    const { id: last } = await rotated(id, { grace_ms: 0 });
    expect((await keysOf(id)).map(({ kid }) => kid)).toEqual([last]);
  });

  it('is empty for an endpoint that signs with v1, one that is deleted and one that is none', async () => {
    const [plain, deleted] = [await register(), await register()];
    await rotated(deleted.id, { scheme: 'v1a' });
    expect(await keysOf(deleted.id)).toHaveLength(1);
    await ask('DELETE', `/v1/endpoints/${deleted.id}`);
    for (const id of [plain.id, deleted.id, NOBODY]) expect(await keysOf(id), id).toEqual([]);
  });

  it.each(['', '?endpoint_id=', '?endpoint_id=4711', '?endpoint_id=ep_%00', '?endpoint=x'])(
    'is refused without an endpoint: %s',
    async (query) => {
      const response = await keySet(query);
      expect(response.status).toBe(400);
      expect(await response.json()).toMatchObject({ code: 'invalid_query' });
    },
  );
});
