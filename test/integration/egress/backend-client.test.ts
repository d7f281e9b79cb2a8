import { once } from 'node:events';
import https from 'node:https';
import net from 'node:net';
import { buffer, text } from 'node:stream/consumers';
import { describe, expect, onTestFinished, test, vi } from 'vitest';
import { BodyTooLargeError } from '#egress/failure.ts';
import { eventually } from '../../support/eventually.ts';
import { ask, closed, failureOf, makeClient, MIB, never, responseOf } from './backends.ts';
import { TEST_CERTIFICATE, TEST_KEY } from './certificates.ts';
import { flood, listen, listenHttp, listenRaw, urlOf } from './receivers.ts';

describe('a back end that answers', () => {
  test('gets method, path, query, headers and body; nothing of ours but what is needed', async () => {
    const seen = Promise.withResolvers<{ line: string; headers: string[]; body: string }>();
    const receiver = await listenHttp(async (incoming, response) => {
      const line = `${incoming.method} ${incoming.url}`;
      seen.resolve({ line, headers: incoming.rawHeaders, body: await text(incoming) });
      response.writeHead(201, { 'X-Trace': ['a', 'b'] }).end('made');
    });
    const request = ask(urlOf(receiver, '/do?key=1'), {
      method: 'PUT',
      query: 'a=b+c',
      headers: { 'x-own': 'y' },
      body: '{"ä":1}',
    });
    const response = responseOf(await makeClient().send(request, never));
    expect(response.status).toBe(201);
    expect(response.header('x-trace')).toBe('a, b');
    expect(await text(response.body)).toBe('made');
    const { line, headers, body } = await seen.promise;
    expect(line).toBe('PUT /do?key=1&a=b+c');
    expect(body).toBe('{"ä":1}');
    const pairs = headers.flatMap((name, index) => (index % 2 === 0 ? [`${name}: ${headers[index + 1]}`] : []));
    expect(pairs.sort()).toEqual([
      'accept-encoding: identity',
      'connection: keep-alive',
      'content-length: 8',
      `host: 127.0.0.1:${receiver.port}`,
      'user-agent: Ringback/test',
      'x-own: y',
    ]);
  });

  test('may be asked for under another host name, said once', async () => {
    const hosts: string[] = [];
    const receiver = await listenHttp((incoming, response) => {
      hosts.push(...incoming.rawHeaders.filter((_, index, all) => all[index - 1] === 'host'));
      response.end();
    });
    responseOf(await makeClient().send(ask(receiver, { headers: { host: 'pdf.internal' } }), never));
    expect(hosts).toEqual(['pdf.internal']);
  });

  test('may say that it is at work as often as it likes', async () => {
    const receiver = await listenRaw((socket) => {
      socket.write('HTTP/1.1 102 Processing\r\n\r\n'.repeat(500));
      socket.write('HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\ndone');
    });
    const { status, body } = responseOf(await makeClient().send(ask(receiver), never));
    expect([status, await text(body)]).toEqual([200, 'done']);
  });

  test('is not followed when it redirects to itself for ever', async () => {
    const receiver = await listenHttp((_, response) => response.writeHead(302, { location: '/' }).end());
    expect(responseOf(await makeClient().send(ask(receiver), never)).status).toBe(302);
  });

  test('is not reached through a proxy of the environment', async () => {
    const proxy = await listenHttp((_, response) => response.end('proxy'));
    const receiver = await listenHttp((_, response) => response.end('direct'));
    vi.stubEnv('http_proxy', urlOf(proxy)).stubEnv('HTTP_PROXY', urlOf(proxy)).stubEnv('NODE_USE_ENV_PROXY', '1');
    onTestFinished(() => void vi.unstubAllEnvs());
    const { body } = responseOf(await makeClient().send(ask(receiver), never));
    expect([await text(body), proxy.connections()]).toEqual(['direct', 0]);
  });

  test('in gzip is not decompressed', async () => {
    const receiver = await listenHttp((_, response) =>
      response.writeHead(200, { 'content-encoding': 'gzip' }).end(Buffer.from([31, 139, 8, 0])),
    );
    const response = responseOf(await makeClient().send(ask(receiver), never));
    expect(response.header('content-encoding')).toBe('gzip');
    expect(await buffer(response.body)).toEqual(Buffer.from([31, 139, 8, 0]));
  });
});

