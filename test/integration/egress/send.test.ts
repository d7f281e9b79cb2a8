import { once } from 'node:events';
import net from 'node:net';
import { text } from 'node:stream/consumers';
import { describe, expect, test } from 'vitest';
import { listenHttp, listenRaw, makeSender, request, urlOf } from './receivers.ts';

describe('a receiver that answers', () => {
  test('gets the bytes, the headers and nothing else', async () => {
    const seen = Promise.withResolvers<{ line: string; headers: string[]; body: Buffer }>();
    const receiver = await listenHttp((incoming, response) => {
      const chunks: Buffer[] = [];
      incoming.on('data', (chunk: Buffer) => chunks.push(chunk));
      incoming.on('end', () => {
        const line = `${incoming.method} ${incoming.url}`;
        const raw = incoming.rawHeaders;
        const headers = raw
          .filter((_, index) => index % 2 === 0)
          .map((name, index) => `${name}: ${raw[2 * index + 1]}`);
        seen.resolve({ line, headers, body: Buffer.concat(chunks) });
        response.writeHead(200, { 'X-Trace': 'Ab', 'set-cookie': ['a=1', 'b=2'] }).end('thanks');
      });
    });
    const body = Buffer.from('{"text":"grüße \u0000 \u{1F514}"}');
    const headers = { 'content-type': 'application/json', 'webhook-id': 'evt_1' };
    const result = await makeSender().send(request(urlOf(receiver, '/hook?a=%20b'), { headers, body }));

    expect(result).toMatchObject({
      outcome: 'delivered',
      errorCode: null,
      errorDetail: null,
      remoteAddress: '127.0.0.1',
      response: { status: 200, bodyBytes: 6, truncated: false },
    });
    expect(Buffer.from(result.response!.bodyPrefix).toString()).toBe('thanks');
    expect(result.response!.headers).toEqual(
      expect.arrayContaining([
        ['X-Trace', 'Ab'],
        ['set-cookie', 'a=1'],
        ['set-cookie', 'b=2'],
      ]),
    );
    expect(result.finishedAt.getTime()).toBeGreaterThanOrEqual(result.startedAt.getTime());
    const { line, headers: sent, body: received } = await seen.promise;
    expect(line).toBe('POST /hook?a=%20b');
    expect(received.equals(body)).toBe(true);
    expect(sent).toEqual([
      `host: 127.0.0.1:${receiver.port}`,
      'connection: keep-alive',
      'user-agent: Ringback/test',
      'accept-encoding: identity',
      'content-type: application/json',
      'webhook-id: evt_1',
      `content-length: ${body.length}`,
    ]);
  });

  test.each([
    [200, 'delivered', null],
    [204, 'delivered', null],
    [299, 'delivered', null],
    [304, 'rejected', 'redirect_not_followed'],
    [400, 'rejected', 'status_400'],
    [410, 'rejected', 'status_410'],
    [500, 'rejected', 'status_500'],
    [503, 'rejected', 'status_503'],
  ])('with %i makes the attempt %s', async (status, outcome, errorCode) => {
    const receiver = await listenHttp((_, response) => response.writeHead(status).end());
    const result = await makeSender().send(request(urlOf(receiver)));
    expect(result).toMatchObject({ outcome, errorCode, response: { status } });
  });

  test('with a redirect is not followed', async () => {
    const target = await listenHttp((_, response) => response.end());
    const receiver = await listenHttp((_, response) =>
      response.writeHead(307, { location: urlOf(target, '/elsewhere') }).end(),
    );
    const result = await makeSender().send(request(urlOf(receiver)));
    expect(result).toMatchObject({
      outcome: 'rejected',
      errorCode: 'redirect_not_followed',
      response: { status: 307 },
    });
    expect(result.errorDetail).not.toContain('elsewhere');
    expect(target.connections()).toBe(0);
  });

  test('with interim responses first is judged by the last one', async () => {
    const receiver = await listenRaw((socket) => {
      socket.write('HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n');
    });
    expect(await makeSender().send(request(urlOf(receiver)))).toMatchObject({
      outcome: 'delivered',
      response: { status: 200 },
    });
  });

  test('may compress against our wish: the body is kept as it came', async () => {
    const receiver = await listenHttp((_, response) => {
      response.writeHead(200, { 'content-encoding': 'gzip' }).end(Buffer.from([0x1f, 0x8b, 0x00, 0xff]));
    });
    const result = await makeSender().send(request(urlOf(receiver)));
    expect(result.outcome).toBe('delivered');
    expect([...result.response!.bodyPrefix]).toEqual([0x1f, 0x8b, 0x00, 0xff]);
  });
});

