import { once } from 'node:events';
import https from 'node:https';
import net from 'node:net';
import { text } from 'node:stream/consumers';
import { describe, expect, test } from 'vitest';
import { parseCidr } from '#domain/address.ts';
import { isOurFault } from '#domain/attempt.ts';
import { TEST_CERTIFICATE, TEST_KEY } from './certificates.ts';
import { listenConnect, listenSocks, proxyAt } from './proxies.ts';
import { ALLOW_NOTHING, flood, listen, listenHttp, listenRaw, makeSender, request, urlOf } from './receivers.ts';

const LOGIN = { user: 'bob', password: 'a:b' };
const BASIC = `Basic ${Buffer.from('bob:a:b').toString('base64')}`;

function listenHttps() {
  return listen(https.createServer({ key: TEST_KEY, cert: TEST_CERTIFICATE }, (_, response) => response.end('ok')));
}

/** A port of this machine where nobody listens. */
async function closedPort(): Promise<number> {
  const server = net.createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as net.AddressInfo;
  server.close();
  await once(server, 'close');
  return port;
}

describe.each([
  ['http', () => listenConnect('http'), BASIC],
  ['https', () => listenConnect('https'), BASIC],
  ['socks5', () => listenSocks({ login: LOGIN, slowly: true }), 'bob:a:b'],
] as const)('through a proxy of the kind %s', (scheme, start, credentials) => {
  test('a callback is delivered, over a connection that is used again', async () => {
    const proxy = await start();
    const seen: string[] = [];
    const receiver = await listenHttp(async (incoming, response) => {
      seen.push(`${incoming.headers.host} ${incoming.headers['proxy-authorization']} ${await text(incoming)}`);
      response.end('ok');
    });
    const sender = makeSender({
      proxy: proxyAt(`${scheme}://bob:a%3Ab@127.0.0.1:${proxy.port}`),
      tls: { ca: TEST_CERTIFICATE },
      resolve: async () => ['127.0.0.1'],
    });
    for (const _ of [1, 2]) {
      const result = await sender.send(request(`http://receiver.test:${receiver.port}/`, { body: Buffer.from('hi') }));
      expect(result).toMatchObject({ outcome: 'delivered', remoteAddress: '127.0.0.1', response: { status: 200 } });
    }
    expect(seen).toEqual(Array(2).fill(`receiver.test:${receiver.port} undefined hi`));
    expect(proxy.asked).toEqual([`127.0.0.1:${receiver.port}`]); // the judged address, not the name
    expect(proxy.credentials()).toBe(credentials);
    expect([proxy.connections(), receiver.connections()]).toEqual([1, 1]);
  });

  test('TLS is with the receiver, by its name', async () => {
    const proxy = await start();
    const receiver = await listenHttps();
    const sender = makeSender({
      proxy: proxyAt(`${scheme}://bob:a%3Ab@127.0.0.1:${proxy.port}`),
      tls: { ca: TEST_CERTIFICATE },
      resolve: async () => ['127.0.0.1'],
    });
    const result = await sender.send(request(`https://receiver.test:${receiver.port}/`));
    expect(result).toMatchObject({ outcome: 'delivered', timings: { tlsMs: expect.any(Number) } });
    const other = await sender.send(request(`https://other.test:${receiver.port}/`));
    expect(other.errorCode).toBe('tls_certificate_invalid');
  });

  test('a response without bounds is cut', async () => {
    const proxy = await start();
    const receiver = await listenRaw((socket) => {
      socket.write('HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n');
      flood(socket, `1;x=${'y'.repeat(8000)}\r\nx\r\n`); // it is the bytes of the wire that end this
    });
    const sender = makeSender({
      proxy: proxyAt(`${scheme}://bob:a%3Ab@127.0.0.1:${proxy.port}`),
      tls: { ca: TEST_CERTIFICATE },
    });
    const result = await sender.send(request(urlOf(receiver)));
    expect(result).toMatchObject({ outcome: 'protocol', errorCode: 'response_too_large' });
    await receiver.allClosed();
  });

  test('the guard judges before the proxy hears of anything', async () => {
    const proxy = await start();
    const receiver = await listenHttp((_, response) => response.end());
    const sender = makeSender({
      policy: { ...ALLOW_NOTHING, allowHttp: true, ports: [receiver.port] },
      proxy: proxyAt(`${scheme}://bob:a%3Ab@127.0.0.1:${proxy.port}`),
      resolve: async () => ['192.0.3.1', '127.0.0.1'],
    });
    for (const host of ['127.0.0.1', '[::ffff:127.0.0.1]', 'mixed.test']) {
      const result = await sender.send(request(`http://${host}:${receiver.port}/`));
      expect(result).toMatchObject({ outcome: 'blocked', errorCode: 'address_forbidden' });
    }
    expect([proxy.connections(), receiver.connections()]).toEqual([0, 0]);
  });
});