describe('the body', () => {
  test('is taken no faster than it is read, and is whole', async () => {
    const total = 64 * MIB;
    let handedOver = 0;
    const receiver = await listenHttp((_, response) => {
      response.writeHead(200);
      const more = () => {
        while (handedOver < total) {
          handedOver += 65_536;
          if (!response.write(Buffer.alloc(65_536, handedOver / 65_536))) return;
        }
        response.end();
      };
      response.on('drain', more);
      more();
    });
    const { body } = responseOf(await makeClient().send(ask(receiver, { maxBodyBytes: total }), never));
    await once(body, 'readable');
    const stalled = await settled(() => handedOver);
    expect(stalled).toBeLessThan(32 * MIB); // what kernel and sockets hold of it
    let read = 0;
    for await (const chunk of body as AsyncIterable<Buffer>) {
      expect(chunk[0]).toBe((Math.floor(read / 65_536) + 1) % 256);
      read += chunk.length;
    }
    expect(read).toBe(total);
  });

  test.each([99, 100, 101])('of %i bytes fails only when longer than the bound', async (length) => {
    const receiver = await listenHttp((_, response) => response.end('x'.repeat(length)));
    const { body } = responseOf(await makeClient().send(ask(receiver, { maxBodyBytes: 100 }), never));
    if (length <= 100) expect(await text(body)).toHaveLength(length);
    else await expect(text(body)).rejects.toThrow(BodyTooLargeError);
  });

  test.each([
    ['in chunks', 'transfer-encoding: chunked\r\n\r\n', `4000\r\n${'x'.repeat(16_384)}\r\n`],
    ['until it closes', '\r\n', 'x'.repeat(16_384)],
    ['in one-byte chunks', 'transfer-encoding: chunked\r\n\r\n', '1\r\nx\r\n'.repeat(2000)],
  ])('without an end, %s, is cut at the bound', async (_, head, chunk) => {
    const receiver = await listenRaw((socket) => {
      socket.write(`HTTP/1.1 200 OK\r\n${head}`);
      flood(socket, chunk);
    });
    const { body } = responseOf(await makeClient().send(ask(receiver), never));
    let read = 0;
    const reading = (async () => {
      for await (const { length } of body as AsyncIterable<Buffer>) read += length;
    })();
    await expect(reading).rejects.toThrow(BodyTooLargeError);
    expect(read).toBeLessThanOrEqual(MIB);
    await receiver.allClosed();
  });

  test.each([
    [
      'a chunk extension',
      'HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5;x=',
      'y'.repeat(16_384),
      'response_too_large',
    ],
    ['the reason phrase', 'HTTP/1.1 200 ', 'y'.repeat(16_384), 'response_too_large'],
    ['interim responses', '', 'HTTP/1.1 103 Early Hints\r\n\r\n', 'response_too_large'],
    ['one header', 'HTTP/1.1 200 OK\r\nx: ', 'y'.repeat(MIB), 'headers_too_large'],
  ])('or %s without an end costs no more than the bound on the wire', async (_, start, chunk, code) => {
    const receiver = await listenRaw((socket) => {
      socket.write(start);
      flood(socket, chunk);
    });
    const answer = await makeClient().send(ask(receiver, { maxBodyBytes: 1000 }), never);
    expect(answer.ok ? await failureOf(text(answer.response.body)) : answer.failure).toMatchObject({ code });
    await receiver.allClosed();
  });

  test('that nobody reads any longer ends the request', async () => {
    const receiver = await listenRaw((socket) => {
      socket.write('HTTP/1.1 200 OK\r\n\r\n');
      flood(socket, 'x'.repeat(16_384));
    });
    const { body } = responseOf(await makeClient().send(ask(receiver), never));
    for await (const _ of body) break;
    await receiver.allClosed();
  });

  test.each([
    ['reset', (socket: net.Socket) => void socket.resetAndDestroy(), 'connection_reset'],
    ['closed', (socket: net.Socket) => void socket.end(), 'connection_closed'],
  ])('that is %s midway fails, also for who starts to read late', async (_, cut, code) => {
    const half = Promise.withResolvers<net.Socket>();
    const receiver = await listenRaw((socket) => {
      socket.write('HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf', () => half.resolve(socket));
    });
    const { body } = responseOf(await makeClient().send(ask(receiver), never));
    cut(await half.promise);
    await closed(body);
    expect(await failureOf(text(body))).toMatchObject({ outcome: 'network', code });
  });
});

