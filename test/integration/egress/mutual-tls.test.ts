import { spawn } from 'node:child_process';
import { generateKeyPairSync } from 'node:crypto';
import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import https from 'node:https';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type { TLSSocket } from 'node:tls';
import { describe, expect, onTestFinished, test } from 'vitest';
import { openIdentity, type TlsIdentity } from '#egress/identity.ts';
import { EXPIRED_CERTIFICATE, OTHER_CERTIFICATE, OTHER_KEY, TEST_CERTIFICATE, TEST_KEY } from './certificates.ts';
import { listen, makeSender, request, type Receiver } from './receivers.ts';

const toLoopback = async () => ['127.0.0.1'];
const trusting = { resolve: toLoopback, tls: { ca: TEST_CERTIFICATE } };
const CLIENT: TlsIdentity = { cert: TEST_CERTIFICATE, key: TEST_KEY, fingerprint: 'client' };
const OTHER: TlsIdentity = { cert: OTHER_CERTIFICATE, key: OTHER_KEY, fingerprint: 'other' };

/** Answers with the name in the client's certificate, whoever has issued it. */
async function listenHttps(options: https.ServerOptions = {}): Promise<Receiver> {
  const own = { key: TEST_KEY, cert: TEST_CERTIFICATE, requestCert: true, rejectUnauthorized: false };
  const server = https.createServer({ ...own, ...options }, (incoming, response) => {
    response.end(String((incoming.socket as TLSSocket).getPeerCertificate().subject?.CN));
  });
  server.on('tlsClientError', () => {});
  return listen(server);
}

/** Node's own server checks clients after the handshake and hangs up without a word; most others send an alert. */
const STRICT_SERVER = `
import socket, ssl, sys
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(sys.argv[1])
context.load_verify_locations(sys.argv[2])
context.verify_mode = ssl.CERT_REQUIRED
context.minimum_version = context.maximum_version = getattr(ssl.TLSVersion, sys.argv[3])
server = socket.create_server(("127.0.0.1", 0))
print(server.getsockname()[1], flush=True)
while True:
    connection, _ = server.accept()
    try:
        secured = context.wrap_socket(connection, server_side=True)
        secured.recv(65536)
        secured.sendall(b"HTTP/1.1 200 OK\\r\\ncontent-length: 0\\r\\nconnection: close\\r\\n\\r\\n")
        secured.close()
    except OSError:
        connection.close()
`;

