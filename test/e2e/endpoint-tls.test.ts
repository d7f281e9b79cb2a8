import { once } from 'node:events';
import https from 'node:https';
import type { AddressInfo } from 'node:net';
import type { TLSSocket } from 'node:tls';
import { describe, expect, it, onTestFinished } from 'vitest';
import {
  CLIENT_AUTHORITY,
  CLIENT_ONE_CERTIFICATE,
  CLIENT_ONE_KEY,
  CLIENT_TWO_CERTIFICATE,
  CLIENT_TWO_KEY,
  OTHER_CERTIFICATE,
  TEST_CERTIFICATE,
  TEST_KEY,
} from '../integration/egress/certificates.ts';
import { useDatabase } from '../support/database.ts';
import { eventually } from '../support/eventually.ts';
import { client } from './support/api.ts';
import { serviceEnv, useService } from './support/main-process.ts';

const database = useDatabase();
const key = 'rbk_for-endpoint-tls';
const service = useService(() =>
  serviceEnv(database.url, { RINGBACK_BOOTSTRAP_KEY: key, RINGBACK_CALLBACK_SCHEDULE: '0s,100ms,1h' }),
);
const ask = (...args: Parameters<ReturnType<typeof client>>) => client(service.url, key)(...args);

const ONE = { authorities: TEST_CERTIFICATE, certificate: CLIENT_ONE_CERTIFICATE, key: CLIENT_ONE_KEY };
const TWO = { certificate: CLIENT_TWO_CERTIFICATE, key: CLIENT_TWO_KEY };

/** Takes clients of `CLIENT_AUTHORITY` only, and notes which connection brought which client. */
async function listenStrictly() {
  const calls: Array<{ name: string; path: string; socket: TLSSocket }> = [];
  const options = { key: TEST_KEY, cert: TEST_CERTIFICATE, ca: CLIENT_AUTHORITY, requestCert: true };
  const server = https.createServer({ ...options, rejectUnauthorized: true }, (incoming, response) => {
    const socket = incoming.socket as TLSSocket;
    calls.push({ name: String(socket.getPeerCertificate().subject.CN), path: incoming.url!, socket });
    incoming.resume().on('end', () => response.end('ok'));
  });
  server.on('tlsClientError', () => {});
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  onTestFinished(() => {
    server.closeAllConnections();
    server.close();
  });
  const waitFor = (count: number) =>
    eventually(() => {
      expect(calls.length).toBeGreaterThanOrEqual(count);
      return calls;
    });
  return { calls, waitFor, origin: `https://127.0.0.1:${(server.address() as AddressInfo).port}` };
}

async function register(body: object) {
  const made = await ask('POST', '/v1/endpoints', body);
  expect(made.status, made.text).toBe(201);
  return made.json;
}

const callBack = async (id: string) => {
  const submission = { type: 'ringback.echo', input: 1, callback: { endpoint_id: id } };
  const accepted = await ask('POST', '/v1/jobs', submission);
  expect(accepted.status, accepted.text).toBe(202);
  return accepted.json.id as string;
};

const deliveryOf = async (jobId: string) =>
  (await ask('GET', `/v1/jobs/${jobId}/deliveries`)).json.items[0].id as string;

/** The attempts for a job’s only delivery, once there are some. */
const attemptsFor = (jobId: string) =>
  eventually(async () => {
    const attempts = await ask('GET', `/v1/deliveries/${await deliveryOf(jobId)}/attempts`);
    expect(attempts.json.items.length).toBeGreaterThan(0);
    return attempts.json.items;
  });

/** In any line of it, so that a key that was wrapped in another way is found too. */
const linesOf = (pem: string) => pem.split('\n').filter((line) => line !== '' && !line.startsWith('-----'));