/** A number that another loop changes, once it has stayed the same for 20 looks. */
async function settled(read: () => number): Promise<number> {
  let last = -1;
  let same = 0;
  return eventually(() => {
    same = read() === last ? same + 1 : 0;
    last = read();
    expect(same).toBeGreaterThan(20);
    return last;
  });
}

describe('the deadline', () => {
  test.each([
    ['headers that do not come', () => {}, 'headers_timeout'],
    ['headers that come byte by byte', drip('HTTP/1.1 200 OK\r\n', 'x: y\r\n'), 'headers_timeout'],
  ])('covers %s', async (_, onRequest, code) => {
    const receiver = await listenRaw(onRequest);
    const answer = await makeClient().send(ask(receiver, { timeoutMs: 60 }), never);
    expect(answer).toMatchObject({ ok: false, failure: { outcome: 'timeout', code } });
    await receiver.allClosed();
  });

  test.each([
    ['read', true],
    ['not read', false],
  ])('covers a body that comes byte by byte and is %s', async (_, read) => {
    const receiver = await listenRaw(drip('HTTP/1.1 200 OK\r\n\r\n', 'x'));
    const { body } = responseOf(await makeClient().send(ask(receiver, { timeoutMs: 60 }), never));
    if (!read) await closed(body);
    expect(await failureOf(text(body))).toMatchObject({ outcome: 'timeout', code: 'body_timeout' });
    await receiver.allClosed();
  });

  test('covers a resolver that does not answer, and no connection follows', async () => {
    const receiver = await listenHttp((_, response) => response.end());
    const addresses = Promise.withResolvers<string[]>();
    const client = makeClient({ resolve: () => addresses.promise });
    const answer = await client.send(ask(`http://backend.test:${receiver.port}/`, { timeoutMs: 60 }), never);
    expect(answer).toMatchObject({ failure: { code: 'dns_timeout' } });
    addresses.resolve(['127.0.0.1']);
    responseOf(await client.send(ask(receiver), never));
    expect(receiver.connections()).toBe(1);
  });
});

/** Answers with `start`, then with `piece` after `piece`. */
function drip(start: string, piece: string): (socket: net.Socket) => void {
  return (socket) => {
    socket.write(start);
    const timer = setInterval(() => socket.write(piece), 5);
    socket.once('close', () => clearInterval(timer));
  };
}

const STOPPED = { outcome: 'interrupted', code: 'stopped' };