describe('connections', () => {
  test('are reused, and a reused one has no timings of its making', async () => {
    const receiver = await listenHttp((_, response) => response.end());
    const sender = makeSender({ resolve: async () => ['127.0.0.1'] });
    const url = `http://receiver.test:${receiver.port}/`;
    const first = await sender.send(request(url));
    const second = await sender.send(request(url));
    expect(first.timings).toEqual({
      dnsMs: expect.any(Number),
      connectMs: expect.any(Number),
      tlsMs: null,
      firstByteMs: expect.any(Number),
      totalMs: expect.any(Number),
    });
    expect(second.timings).toMatchObject({ dnsMs: null, connectMs: null, tlsMs: null });
    expect(second).toMatchObject({ outcome: 'delivered', remoteAddress: '127.0.0.1' });
    expect(receiver.connections()).toBe(1);
  });

  test('serve one request at a time: 50 at once take 50, and the next 50 take none', async () => {
    const bodies: string[] = [];
    const everyone = Promise.withResolvers<void>();
    const receiver = await listenHttp(async (incoming, response) => {
      bodies.push(await text(incoming));
      if (bodies.length === 50) everyone.resolve();
      await everyone.promise; // nobody is answered before all have asked
      response.end();
    });
    const sender = makeSender();
    const burst = () =>
      Promise.all(
        Array.from({ length: 50 }, (_, index) =>
          sender.send(request(urlOf(receiver), { body: Buffer.from(`${index}`) })),
        ),
      );
    const first = await burst();
    expect(first.map(({ outcome }) => outcome)).toEqual(Array(50).fill('delivered'));
    expect(new Set(bodies).size).toBe(50);
    expect(receiver.connections()).toBe(50);
    const second = await burst();
    expect(second.every(({ timings }) => timings.connectMs === null)).toBe(true);
    expect(receiver.connections()).toBe(50);
  });

  test('that the receiver closes after its answer are made anew', async () => {
    const receiver = await listenHttp((_, response) => response.writeHead(200, { connection: 'close' }).end());
    const sender = makeSender();
    for (const _ of [1, 2, 3]) {
      const result = await sender.send(request(urlOf(receiver)));
      expect(result).toMatchObject({ outcome: 'delivered', timings: { connectMs: expect.any(Number) } });
    }
    expect(receiver.connections()).toBe(3);
  });

  test('never carry a request twice, not even when one dies with it', async () => {
    let requests = 0;
    const receiver = await listenHttp((incoming, response) => {
      if (++requests === 2) incoming.socket.resetAndDestroy();
      else response.end();
    });
    const sender = makeSender();
    expect((await sender.send(request(urlOf(receiver)))).outcome).toBe('delivered');
    const second = await sender.send(request(urlOf(receiver)));
    expect(second).toMatchObject({ outcome: 'network', errorCode: 'connection_reset', timings: { connectMs: null } });
    expect(requests).toBe(2);
    expect((await sender.send(request(urlOf(receiver)))).outcome).toBe('delivered');
  });

  test('go to the next judged address when one refuses', async () => {
    const receiver = await listenHttp((_, response) => response.end());
    const sender = makeSender({ resolve: async () => ['127.0.0.2', '127.0.0.1'] });
    const result = await sender.send(request(`http://receiver.test:${receiver.port}/`));
    expect(result).toMatchObject({ outcome: 'delivered', remoteAddress: '127.0.0.1' });
  });

  test('are closed with the sender, after what is in flight', async () => {
    const arrived = Promise.withResolvers<() => void>();
    const receiver = await listenHttp((_, response) => arrived.resolve(() => response.end()));
    const sender = makeSender();
    const inFlight = sender.send(request(urlOf(receiver)));
    const answer = await arrived.promise;
    const closed = sender.close();
    await expect(sender.send(request(urlOf(receiver)))).rejects.toThrow('closed');
    answer();
    expect((await inFlight).outcome).toBe('delivered');
    await closed;
    await receiver.allClosed();
  });
});

