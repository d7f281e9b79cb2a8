import { describe, expect, test } from 'vitest';
import { createGuard } from '#egress/guard.ts';
import {
  ALLOW_LOOPBACK,
  ALLOW_NOTHING,
  flood,
  listenHttp,
  listenRaw,
  makeSender,
  request,
  urlOf,
} from './receivers.ts';

describe('a response without bounds', () => {
  test('in its body is cut at the bound, and a 2xx still counts', async () => {
    const receiver = await listenRaw((socket) => {
      socket.write('HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\n\r\n');
      flood(socket, 'x'.repeat(16_384));
    });
    const result = await makeSender({ maxBodyBytes: 50_000, keptBodyBytes: 1000 }).send(request(urlOf(receiver)));
    expect(result).toMatchObject({
      outcome: 'delivered',
      errorCode: null,
      response: { status: 200, bodyBytes: 50_000, truncated: true },
    });
    expect(Buffer.from(result.response!.bodyPrefix).toString()).toBe('x'.repeat(1000));
    await receiver.allClosed();
  });

  test('is still a rejection when its status is one', async () => {
    const receiver = await listenRaw((socket) => {
      socket.write('HTTP/1.1 500 Oops\r\n\r\n');
      flood(socket, 'x'.repeat(16_384));
    });
    const result = await makeSender().send(request(urlOf(receiver)));
    expect(result).toMatchObject({ outcome: 'rejected', errorCode: 'status_500', response: { truncated: true } });
    expect(result.response!.bodyPrefix).toHaveLength(4096);
  });

  test.each([65_536, 65_537])('of %i bytes is cut only when longer than the bound', async (length) => {
    const receiver = await listenHttp((_, response) => response.end('x'.repeat(length)));
    const { response } = await makeSender().send(request(urlOf(receiver)));
    expect(response).toMatchObject({ bodyBytes: 65_536, truncated: length > 65_536 });
  });

  test.each([
    ['one header', 'HTTP/1.1 200 OK\r\nx: ', 'y'.repeat(16_384), 'headers_too_large'],
    ['many headers', 'HTTP/1.1 200 OK\r\n', 'x: yyyyyyyyyyyyyyyy\r\n'.repeat(1000), 'headers_too_large'],
    [
      'trailers',
      'HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n',
      'x: y\r\n'.repeat(1000),
      'headers_too_large',
    ],
    ['interim responses', '', 'HTTP/1.1 103 Early Hints\r\n\r\n', 'headers_too_large'],
    ['the reason phrase', 'HTTP/1.1 200 ', 'y'.repeat(16_384), 'headers_too_large'],
    ['empty lines', '', '\r\n'.repeat(8192), 'headers_too_large'],
    [
      'a chunk extension',
      'HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5;x=',
      'y'.repeat(16_384),
      'response_too_large',
    ],
  ])('in %s ends the attempt', async (_, start, chunk, errorCode) => {
    const receiver = await listenRaw((socket) => {
      socket.write(start);
      flood(socket, chunk);
    });
    expect(await makeSender().send(request(urlOf(receiver)))).toMatchObject({ outcome: 'protocol', errorCode });
    await receiver.allClosed();
  });
});