describe('an abort', () => {
  test('before the request sends nothing', async () => {
    const receiver = await listenHttp((_, response) => response.end());
    const answer = await makeClient().send(ask(receiver), AbortSignal.abort());
    expect([answer, receiver.connections()]).toMatchObject([{ ok: false, failure: STOPPED }, 0]);
  });

  test('while the name is resolved lets no connection follow', async () => {
    const receiver = await listenHttp((_, response) => response.end());
    const addresses = Promise.withResolvers<string[]>();
    const client = makeClient({ resolve: () => addresses.promise });
    const abort = new AbortController();
    const answer = client.send(ask(`http://backend.test:${receiver.port}/`), abort.signal);
    abort.abort();
    expect(await answer).toMatchObject({ ok: false, failure: STOPPED });
    addresses.resolve(['127.0.0.1']);
    responseOf(await client.send(ask(receiver), never));
    expect(receiver.connections()).toBe(1);
  });

  test('while it connects ends the attempt', async () => {
    const receiver = await listen(net.createServer((socket) => socket.resume())); // the TLS handshake is never answered
    const abort = new AbortController();
    const answer = makeClient().send(ask(`https://127.0.0.1:${receiver.port}/`), abort.signal);
    await eventually(() => expect(receiver.connections()).toBe(1));
    abort.abort();
    expect(await answer).toMatchObject({ ok: false, failure: STOPPED });
    await receiver.allClosed();
  });

  test('while it waits for headers closes the socket', async () => {
    const asked = Promise.withResolvers<net.Socket>();
    const receiver = await listenRaw((socket) => asked.resolve(socket));
    const abort = new AbortController();
    const answer = makeClient().send(ask(receiver), abort.signal);
    await asked.promise;
    abort.abort();
    expect(await answer).toMatchObject({ ok: false, failure: STOPPED });
    await receiver.allClosed();
  });

  test.each([
    ['read', true],
    ['held back', false],
  ])('while its body is %s closes the socket and fails the reading', async (_, read) => {
    const receiver = await listenRaw((socket) => {
      socket.write('HTTP/1.1 200 OK\r\n\r\n');
      flood(socket, 'x'.repeat(16_384));
    });
    const abort = new AbortController();
    const request = ask(receiver, { maxBodyBytes: 1e12 });
    const { body } = responseOf(await makeClient().send(request, abort.signal));
    await once(body, 'readable');
    const reading = read ? failureOf(body.forEach(() => {})) : undefined;
    abort.abort();
    expect(await (reading ?? failureOf(text(body)))).toMatchObject(STOPPED);
    await receiver.allClosed();
  });

  test('after the end of the response changes nothing', async () => {
    const receiver = await listenHttp((_, response) => response.end('whole'));
    const abort = new AbortController();
    const client = makeClient();
    const { body } = responseOf(await client.send(ask(receiver), abort.signal));
    await once(body, 'readable');
    abort.abort();
    expect(await text(body)).toBe('whole');
    responseOf(await client.send(ask(receiver), never));
    expect(receiver.connections()).toBe(1);
  });
});

describe('connections', () => {
  test('are used again after a whole answer, whatever its status', async () => {
    const statuses = [200, 204, 404, 503, 302, 200];
    const receiver = await listenHttp((_, response) => response.writeHead(statuses.shift()!).end());
    const client = makeClient();
    for (const _ of Array(6).keys()) await text(responseOf(await client.send(ask(receiver), never)).body);
    expect([statuses.length, receiver.connections()]).toEqual([0, 1]);
  });

  test('are not used again after an abort: a late answer would be taken for the next', async () => {
    const first = Promise.withResolvers<void>();
    const receiver = await listenHttp((incoming, response) => {
      if (incoming.url === '/second') response.end('second');
      else first.resolve();
    });
    const client = makeClient();
    const abort = new AbortController();
    const aborted = client.send(ask(receiver), abort.signal);
    await first.promise;
    abort.abort();
    await aborted;
    const { body } = responseOf(await client.send(ask(urlOf(receiver, '/second')), never));
    expect([await text(body), receiver.connections()]).toEqual(['second', 2]);
  });

  test('are not used again when the answer came before the request was read', async () => {
    const receiver = await listen(
      net.createServer((socket) => {
        socket.once('data', () => {
          socket.pause();
          socket.write('HTTP/1.1 413 Too Large\r\ncontent-length: 0\r\n\r\n');
        });
      }),
    );
    const client = makeClient();
    const body = 'x'.repeat(32 * MIB);
    for (const _ of [1, 2]) expect(responseOf(await client.send(ask(receiver, { body }), never)).status).toBe(413);
    expect(receiver.connections()).toBe(2);
  });

  test('serve one request at a time: a slow one holds up nobody', async () => {
    const slow = Promise.withResolvers<() => void>();
    const receiver = await listenHttp((incoming, response) => {
      if (incoming.url === '/slow') slow.resolve(() => response.end('slow'));
      else response.end('fast');
    });
    const client = makeClient();
    const waiting = client.send(ask(urlOf(receiver, '/slow')), never);
    const answer = await slow.promise;
    expect(await text(responseOf(await client.send(ask(receiver), never)).body)).toBe('fast');
    answer();
    expect(await text(responseOf(await waiting).body)).toBe('slow');
  });

  test('end with the client, what is in flight on them too', async () => {
    const receiver = await listenHttp((incoming, response) => {
      if (incoming.url === '/whole') response.end();
      else if (incoming.url === '/half') response.write('half');
    });
    const client = makeClient();
    responseOf(await client.send(ask(urlOf(receiver, '/whole')), never));
    const silent = client.send(ask(urlOf(receiver, '/silent')), never);
    const { body } = responseOf(await client.send(ask(urlOf(receiver, '/half')), never));
    client.close();
    expect(await silent).toMatchObject({ failure: STOPPED });
    expect(await failureOf(text(body))).toMatchObject(STOPPED);
    expect(await client.send(ask(receiver), never)).toMatchObject({ failure: STOPPED });
    await receiver.allClosed();
  });
});

