import { once } from 'node:events';
import https from 'node:https';
import net from 'node:net';
import { buffer, text } from 'node:stream/consumers';
import { describe, expect, onTestFinished, test, vi } from 'vitest';
import { ask, failureOf, makeClient, MIB, never, responseOf, STOPPED } from './backends.ts';
import { TEST_CERTIFICATE, TEST_KEY } from './certificates.ts';
import { listen, listenHttp, listenRaw, urlOf } from './receivers.ts';

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