describe('an endpoint with a client certificate and an authority of its own', () => {
  it('is called back with them, by jobs and pings; another endpoint of that host is not', async () => {
    const receiver = await listenStrictly();
    const one = await register({ url: `${receiver.origin}/one`, tls: ONE });
    const two = await register({ url: `${receiver.origin}/two`, tls: { ...ONE, ...TWO } });
    for (const { id } of [one, two, one, two]) {
      const pinged = await ask('POST', `/v1/endpoints/${id}/ping`);
      expect(pinged.json).toMatchObject({ outcome: 'delivered', response: { body: 'ok' } });
    }
    for (const { id } of [one, two]) await callBack(id);
    const calls = await receiver.waitFor(6);
    for (const { name, path } of calls) expect(name).toBe(`client ${path.slice(1)}`);
    const clientsOf = Map.groupBy(calls, ({ socket }) => socket);
    for (const shared of clientsOf.values()) expect(new Set(shared.map(({ name }) => name)).size).toBe(1);
    expect(clientsOf.size).toBeLessThan(6); // each keeps its own connections
  });

  it('shows whose certificate it is, and its key to nobody, whatever goes wrong', async () => {
    const receiver = await listenStrictly();
    const texts: string[] = [];
    const listen: typeof ask = async (...args) => {
      const reply = await ask(...args);
      texts.push(reply.text);
      return reply;
    };
    const { json } = await listen('POST', '/v1/endpoints', { url: `${receiver.origin}/shown`, tls: ONE });
    expect(json.tls).toEqual({
      authorities: TEST_CERTIFICATE,
      certificate: {
        subject: 'O=Ringback tests, CN=client one',
        issuer: String.raw`CN=Ringback tests\, an authority`,
        fingerprint_sha256: expect.stringMatching(/^[0-9a-f]{64}$/),
        valid_from: '2020-01-01T00:00:00.000Z',
        valid_to: '2120-01-01T00:00:00.000Z',
      },
    });
    const path = `/v1/endpoints/${json.id}`;
    for (const tls of [{ certificate: CLIENT_TWO_CERTIFICATE, key: CLIENT_ONE_KEY }, { key: CLIENT_ONE_KEY }])
      expect(await listen('PATCH', path, { tls })).toMatchObject({ status: 422 });
    expect(await listen('PATCH', path, { tls: { ...ONE, key: [CLIENT_ONE_KEY] } })).toMatchObject({ status: 422 });
    await listen('POST', `${path}/ping`);
    await listen('GET', '/v1/endpoints');
    await listen('GET', '/v1/events?type=endpoint.*');
    const { logs, printed, stderr } = service.main;
    const said = [...texts, ...printed, ...stderr, ...logs.map((line) => JSON.stringify(line))].join('\n');
    expect(said).toContain('client one');
    for (const secret of [...linesOf(CLIENT_ONE_KEY), 'PRIVATE KEY']) expect(said).not.toContain(secret);
    const [row] = await database.sql`SELECT * FROM ringback.endpoints WHERE id = ${json.id}`;
    const stored = Buffer.from(row!['tls_key_ciphertext'] as Uint8Array).toString('latin1');
    for (const secret of linesOf(CLIENT_ONE_KEY)) expect(stored).not.toContain(secret);
  });

  it('has them rotated and taken away by a change', async () => {
    const receiver = await listenStrictly();
    const { id } = await register({ url: `${receiver.origin}/rotated`, tls: ONE });
    await callBack(id);
    await receiver.waitFor(1);
    const rotated = await ask('PATCH', `/v1/endpoints/${id}`, { tls: TWO });
    expect(rotated.json.tls).toMatchObject({
      authorities: TEST_CERTIFICATE,
      certificate: { subject: 'O=Ringback tests, CN=client two' },
    });
    await callBack(id);
    expect((await receiver.waitFor(2)).map(({ name }) => name)).toEqual(['client one', 'client two']);

    const onlyTrusting = await ask('PATCH', `/v1/endpoints/${id}`, { tls: { certificate: null } });
    expect(onlyTrusting.json.tls).toEqual({ authorities: TEST_CERTIFICATE, certificate: null });
    const plain = await ask('PATCH', `/v1/endpoints/${id}`, { tls: null });
    expect(plain.json.tls).toBeNull();
    const [attempt] = await attemptsFor(await callBack(id));
    expect(attempt).toMatchObject({ outcome: 'tls', error: { code: 'tls_certificate_invalid' } });
    expect(receiver.calls).toHaveLength(2);
  });

  it('records a certificate that none of its authorities has signed as a fault of TLS', async () => {
    const receiver = await listenStrictly();
    const tls = { ...ONE, authorities: OTHER_CERTIFICATE };
    const { id } = await register({ url: `${receiver.origin}/wrong`, tls });
    const [attempt] = await attemptsFor(await callBack(id));
    expect(attempt).toMatchObject({ outcome: 'tls', error: { code: 'tls_certificate_invalid' } });
    expect(receiver.calls).toEqual([]);
  });
});