describe('a response that is not HTTP/1.1', () => {
  test.each([
    ['another protocol', 'SSH-2.0-OpenSSH_9.9\r\n'],
    ['binary', '\x15\x03\x01\x00\x02\x02\x28'],
    ['a status of two digits', 'HTTP/1.1 20 OK\r\n\r\n'],
    ['a status below 100', 'HTTP/1.1 099 Odd\r\ncontent-length: 0\r\n\r\n'],
    ['two lengths', 'HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab'],
    ['length and chunks', 'HTTP/1.1 200 OK\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n'],
    ['a blank in a header name', 'HTTP/1.1 200 OK\r\na b: c\r\n\r\n'],
    ['a bad chunk size', 'HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n'],
    ['an unasked 101', 'HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n'],
    ['an unasked 100', 'HTTP/1.1 100 Continue\r\n\r\n'],
  ])('%s', async (_, bytes) => {
    const receiver = await listenRaw((socket) => socket.write(bytes, 'latin1'));
    const result = await makeSender().send(request(urlOf(receiver)));
    expect(result).toMatchObject({ outcome: 'protocol', errorCode: 'invalid_http' });
    expect(result.errorDetail).not.toContain('SSH');
    await receiver.allClosed();
  });

  test('but a second response after the first does not answer the next request', async () => {
    const answer = 'HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nreal';
    const smuggled = 'HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nfake';
    const receiver = await listenRaw((socket) => socket.write(answer + smuggled));
    const sender = makeSender();
    for (const _ of [1, 2]) {
      const { outcome, response } = await sender.send(request(urlOf(receiver)));
      expect([outcome, Buffer.from(response!.bodyPrefix).toString()]).toEqual(['delivered', 'real']);
    }
    expect(receiver.connections()).toBe(2);
  });
});

describe('the guard', () => {
  test('lets nothing reach a forbidden literal, however it is written', async () => {
    const receiver = await listenHttp((_, response) => response.end());
    const sender = makeSender({ policy: { ...ALLOW_NOTHING, allowHttp: true, ports: [receiver.port] } });
    for (const host of ['127.0.0.1', '0x7f.1', '2130706433', '127.1', '[::ffff:127.0.0.1]', '[::1]', '0.0.0.0']) {
      const result = await sender.send(request(`http://${host}:${receiver.port}/`));
      expect(result).toMatchObject({ outcome: 'blocked', errorCode: 'address_forbidden', remoteAddress: null });
    }
    expect(receiver.connections()).toBe(0);
  });

  test.each([
    ['a forbidden answer', ['127.0.0.1']],
    ['one forbidden answer among public ones', ['192.0.3.1', '127.0.0.1']],
    ['a mapped answer', ['::ffff:127.0.0.1']],
  ])('connects to nothing when a name has %s', async (_, addresses) => {
    const receiver = await listenHttp((_request, response) => response.end());
    const policy = { ...ALLOW_NOTHING, allowHttp: true, ports: [receiver.port] };
    const sender = makeSender({ policy, resolve: async () => addresses });
    const result = await sender.send(request(`http://rebind.test:${receiver.port}/`));
    expect(result).toMatchObject({ outcome: 'blocked', errorCode: 'address_forbidden', remoteAddress: null });
    expect(receiver.connections()).toBe(0);
  });

  test('connects to nothing when an allowed answer comes with a forbidden one', async () => {
    const receiver = await listenHttp((_, response) => response.end());
    const sender = makeSender({ resolve: async () => ['127.0.0.1', '10.0.0.1'] });
    const result = await sender.send(request(`http://rebind.test:${receiver.port}/`));
    expect(result).toMatchObject({ outcome: 'blocked', errorCode: 'address_forbidden' });
    expect(receiver.connections()).toBe(0);
  });

  test('asks the resolver once per connection and connects to what it judged', async () => {
    const receiver = await listenHttp((_, response) => response.writeHead(200, { connection: 'close' }).end());
    const answers = [['127.0.0.1'], ['10.0.0.1']];
    const sender = makeSender({ resolve: async () => answers.shift() ?? [] });
    const url = `http://rebind.test:${receiver.port}/`;
    expect((await sender.send(request(url))).outcome).toBe('delivered');
    expect((await sender.send(request(url))).errorCode).toBe('address_forbidden');
    expect((await sender.send(request(url))).errorCode).toBe('dns_not_found');
    expect(receiver.connections()).toBe(1);
  });

  test.each([
    ['http://example.com/', 'scheme_forbidden'],
    ['https://example.com:22/', 'port_forbidden'],
    ['https://u:p@example.com/', 'userinfo_forbidden'],
    ['nonsense', 'malformed'],
  ])('blocks %s before it is resolved', async (url, errorCode) => {
    const sender = makeSender({ policy: ALLOW_NOTHING, resolve: () => expect.fail('it was resolved') });
    expect(await sender.send(request(url))).toMatchObject({ outcome: 'blocked', errorCode, response: null });
  });

  test.each([
    ['Host', 'internal.example'],
    ['Accept-Encoding', 'gzip'],
    ['Transfer-Encoding', 'chunked'],
    ['connection', 'close'],
    ['x-injected', 'a\r\nhost: b'],
    ['x-wide', '\u010d\u010a'],
    ['x-nul', 'a\0b'],
    ['x-lf', 'a\nb'],
    ['x bad', 'y'],
  ])('blocks the header %s', async (name, value) => {
    const receiver = await listenHttp((_, response) => response.end());
    const result = await makeSender().send(request(urlOf(receiver), { headers: { [name]: value } }));
    expect(result).toMatchObject({ outcome: 'blocked', errorCode: 'request_invalid' });
    await expect(makeSender().send(request(urlOf(receiver)))).resolves.toMatchObject({ outcome: 'delivered' });
  });

  test('takes no proxy from the environment', async () => {
    const proxy = await listenHttp((_, response) => response.end());
    const receiver = await listenHttp((_, response) => response.end());
    const names = ['http_proxy', 'HTTP_PROXY', 'ALL_PROXY', 'NODE_USE_ENV_PROXY'];
    const before = names.map((name) => [name, process.env[name]] as const);
    try {
      for (const name of names) process.env[name] = name === 'NODE_USE_ENV_PROXY' ? '1' : urlOf(proxy);
      expect((await makeSender().send(request(urlOf(receiver)))).outcome).toBe('delivered');
    } finally {
      for (const [name, value] of before) {
        if (value === undefined) delete process.env[name];
        else process.env[name] = value;
      }
    }
    expect(proxy.connections()).toBe(0);
  });
});

