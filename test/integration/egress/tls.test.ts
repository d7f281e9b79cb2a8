import https from 'node:https';
import type net from 'node:net';
import type { TLSSocket } from 'node:tls';
import { describe, expect, test } from 'vitest';
import { EXPIRED_CERTIFICATE, TEST_CERTIFICATE, TEST_KEY } from './certificates.ts';
import { listen, listenRaw, makeSender, request, type Receiver } from './receivers.ts';

const toLoopback = async () => ['127.0.0.1'];
const trusting = { resolve: toLoopback, tls: { ca: TEST_CERTIFICATE } };

async function listenHttps(cert = TEST_CERTIFICATE, options: https.ServerOptions = {}) {
  const seen: Array<{ host: string | undefined; servername: unknown }> = [];
  const server = https.createServer({ key: TEST_KEY, cert, ...options }, (incoming, response) => {
    seen.push({ host: incoming.headers.host, servername: (incoming.socket as TLSSocket).servername });
    response.end('ok');
  });
  server.on('tlsClientError', () => {});
  const receiver: Receiver = await listen(server);
  return { ...receiver, seen };
}

describe('over TLS', () => {
  test('the certificate and the server name go by the name, the connection by the judged address', async () => {
    const receiver = await listenHttps();
    const sender = makeSender(trusting);
    const url = `https://receiver.test:${receiver.port}/`;
    const first = await sender.send(request(url));
    expect(first).toMatchObject({ outcome: 'delivered', remoteAddress: '127.0.0.1', response: { status: 200 } });
    expect(first.timings).toMatchObject({ connectMs: expect.any(Number), tlsMs: expect.any(Number) });
    const second = await sender.send(request(url));
    expect(second).toMatchObject({ outcome: 'delivered', timings: { dnsMs: null, connectMs: null, tlsMs: null } });
    expect(receiver.seen).toEqual(
      Array.from({ length: 2 }, () => ({ host: `receiver.test:${receiver.port}`, servername: 'receiver.test' })),
    );
    expect(receiver.connections()).toBe(1);
  });

  test('an address literal is checked against the addresses of the certificate', async () => {
    const receiver = await listenHttps();
    const result = await makeSender(trusting).send(request(`https://127.0.0.1:${receiver.port}/`));
    expect(result.outcome).toBe('delivered');
    expect(receiver.seen[0]).toMatchObject({ servername: false });
  });

  test('a final dot belongs to the host header, not to the server name', async () => {
    const receiver = await listenHttps();
    const result = await makeSender(trusting).send(request(`https://receiver.test.:${receiver.port}/`));
    expect(result.outcome).toBe('delivered');
    expect(receiver.seen).toEqual([{ host: `receiver.test.:${receiver.port}`, servername: 'receiver.test' }]);
  });

  test.each([
    ['self-signed', 'receiver.test', TEST_CERTIFICATE, { resolve: toLoopback }, 'is self-signed'],
    ['expired', 'receiver.test', EXPIRED_CERTIFICATE, { ...trusting, tls: { ca: EXPIRED_CERTIFICATE } }, 'has expired'],
    ['for another name', 'other.test', TEST_CERTIFICATE, trusting, 'is for another host name'],
  ])('a certificate that is %s is refused, and nothing is sent', async (_, host, certificate, options, detail) => {
    const receiver = await listenHttps(certificate);
    const result = await makeSender(options).send(request(`https://${host}:${receiver.port}/`));
    expect(result).toMatchObject({
      outcome: 'tls',
      errorCode: 'tls_certificate_invalid',
      errorDetail: expect.stringContaining(detail),
      remoteAddress: '127.0.0.1',
      response: null,
    });
    expect(receiver.seen).toEqual([]);
    await receiver.allClosed();
  });

  test('the environment cannot switch verification off', async () => {
    const receiver = await listenHttps();
    const before = process.env['NODE_TLS_REJECT_UNAUTHORIZED'];
    try {
      process.env['NODE_TLS_REJECT_UNAUTHORIZED'] = '0';
      const sender = makeSender({ resolve: toLoopback });
      const result = await sender.send(request(`https://receiver.test:${receiver.port}/`));
      expect(result.errorCode).toBe('tls_certificate_invalid');
    } finally {
      if (before === undefined) delete process.env['NODE_TLS_REJECT_UNAUTHORIZED'];
      else process.env['NODE_TLS_REJECT_UNAUTHORIZED'] = before;
    }
  });

  test.each<[string, (socket: net.Socket) => void]>([
    ['speaks plain HTTP', (socket) => socket.end('HTTP/1.1 400 Bad Request\r\n\r\n')],
    ['hangs up', (socket) => socket.end()],
    ['resets', (socket) => socket.resetAndDestroy()],
  ])('a receiver that %s has failed the handshake', async (_, answer) => {
    const receiver = await listenRaw(answer);
    const result = await makeSender(trusting).send(request(`https://receiver.test:${receiver.port}/`));
    expect(result).toMatchObject({ outcome: 'tls', errorCode: 'tls_handshake_failed', response: null });
    expect(result.errorDetail).not.toContain('Bad Request');
  });

  test.each([
    ['TLSv1.2', 'tls_handshake_failed'],
    ['TLSv1.3', 'tls_client_certificate_refused'],
  ] as const)('a receiver that wants a %s client certificate: %s', async (version, errorCode) => {
    const options = { requestCert: true, ca: TEST_CERTIFICATE, minVersion: version, maxVersion: version };
    const receiver = await listenHttps(TEST_CERTIFICATE, options);
    const result = await makeSender(trusting).send(request(`https://receiver.test:${receiver.port}/`));
    expect(result).toMatchObject({ outcome: 'tls', errorCode });
    expect(result.errorDetail).toContain('_ALERT_');
  });

  test('a plain URL to a TLS port is no HTTP', async () => {
    const receiver = await listenHttps();
    const result = await makeSender(trusting).send(request(`http://receiver.test:${receiver.port}/`));
    expect(result.response).toBeNull();
    expect(['protocol', 'network']).toContain(result.outcome);
  });
});