describe('a request that cannot be made', () => {
  test('because nobody listens', async () => {
    const server = net.createServer().listen(0, '127.0.0.1');
    await once(server, 'listening');
    const { port } = server.address() as net.AddressInfo;
    server.close();
    await once(server, 'close');
    const answer = await makeClient().send(ask(`http://127.0.0.1:${port}/`), never);
    expect(answer).toMatchObject({ failure: { outcome: 'network', code: 'connection_refused' } });
  });

  test.each([
    ['not HTTP', 'SSH-2.0-OpenSSH_9.9\r\n', 'invalid_http'],
    ['two lengths', 'HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab', 'invalid_http'],
    ['an unasked upgrade', 'HTTP/1.1 101 Switching\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n', 'invalid_http'],
    ['a header of 1 MB', `HTTP/1.1 200 OK\r\nx: ${'y'.repeat(MIB)}\r\n\r\n`, 'headers_too_large'],
  ])('because the answer is %s', async (_, bytes, code) => {
    const receiver = await listenRaw((socket) => socket.write(bytes));
    expect(await makeClient().send(ask(receiver), never)).toMatchObject({ failure: { outcome: 'protocol', code } });
    await receiver.allClosed();
  });

  test.each([
    ['transfer-encoding', 'chunked'],
    ['Content-Length', '0'],
    ['connection', 'close'],
    ['accept-encoding', 'gzip'],
    ['x-injected', 'a\r\nhost: b'],
    ['x bad', 'y'],
  ])('because of its header %s', async (name, value) => {
    const receiver = await listenHttp((_, response) => response.end());
    const answer = await makeClient().send(ask(receiver, { headers: { [name]: value } }), never);
    expect(answer).toMatchObject({ ok: false, failure: { outcome: 'blocked', code: 'request_invalid' } });
  });

  test('because the certificate is not trusted, whatever the environment says', async () => {
    const server = https.createServer({ key: TEST_KEY, cert: TEST_CERTIFICATE }, (_, response) => response.end('ok'));
    const receiver = await listen(server.on('tlsClientError', () => {}));
    vi.stubEnv('NODE_TLS_REJECT_UNAUTHORIZED', '0');
    onTestFinished(() => void vi.unstubAllEnvs());
    const request = ask(`https://127.0.0.1:${receiver.port}/`, { headers: { host: 'other.test' } });
    expect(await makeClient().send(request, never)).toMatchObject({ failure: { code: 'tls_certificate_invalid' } });
    const trusting = makeClient({ tls: { ca: TEST_CERTIFICATE } });
    expect(await text(responseOf(await trusting.send(request, never)).body)).toBe('ok');
  });
});