describe('at registration', () => {
  const checkUrl = (text: string, resolve: () => Promise<string[]>, policy = ALLOW_NOTHING) =>
    createGuard({ policy, resolve, resolveTimeoutMs: 20 }).checkUrl(text);

  test('a public name is accepted, normalised', async () => {
    const verdict = await checkUrl('HTTPS://Example.com/#x', async () => ['1.1.1.1']);
    expect(verdict).toMatchObject({ ok: true, url: { href: 'https://example.com/' } });
  });

  test('a name that resolves to a forbidden address is refused', async () => {
    const verdict = await checkUrl('https://localhost/', async () => ['127.0.0.1', '::1']);
    expect(verdict).toMatchObject({ ok: false, reason: 'address_forbidden' });
  });

  test('a name whose scheme only an allowed address excuses is judged by its address', async () => {
    const url = 'http://api.internal:3000/';
    expect(await checkUrl(url, async () => ['127.0.0.1'], ALLOW_LOOPBACK)).toMatchObject({ ok: true });
    expect(await checkUrl(url, async () => ['1.1.1.1'], ALLOW_LOOPBACK)).toMatchObject({ reason: 'scheme_forbidden' });
  });

  test('a name that does not resolve, or not in time, is accepted', async () => {
    const fails = () => Promise.reject(new Error('ENOTFOUND'));
    const hangs = () => new Promise<string[]>(() => {});
    expect(await checkUrl('https://example.com/', fails)).toMatchObject({ ok: true });
    expect(await checkUrl('https://example.com/', hangs)).toMatchObject({ ok: true });
  });

  test('an address literal needs no resolver', async () => {
    const resolve = () => expect.fail('it was resolved');
    expect(await checkUrl('https://10.0.0.1/', resolve)).toMatchObject({ ok: false, reason: 'address_forbidden' });
    expect(await checkUrl('https://1.1.1.1/', resolve)).toMatchObject({ ok: true });
  });
});