describe('a proxy that is no help', () => {
  /** Any receiver: nothing of it is reached. */
  const target = request('http://127.0.0.1:9/', { timeoutMs: 5000 });

  test('because nobody listens there, or its name does not exist', async () => {
    const port = await closedPort();
    const refused = await makeSender({ proxy: proxyAt(`http://127.0.0.1:${port}`) }).send(target);
    const resolve = () => Promise.reject(Object.assign(new Error('x'), { code: 'ENOTFOUND' }));
    const nameless = await makeSender({ proxy: proxyAt('socks5://proxy.test'), resolve }).send(target);
    for (const result of [refused, nameless]) {
      expect(result).toMatchObject({ outcome: 'network', errorCode: 'proxy_unreachable', remoteAddress: null });
    }
    expect([refused.errorDetail, nameless.errorDetail].join()).toMatch(/ECONNREFUSED.*ENOTFOUND/);
  });

  test.each([
    ['asks for another login', '407 Proxy Authentication Required', 'blocked', 'proxy_auth_failed'],
    ['forbids it', '403 Forbidden', 'blocked', 'proxy_denied'],
    ['redirects', '302 Found\r\nlocation: http://10.0.0.1/', 'blocked', 'proxy_denied'],
    ['fails', '500 Oops', 'blocked', 'proxy_denied'],
    ['cannot reach the receiver', '502 Bad Gateway', 'network', 'proxy_target_unreachable'],
    ['has no room', '503 Service Unavailable', 'network', 'proxy_target_unreachable'],
    ['waits in vain', '504 Gateway Timeout', 'network', 'proxy_target_unreachable'],
    ['sends an interim response', '100 Continue', 'protocol', 'proxy_invalid_answer'],
    ['has a status of two digits', '20 OK', 'protocol', 'proxy_invalid_answer'],
    ['speaks for the receiver', '200 OK\r\n\r\nHTTP/1.1 200 OK', 'protocol', 'proxy_invalid_answer'],
  ])('because it %s', async (_, answer, outcome, errorCode) => {
    const proxy = await listenRaw((socket) => socket.write(`HTTP/1.1 ${answer}\r\n\r\n`));
    const result = await makeSender({ proxy: proxyAt(`http://127.0.0.1:${proxy.port}`) }).send(target);
    expect(result).toMatchObject({ outcome, errorCode, response: null });
    expect(isOurFault(result.errorCode)).toBe(true);
    await proxy.allClosed();
  });

  test.each<[string, (socket: net.Socket) => void, string, string]>([
    ['speaks SSH', (socket) => socket.write('SSH-2.0-OpenSSH\r\n'), 'protocol', 'proxy_invalid_answer'],
    [
      'sends headers without end',
      (socket) => flood(socket, `HTTP/1.1 200 OK\r\n${'x: y\r\n'.repeat(2000)}`),
      'protocol',
      'proxy_invalid_answer',
    ],
    ['hangs up', (socket) => socket.end(), 'network', 'proxy_unreachable'],
    ['resets', (socket) => socket.resetAndDestroy(), 'network', 'proxy_unreachable'],
    ['says nothing', () => {}, 'timeout', 'proxy_timeout'],
  ])('because it %s', async (_, answer, outcome, errorCode) => {
    for (const scheme of ['http', 'socks5']) {
      const proxy = await listenRaw(answer);
      const sender = makeSender({ proxy: proxyAt(`${scheme}://127.0.0.1:${proxy.port}`) });
      const result = await sender.send({ ...target, timeoutMs: 300 });
      expect(result).toMatchObject({ outcome, errorCode, response: null, remoteAddress: null });
      await proxy.allClosed();
    }
  });

  test('because its certificate is not trusted, or it speaks no TLS', async () => {
    const proxy = await listenConnect('https');
    const sender = makeSender({ proxy: proxyAt(`https://127.0.0.1:${proxy.port}`) });
    const untrusted = await sender.send(target);
    expect(untrusted).toMatchObject({ outcome: 'tls', errorCode: 'proxy_tls_failed' });
    expect(untrusted.errorDetail).toContain('DEPTH_ZERO_SELF_SIGNED_CERT');
    const plain = await listenRaw((socket) => socket.end('HTTP/1.1 400 Bad Request\r\n\r\n'));
    const other = makeSender({ proxy: proxyAt(`https://127.0.0.1:${plain.port}`) });
    expect((await other.send(target)).errorCode).toBe('proxy_tls_failed');
    expect(proxy.asked).toEqual([]);
  });

  test.each([
    [1, 'network', 'proxy_target_unreachable', true],
    [2, 'blocked', 'proxy_denied', true],
    [3, 'network', 'host_unreachable', false],
    [4, 'network', 'host_unreachable', false],
    [5, 'network', 'connection_refused', false],
    [6, 'network', 'host_unreachable', false],
    [7, 'blocked', 'proxy_denied', true],
    [99, 'blocked', 'proxy_denied', true],
  ])('because of SOCKS reply %i', async (reply, outcome, errorCode, ours) => {
    const proxy = await listenSocks({ reply });
    const result = await makeSender({ proxy: proxyAt(`socks5://127.0.0.1:${proxy.port}`) }).send(target);
    expect(result).toMatchObject({ outcome, errorCode });
    expect(isOurFault(result.errorCode)).toBe(ours);
    await proxy.allClosed();
  });

  test.each([
    ['a login is missing', undefined],
    ['the login is wrong', { user: 'bob', password: 'other' }],
    ['a login is offered and not wanted', null],
  ])('because %s, over SOCKS', async (_, login) => {
    const proxy = await listenSocks(login === null ? {} : { login: login ?? LOGIN });
    const before = login === undefined ? '' : 'bob:a%3Ab@';
    const result = await makeSender({ proxy: proxyAt(`socks5://${before}127.0.0.1:${proxy.port}`) }).send(target);
    expect(result).toMatchObject({ outcome: 'blocked', errorCode: 'proxy_auth_failed' });
    expect(proxy.asked).toEqual([]);
  });
});

