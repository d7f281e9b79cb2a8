import { once } from 'node:events';
import net from 'node:net';
import { text } from 'node:stream/consumers';
import { describe, expect, test } from 'vitest';
import { eventually } from '../../support/eventually.ts';
import { ask, closed, failureOf, makeClient, never, responseOf, STOPPED } from './backends.ts';
import { flood, listen, listenHttp, listenRaw } from './receivers.ts';

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
