import { createHmac } from 'node:crypto';
import { once } from 'node:events';
import { createServer, type IncomingHttpHeaders } from 'node:http';
import type { AddressInfo } from 'node:net';
import { Webhook } from 'standardwebhooks';
import { expect, onTestFinished, test } from 'vitest';
import { parseCidr } from '#domain/address.ts';
import { HEALTHY } from '#domain/circuit.ts';
import { newId } from '#domain/ids.ts';
import { formatSigningSecret, newSigningKey, signingKeyOf, signV1 } from '#domain/signature.ts';
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

/** Sends a delivery as a courier does, signed with these keys, and gives what arrived. */
async function callBack(keys: readonly Uint8Array[], body: string, times = 1): Promise<Received[]> {
  const { url, received } = await receive();
  const policy = { allow: [parseCidr('127.0.0.0/8')!], allowHttp: false, ports: [443] };
  const sender = createSender({ policy, userAgent: 'Ringback/test' });
  const endpointId = newId('ep', Date.now());
  const signers = keys.map((key) => ({ id: newId('sec', Date.now()), key: signingKeyOf(key) }));
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
  const deps = { sender, workerId: newId('wrk', Date.now()), schedule: [0], timeoutMs: 5000 };
  for (let time = 0; time < times; time++) {
    const { result } = await attempt(
      delivery,
      { endpointId, url, headers: {}, ordering: 'job', health: HEALTHY, signers },
      deps,
    );
    expect(result.outcome).toBe('delivered');
  }
  await sender.close();
  return received;
}

function verify(secret: string, { headers, body }: Received): unknown {
  return new Webhook(secret).verify(body, headers as Record<string, string>);
}

const BODY = '{"type":"job.succeeded","data":{"job":{"output":"Zoë 🚚 \\u0000 \\\\"}}}';
const NO_MATCH = 'No matching signature found';

test.each([24, 32, 64])(
  'what arrives is verified by the standardwebhooks package: a key of %d bytes',
  async (bytes) => {
    const key = Uint8Array.from({ length: bytes }, (_, index) => index * 3);
    const [received] = await callBack([key], BODY);
    expect(verify(formatSigningSecret(key), received!)).toEqual(JSON.parse(BODY));
  },
);

test('what arrives is signed as the text of the specification has it', async () => {
  const key = newSigningKey();
  const [{ headers, body }] = (await callBack([key], BODY)) as [Received];
  // "msg_id.timestamp.payload", HMAC-SHA256, base64, with the key from behind the prefix of the secret
  const signed = `${String(headers['webhook-id'])}.${String(headers['webhook-timestamp'])}.${body.toString()}`;
  const secret = Buffer.from(formatSigningSecret(key).slice('whsec_'.length), 'base64');
  const expected = createHmac('sha256', secret).update(signed).digest('base64');
  expect(headers['webhook-signature']).toBe(`v1,${expected}`);
});

test('the header fields have the form that the specification asks for', async () => {
  const before = Math.floor(Date.now() / 1000);
  const [{ headers, body }] = (await callBack([newSigningKey()], BODY)) as [Received];
  expect(headers['webhook-id']).toMatch(/^[^.\s]+$/); // a dot in it would make the signed text ambiguous
  expect(headers['webhook-timestamp']).toMatch(/^\d{10}$/);
  expect(Number(headers['webhook-timestamp'])).toBeGreaterThanOrEqual(before);
  expect(Number(headers['webhook-timestamp'])).toBeLessThanOrEqual(Math.floor(Date.now() / 1000));
  expect(headers['webhook-signature']).toMatch(/^v1,[A-Za-z0-9+/]{43}=$/);
  expect(headers['content-type']).toBe('application/json');
  expect(body.toString()).toBe(BODY);
});

test('while a secret rotates, who knows the old one and who knows the new one are both content', async () => {
  const [newest, old, other] = [newSigningKey(), newSigningKey(), newSigningKey()];
  const [received] = await callBack([newest, old], BODY);
  expect(String(received!.headers['webhook-signature']).split(' ')).toHaveLength(2);
  for (const key of [newest, old]) expect(verify(formatSigningSecret(key), received!)).toEqual(JSON.parse(BODY));
  expect(() => verify(formatSigningSecret(other), received!)).toThrow(NO_MATCH);
});

test('each attempt has the same id and the same bytes, and verifies for itself', async () => {
  const key = newSigningKey();
  const received = await callBack([key], BODY, 3);
  expect(received).toHaveLength(3);
  expect(new Set(received.map(({ headers }) => headers['webhook-id'])).size).toBe(1);
  for (const one of received) {
    expect(verify(formatSigningSecret(key), one)).toEqual(JSON.parse(BODY));
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
  const key = newSigningKey();
  const [received] = await callBack([key], BODY);
  expect(verify(formatSigningSecret(key), received!)).toEqual(JSON.parse(BODY));
  expect(() => verify(formatSigningSecret(key), tamper(received!))).toThrow(NO_MATCH);
});

function later(headers: IncomingHttpHeaders): string {
  return String(Number(headers['webhook-timestamp']) + 1);
}

function signatureOf(headers: IncomingHttpHeaders, change: (text: string) => string): IncomingHttpHeaders {
  return { ...headers, 'webhook-signature': change(String(headers['webhook-signature'])) };
}

test('a callback that is kept for six minutes and sent again is too old', () => {
  const key = newSigningKey();
  const id = newId('evt', Date.now());
  const timestamp = Math.floor(Date.now() / 1000) - 360;
  const body = Buffer.from(BODY);
  const signature = signV1(signingKeyOf(key), id, timestamp, body);
  const headers = { 'webhook-id': id, 'webhook-timestamp': String(timestamp), 'webhook-signature': signature };
  expect(() => verify(formatSigningSecret(key), { headers, body })).toThrow('Message timestamp too old');
});