test.each(['http', 'socks5'] as const)('a %s proxy is asked for the next address of a name', async (scheme) => {
  const proxy = await (scheme === 'http' ? listenConnect() : listenSocks());
  const receiver = await listenHttp((_, response) => response.end());
  const sender = makeSender({
    proxy: proxyAt(`${scheme}://127.0.0.1:${proxy.port}`),
    resolve: async () => ['127.0.0.2', '127.0.0.1'],
  });
  const result = await sender.send(request(`http://receiver.test:${receiver.port}/`));
  expect(result).toMatchObject({ outcome: 'delivered', remoteAddress: '127.0.0.1' });
  expect(proxy.asked).toEqual([`127.0.0.2:${receiver.port}`, `127.0.0.1:${receiver.port}`]);
});

describe('a source address', () => {
  test('is where connections come from, those to the proxy too', async () => {
    const sources: Array<string | undefined> = [];
    const receiver = await listenHttp(({ socket }, response) => {
      sources.push(socket.remoteAddress);
      response.end();
    });
    const direct = await makeSender({ localAddress: '127.0.0.9' }).send(request(urlOf(receiver)));
    expect([direct.outcome, sources]).toEqual(['delivered', ['127.0.0.9']]);
    const own = net.createServer((socket) => sources.push(socket.remoteAddress) && socket.destroy());
    const { port } = await listen(own);
    await makeSender({ localAddress: '127.0.0.9', proxy: proxyAt(`http://127.0.0.1:${port}`) }).send(
      request(urlOf(receiver)),
    );
    expect(sources).toEqual(['127.0.0.9', '127.0.0.9']);
  });

  test.each([
    ["is none of this machine's", '192.0.2.1', ['127.0.0.1']],
    ['is of another family than the receiver', '127.0.0.9', ['::1']],
  ])('that %s fails the attempt, and nothing is charged to the receiver', async (_, localAddress, addresses) => {
    const receiver = await listenHttp((__, response) => response.end());
    const policy = { ...ALLOW_NOTHING, allow: [parseCidr('127.0.0.0/8')!, parseCidr('::1')!] };
    const sender = makeSender({ policy, localAddress, resolve: async () => addresses });
    const result = await sender.send(request(`http://receiver.test:${receiver.port}/`));
    expect(result).toMatchObject({ outcome: 'network', errorCode: 'source_address_unusable' });
    expect(isOurFault(result.errorCode)).toBe(true);
    expect(receiver.connections()).toBe(0);
  });
});
