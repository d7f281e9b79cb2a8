import { createHmac, createPublicKey, verify as verifyWith } from 'node:crypto';
import { once } from 'node:events';
import { createServer, type IncomingHttpHeaders } from 'node:http';
import type { AddressInfo } from 'node:net';
import { Webhook } from 'standardwebhooks';
import { expect, onTestFinished, test } from 'vitest';
import { parseCidr } from '#domain/address.ts';
import { HEALTHY } from '#domain/circuit.ts';
import { newId } from '#domain/ids.ts';
import { publicKeyOf, sign, signerOf } from '#domain/signature.ts';
import { formatSigningSecret, newSigningSecret, type SigningSecret } from '#domain/signing-secret.ts';
import { createSender } from '#egress/send.ts';
import { attempt } from '../../src/callbacks/attempt.ts';

/** https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md */
interface Received {
  readonly headers: IncomingHttpHeaders;
  readonly body: Buffer;
}

/** A receiver on loopback; answers 204 and keeps what it was sent. */
async function receive(): Promise<{ url: string; received: Received[] }> {
  const received: Received[] = [];
  const server = createServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on('data', (chunk: Buffer) => chunks.push(chunk));
    request.on('end', () => {
      received.push({ headers: request.headers, body: Buffer.concat(chunks) });
      response.writeHead(204).end();
    });
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  onTestFinished(() => void server.close());
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/hook`, received };
}

/** Sends a delivery as a courier does, signed with these secrets, and gives what arrived. */
async function callBack(secrets: readonly SigningSecret[], body: string, times = 1): Promise<Received[]> {
  const { url, received } = await receive();
  const policy = { allow: [parseCidr('127.0.0.0/8')!], allowHttp: false, ports: [443] };
  const sender = createSender({ policy, userAgent: 'Ringback/test', now: () => new Date() });
  const endpointId = newId('ep', Date.now());
  const signers = secrets.map(({ scheme, key }) => ({ id: newId('sec', Date.now()), ...signerOf(scheme, key) }));
  const delivery = {
    accountId: newId('acc', Date.now()),
    id: newId('dlv', Date.now()),
    eventId: newId('evt', Date.now()),
    eventType: 'job.succeeded' as const,
    jobId: newId('job', Date.now()),
    endpointId,
    attemptId: newId('att', Date.now()),
    attemptCount: 0,
    scheduleFrom: 0,
    trigger: 'scheduled' as const,
    body: Buffer.from(body),
  };
  const clock = { now: () => new Date(), random: () => 0.5 };
  const deps = { sender, clock, workerId: newId('wrk', Date.now()), schedule: [0], timeoutMs: 5000 };
  for (let time = 0; time < times; time++) {
    const { result } = await attempt(
      delivery,
      { endpointId, url, headers: {}, ordering: 'job', health: HEALTHY, signers, tls: null },
      deps,
    );
    expect(result.outcome).toBe('delivered');
  }
  await sender.close();
  return received;
}

function verify(secret: SigningSecret, { headers, body }: Received): unknown {
  return new Webhook(formatSigningSecret(secret)).verify(body, headers as Record<string, string>);
}

const BODY = '{"type":"job.succeeded","data":{"job":{"output":"Zoë 🚚 \\u0000 \\\\"}}}';
const NO_MATCH = 'No matching signature found';

test.each([24, 32, 64])(
  'what arrives is verified by the standardwebhooks package: a key of %d bytes',
  async (bytes) => {
    const key = Uint8Array.from({ length: bytes }, (_, index) => index * 3);
    const secret = { scheme: 'v1', key } as const;
    const [received] = await callBack([secret], BODY);
    expect(verify(secret, received!)).toEqual(JSON.parse(BODY));
  },
);

test('what arrives is signed as the text of the specification has it', async () => {
  const secret = newSigningSecret('v1');
  const [{ headers, body }] = (await callBack([secret], BODY)) as [Received];
  // "msg_id.timestamp.payload", HMAC-SHA256, base64, with the key from behind the prefix of the secret
  const signed = `${String(headers['webhook-id'])}.${String(headers['webhook-timestamp'])}.${body.toString()}`;
  const key = Buffer.from(formatSigningSecret(secret).slice('whsec_'.length), 'base64');
  const expected = createHmac('sha256', key).update(signed).digest('base64');
  expect(headers['webhook-signature']).toBe(`v1,${expected}`);
});

test('the header fields have the form that the specification asks for', async () => {
  const before = Math.floor(Date.now() / 1000);
  const [{ headers, body }] = (await callBack([newSigningSecret('v1')], BODY)) as [Received];
  expect(headers['webhook-id']).toMatch(/^[^.\s]+$/); // a dot in it would make the signed text ambiguous
  expect(headers['webhook-timestamp']).toMatch(/^\d{10}$/);
  expect(Number(headers['webhook-timestamp'])).toBeGreaterThanOrEqual(before);
  expect(Number(headers['webhook-timestamp'])).toBeLessThanOrEqual(Math.floor(Date.now() / 1000));
  expect(headers['webhook-signature']).toMatch(/^v1,[A-Za-z0-9+/]{43}=$/);
  expect(headers['content-type']).toBe('application/json');
  expect(body.toString()).toBe(BODY);
});

test('while a secret rotates, who knows the old one and who knows the new one are both content', async () => {
  const [newest, old, other] = [newSigningSecret('v1'), newSigningSecret('v1'), newSigningSecret('v1')];
  const [received] = await callBack([newest, old], BODY);
  expect(String(received!.headers['webhook-signature']).split(' ')).toHaveLength(2);
  for (const secret of [newest, old]) expect(verify(secret, received!)).toEqual(JSON.parse(BODY));
  expect(() => verify(other, received!)).toThrow(NO_MATCH);
});

test('each attempt has the same id and the same bytes, and verifies for itself', async () => {
  const secret = newSigningSecret('v1');
  const received = await callBack([secret], BODY, 3);
  expect(received).toHaveLength(3);
  expect(new Set(received.map(({ headers }) => headers['webhook-id'])).size).toBe(1);
  for (const one of received) {
    expect(verify(secret, one)).toEqual(JSON.parse(BODY));
    expect(one.body.equals(received[0]!.body)).toBe(true);
  }
});

test.each<[string, (received: Received) => Received]>([
  ['id', ({ headers, body }) => ({ headers: { ...headers, 'webhook-id': newId('evt', Date.now()) }, body })],
  ['timestamp', ({ headers, body }) => ({ headers: { ...headers, 'webhook-timestamp': later(headers) }, body })],
  ['body', ({ headers, body }) => ({ headers, body: Buffer.from(body.toString().replace('Zoë', 'Zoe')) })],
  ['body, by a blank', ({ headers, body }) => ({ headers, body: Buffer.concat([body, Buffer.from(' ')]) })],
  ['version', ({ headers, body }) => ({ headers: signatureOf(headers, (text) => text.replace('v1,', 'v2,')), body })],
  ['signature', ({ headers, body }) => ({ headers: signatureOf(headers, () => 'v1,'.padEnd(47, 'A')), body })],
])('who changes the %s on the way is found out', async (_what, tamper) => {
  const secret = newSigningSecret('v1');
  const [received] = await callBack([secret], BODY);
  expect(verify(secret, received!)).toEqual(JSON.parse(BODY));
  expect(() => verify(secret, tamper(received!))).toThrow(NO_MATCH);
});

function later(headers: IncomingHttpHeaders): string {
  return String(Number(headers['webhook-timestamp']) + 1);
}

function signatureOf(headers: IncomingHttpHeaders, change: (text: string) => string): IncomingHttpHeaders {
  return { ...headers, 'webhook-signature': change(String(headers['webhook-signature'])) };
}

test('a callback that is kept for six minutes and sent again is too old', () => {
  const secret = newSigningSecret('v1');
  const id = newId('evt', Date.now());
  const timestamp = Math.floor(Date.now() / 1000) - 360;
  const body = Buffer.from(BODY);
  const signature = sign(signerOf('v1', secret.key), id, timestamp, body);
  const headers = { 'webhook-id': id, 'webhook-timestamp': String(timestamp), 'webhook-signature': signature };
  expect(() => verify(secret, { headers, body })).toThrow('Message timestamp too old');
});

/** As a receiver has it who knows the public key, with a library of its own; Standard Webhooks' package knows `v1` only. */
function isSignedBy(secret: SigningSecret, { headers, body }: Received): boolean {
  const x = Buffer.from(publicKeyOf(secret.key)).toString('base64url');
  const key = createPublicKey({ key: { kty: 'OKP', crv: 'Ed25519', x }, format: 'jwk' });
  const signed = `${String(headers['webhook-id'])}.${String(headers['webhook-timestamp'])}.${body.toString()}`;
  const signatures = String(headers['webhook-signature'])
    .split(' ')
    .filter((text) => text.startsWith('v1a,'));
  return signatures.some((text) => verifyWith(null, Buffer.from(signed), key, Buffer.from(text.slice(4), 'base64')));
}

test('what a v1a secret signs is verified by its public key, and by no other', async () => {
  const [secret, other] = [newSigningSecret('v1a'), newSigningSecret('v1a')];
  const [received] = await callBack([secret], BODY);
  expect(received!.headers['webhook-signature']).toMatch(/^v1a,[A-Za-z0-9+/]{86}==$/);
  expect(isSignedBy(secret, received!)).toBe(true);
  expect(isSignedBy(other, received!)).toBe(false);
  expect(isSignedBy(secret, { ...received!, body: Buffer.concat([received!.body, Buffer.from(' ')]) })).toBe(false);
});

test('while the scheme changes, who verifies v1 and who verifies v1a are both content', async () => {
  const [newest, old] = [newSigningSecret('v1a'), newSigningSecret('v1')];
  const [received] = await callBack([newest, old], BODY);
  expect(received!.headers['webhook-signature']).toMatch(/^v1a,\S+ v1,\S+$/);
  expect(verify(old, received!)).toEqual(JSON.parse(BODY));
  expect(isSignedBy(newest, received!)).toBe(true);
});