describe('TLS settings', () => {
  const URL = 'https://127.0.0.1:9/';

  it.each<[string, object, string]>([
    ['authorities that are none', { tls: { authorities: 'nonsense' } }, '/tls/authorities'],
    ['a certificate that is none', { tls: { certificate: 'nonsense', key: CLIENT_ONE_KEY } }, '/tls/certificate'],
    ['a key of another certificate', { tls: { ...TWO, key: CLIENT_ONE_KEY } }, '/tls/key'],
    ['a certificate without its key', { tls: { certificate: CLIENT_ONE_CERTIFICATE } }, '/tls/key'],
    ['a key without its certificate', { tls: { key: CLIENT_ONE_KEY } }, '/tls/certificate'],
    [
      'a key that is hidden with the certificate',
      { tls: { ...TWO, certificate: TWO.certificate + TWO.key } },
      '/tls/certificate',
    ],
    ['U+0000', { tls: { authorities: `${TEST_CERTIFICATE}\0` } }, '/tls/authorities'],
    ['a URL that is not https', { url: 'http://127.0.0.1:9/', tls: ONE }, '/tls'],
  ])('are refused for %s, and nothing is made', async (_what, body, path) => {
    const refused = await ask('POST', '/v1/endpoints', { url: URL, ...body });
    expect(refused.status, refused.text).toBe(422);
    expect(refused.json.errors).toMatchObject([{ path }]);
    expect(refused.text).not.toMatch(/nonsense|BEGIN|MII/);
    expect((await ask('GET', '/v1/endpoints')).json.items.map(({ url }: { url: string }) => url)).not.toContain(URL);
  });

  it('and a URL that is not https do not come together by a change either', async () => {
    const secure = await register({ url: 'https://127.0.0.1:9/secure', tls: ONE });
    const open = await register({ url: 'http://127.0.0.1:9/open', tls: { authorities: null } });
    const change = (id: string, body: object) => ask('PATCH', `/v1/endpoints/${id}`, body);
    const refusal = (path: string) => ({ status: 422, json: { code: 'invalid_tls', errors: [{ path }] } });
    expect(await change(open.id, { tls: ONE })).toMatchObject(refusal('/tls'));
    expect(await change(secure.id, { url: 'http://127.0.0.1:9/moved' })).toMatchObject(refusal('/url'));
    expect((await change(secure.id, { url: 'http://127.0.0.1:9/moved', tls: null })).status).toBe(200);
    expect((await change(open.id, { url: 'https://127.0.0.1:9/open', tls: ONE })).status).toBe(200);
  });
});

describe('a private key that cannot be decrypted any more', () => {
  it('sends nothing and uses up nothing; callbacks go on once the key is back', async () => {
    const receiver = await listenStrictly();
    const { id } = await register({ url: `${receiver.origin}/sealed`, tls: ONE });
    const keyIdOf = async (keyId: string) =>
      database.sql`UPDATE ringback.endpoints SET tls_key_id = ${keyId} WHERE id = ${id}`;
    const [{ tls_key_id: keyId }] = await database.sql<[{ tls_key_id: string }]>`
      SELECT tls_key_id FROM ringback.endpoints WHERE id = ${id}`;
    await keyIdOf('gone');
    const jobId = await callBack(id);
    await eventually(async () => {
      const [lane] = await database.sql`
        SELECT blocked_until > now() AS waits FROM ringback.endpoint_lanes WHERE endpoint_id = ${id}`;
      expect(lane).toEqual({ waits: true });
    });
    expect((await ask('GET', `/v1/deliveries/${await deliveryOf(jobId)}`)).json).toMatchObject({
      status: 'pending',
      attempts: 0,
    });
    expect((await ask('POST', `/v1/endpoints/${id}/ping`)).json).toMatchObject({
      outcome: 'blocked',
      error: { code: 'tls_key_unreadable' },
      request: { signed_by: [] },
    });
    expect((await ask('GET', `/v1/endpoints/${id}`)).json.health).toMatchObject({ consecutive_failures: 0 });
    expect(receiver.calls).toEqual([]);
    await keyIdOf(keyId);
    await database.sql`UPDATE ringback.endpoint_lanes SET blocked_until = now() WHERE endpoint_id = ${id}`;
    await receiver.waitFor(1);
  });
});