describe('the deadline', () => {
  const soon = { timeoutMs: 60 };

  test('covers headers that do not come', async () => {
    const receiver = await listenRaw(() => {});
    const result = await makeSender().send(request(urlOf(receiver), soon));
    expect(result).toMatchObject({ outcome: 'timeout', errorCode: 'headers_timeout', response: null });
    expect(result.timings.totalMs).toBeGreaterThanOrEqual(59);
    await receiver.allClosed();
  });

  test('covers headers that come byte by byte', async () => {
    const receiver = await listenRaw((socket) => {
      socket.write('HTTP/1.1 200 OK\r\n');
      const drip = setInterval(() => socket.write('x: y\r\n'), 5);
      socket.once('close', () => clearInterval(drip));
    });
    const result = await makeSender().send(request(urlOf(receiver), soon));
    expect(result).toMatchObject({ outcome: 'timeout', errorCode: 'headers_timeout', response: null });
    expect(result.timings.firstByteMs).not.toBeNull();
    await receiver.allClosed();
  });

  test('covers a body that does not end: a 2xx is believed only when the response is whole', async () => {
    const receiver = await listenHttp((_, response) => void response.writeHead(200).write('almost'));
    const result = await makeSender().send(request(urlOf(receiver), soon));
    expect(result).toMatchObject({
      outcome: 'timeout',
      errorCode: 'body_timeout',
      response: { status: 200, bodyBytes: 6, truncated: false },
    });
    await receiver.allClosed();
  });

  test('covers a resolver that does not answer, and no connection follows', async () => {
    const receiver = await listenHttp((_, response) => response.end());
    const answer = Promise.withResolvers<string[]>();
    const sender = makeSender({ resolve: () => answer.promise });
    const result = await sender.send(request(`http://receiver.test:${receiver.port}/`, soon));
    expect(result).toMatchObject({ outcome: 'timeout', errorCode: 'dns_timeout', remoteAddress: null });
    answer.resolve(['127.0.0.1']);
    await sender.send(request(urlOf(receiver)));
    expect(receiver.connections()).toBe(1);
  });

  test('covers a TLS handshake that is not answered', async () => {
    const receiver = await listenRaw(() => {});
    const result = await makeSender().send(request(`https://127.0.0.1:${receiver.port}/`, soon));
    expect(result).toMatchObject({ outcome: 'timeout', errorCode: 'tls_timeout', remoteAddress: '127.0.0.1' });
    await receiver.allClosed();
  });
});

describe('a connection that fails', () => {
  test('because nobody listens is refused', async () => {
    const server = net.createServer().listen(0, '127.0.0.1');
    await once(server, 'listening');
    const { port } = server.address() as net.AddressInfo;
    server.close();
    await once(server, 'close');
    expect(await makeSender().send(request(`http://127.0.0.1:${port}/`))).toMatchObject({
      outcome: 'network',
      errorCode: 'connection_refused',
      remoteAddress: null,
      response: null,
    });
  });

  test('because the name does not exist', async () => {
    const missing = Object.assign(new Error('getaddrinfo ENOTFOUND'), { code: 'ENOTFOUND' });
    const sender = makeSender({ resolve: () => Promise.reject(missing) });
    expect(await sender.send(request('https://nowhere.test/'))).toMatchObject({
      outcome: 'dns',
      errorCode: 'dns_not_found',
    });
  });

  test('because the resolver does', async () => {
    const failed = Object.assign(new Error('getaddrinfo EAI_AGAIN'), { code: 'EAI_AGAIN' });
    const sender = makeSender({ resolve: () => Promise.reject(failed) });
    expect(await sender.send(request('https://nowhere.test/'))).toMatchObject({
      outcome: 'dns',
      errorCode: 'dns_failed',
    });
  });

  test.each([
    ['reset before the headers', '', 'connection_reset'],
    ['reset within the headers', 'HTTP/1.1 200 OK\r\ncontent-le', 'connection_reset'],
    ['reset within the body', 'HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf', 'connection_reset'],
  ])('%s', async (_, bytes, errorCode) => {
    const receiver = await listenRaw((socket) => {
      if (bytes === '') socket.resetAndDestroy();
      else socket.write(bytes, () => setImmediate(() => socket.resetAndDestroy()));
    });
    expect(await makeSender().send(request(urlOf(receiver)))).toMatchObject({ outcome: 'network', errorCode });
  });

  test.each([
    ['before the headers', ''],
    ['within a body of known length', 'HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf'],
    [
      'within a body of known length, announced',
      'HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 9\r\n\r\nhalf',
    ],
    ['within a chunked body', 'HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n9\r\nhalf'],
    [
      'within a chunked body, announced',
      'HTTP/1.1 200 OK\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n9\r\nhalf',
    ],
  ])('closed %s', async (_, bytes) => {
    const receiver = await listenRaw((socket) => socket.end(bytes));
    expect(await makeSender().send(request(urlOf(receiver)))).toMatchObject({
      outcome: 'network',
      errorCode: 'connection_closed',
    });
  });
});