/** The URL of a server that demands a certificate of one of `authorities`. */
async function listenStrictly(version: 'TLSv1_2' | 'TLSv1_3', authorities: string): Promise<string> {
  const folder = await mkdtemp(path.join(tmpdir(), 'ringback-mutual-tls-'));
  const [own, trusted] = [path.join(folder, 'own.pem'), path.join(folder, 'trusted.pem')];
  await writeFile(own, TEST_KEY + TEST_CERTIFICATE);
  await writeFile(trusted, authorities);
  const child = spawn('python3', ['-c', STRICT_SERVER, own, trusted, version], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  onTestFinished(async () => {
    child.kill();
    await rm(folder, { recursive: true });
  });
  const [port] = (await once(child.stdout, 'data')) as [Buffer];
  return `https://receiver.test:${Number(String(port))}/`;
}

describe('a client certificate', () => {
  test('is shown to the receiver, by the request that has it and by no other', async () => {
    const receiver = await listenHttps();
    const sender = makeSender(trusting);
    const url = `https://receiver.test:${receiver.port}/`;
    const names: string[] = [];
    for (const tls of [CLIENT, undefined, OTHER, CLIENT, undefined, OTHER]) {
      const { outcome, response } = await sender.send(request(url, { tls }));
      expect(outcome).toBe('delivered');
      names.push(Buffer.from(response!.bodyPrefix).toString());
    }
    const each = ['Ringback tests', 'undefined', 'Ringback tests, another'];
    expect(names).toEqual([...each, ...each]);
    expect(receiver.connections()).toBe(3); // each kept its own
  });

  test.each(['TLSv1_2', 'TLSv1_3'] as const)(
    'is demanded over %s: the right one, not another, nor none',
    async (tls) => {
      const url = await listenStrictly(tls, TEST_CERTIFICATE + EXPIRED_CERTIFICATE);
      const sender = makeSender(trusting);
      const refused = { outcome: 'tls', errorCode: 'tls_client_certificate_refused', response: null };
      expect(await sender.send(request(url, { tls: CLIENT }))).toMatchObject({ outcome: 'delivered' });
      expect(await sender.send(request(url, { tls: OTHER }))).toMatchObject(refused);
      const expired = { cert: EXPIRED_CERTIFICATE, key: TEST_KEY, fingerprint: 'expired' };
      expect(await sender.send(request(url, { tls: expired }))).toMatchObject(refused);
      const none = tls === 'TLSv1_3' ? refused : { outcome: 'tls', errorCode: 'tls_handshake_failed', response: null };
      const result = await sender.send(request(url));
      expect(result).toMatchObject(none);
      expect(result.errorDetail).toMatch(/\(ERR_SSL_\w+/);
    },
  );

  test.each(['TLSv1.2', 'TLSv1.3'] as const)('that a receiver drops over %s without a word', async (version) => {
    const options = { rejectUnauthorized: true, ca: TEST_CERTIFICATE, minVersion: version, maxVersion: version };
    const receiver = await listenHttps(options);
    const result = await makeSender(trusting).send(request(`https://receiver.test:${receiver.port}/`, { tls: OTHER }));
    expect(result.response).toBeNull();
    expect(['tls_handshake_failed', 'connection_closed', 'connection_reset']).toContain(result.errorCode);
    await receiver.allClosed();
  });
});

describe('authorities of an endpoint', () => {
  test('are trusted instead of the others, by the request that has them and by no other', async () => {
    const receiver = await listenHttps({ key: OTHER_KEY, cert: OTHER_CERTIFICATE });
    const sender = makeSender(trusting);
    const url = `https://receiver.test:${receiver.port}/`;
    const own = { ca: OTHER_CERTIFICATE, fingerprint: 'ca' };
    const codeOf = async (tls?: TlsIdentity) => (await sender.send(request(url, { tls }))).errorCode;
    expect(await codeOf(own)).toBeNull();
    expect(await codeOf()).toBe('tls_certificate_invalid');
    expect(await codeOf({ ca: TEST_CERTIFICATE + OTHER_CERTIFICATE, fingerprint: 'both' })).toBeNull();
    const first = await listenHttps();
    const result = await sender.send(request(`https://receiver.test:${first.port}/`, { tls: own }));
    expect(result.errorCode).toBe('tls_certificate_invalid');
  });

  test('stay apart however many there are', async () => {
    const receiver = await listenHttps();
    const sender = makeSender(trusting);
    const url = `https://receiver.test:${receiver.port}/`;
    const send = (index: number) => sender.send(request(url, { tls: { ...CLIENT, fingerprint: `client ${index}` } }));
    for (let index = 0; index < 250; index++) expect((await send(index)).outcome).toBe('delivered');
    expect(receiver.connections()).toBe(250);
  });
});

describe('an identity that cannot be used', () => {
  const encrypted = generateKeyPairSync('ec', {
    namedCurve: 'P-256',
    publicKeyEncoding: { type: 'spki', format: 'pem' },
    privateKeyEncoding: { type: 'pkcs8', format: 'pem', cipher: 'aes-256-cbc', passphrase: 'secret' },
  }).privateKey;
  const { privateKey: ofAnotherKind } = generateKeyPairSync('ed25519', {
    publicKeyEncoding: { type: 'spki', format: 'pem' },
    privateKeyEncoding: { type: 'pkcs8', format: 'pem' },
  });
  const cut = `${TEST_CERTIFICATE.slice(0, 300)}\n-----END CERTIFICATE-----\n`;

  test.each<[string, Omit<TlsIdentity, 'fingerprint'>]>([
    ['authorities that are none', { ca: 'nonsense' }],
    ['empty authorities', { ca: '' }],
    ['a key for an authority', { ca: TEST_KEY }],
    ['an authority cut short', { ca: cut }],
    ['a good authority and a bad one', { ca: TEST_CERTIFICATE + cut }],
    ['a certificate without its key', { cert: TEST_CERTIFICATE }],
    ['a key without its certificate', { key: TEST_KEY }],
    ['a certificate that is none', { cert: 'nonsense', key: TEST_KEY }],
    ['a key that is none', { cert: TEST_CERTIFICATE, key: 'nonsense' }],
    ['a key of another certificate', { cert: TEST_CERTIFICATE, key: OTHER_KEY }],
    ['a key of another kind', { cert: TEST_CERTIFICATE, key: ofAnotherKind }],
    ['the certificate behind another one', { cert: OTHER_CERTIFICATE + TEST_CERTIFICATE, key: TEST_KEY }],
    ['an encrypted key', { cert: TEST_CERTIFICATE, key: encrypted }],
    ['NUL', { cert: `\0${TEST_CERTIFICATE.slice(1)}`, key: '\0' }],
  ])('has %s: nothing is sent, and nothing of it is quoted', async (...[, identity]) => {
    const receiver = await listenHttps();
    const url = `https://receiver.test:${receiver.port}/`;
    const sender = makeSender(trusting);
    // As who stores it would be told.
    expect(openIdentity({ ...identity, fingerprint: 'bad' })).toMatchObject({
      failure: { code: 'tls_identity_invalid' },
    });
    for (const _ of [1, 2]) {
      const result = await sender.send(request(url, { tls: { ...identity, fingerprint: 'bad' } }));
      expect(result).toMatchObject({ outcome: 'blocked', errorCode: 'tls_identity_invalid', remoteAddress: null });
      expect(result.errorDetail).not.toMatch(/nonsense|BEGIN|MII/);
    }
    expect(receiver.connections()).toBe(0);
  });
});
