import { once } from 'node:events';
import type net from 'node:net';
import { text } from 'node:stream/consumers';
import { describe, expect, test } from 'vitest';
import { BodyTooLargeError } from '#egress/failure.ts';
import { eventually } from '../../support/eventually.ts';
import { ask, closed, failureOf, makeClient, MIB, never, responseOf } from './backends.ts';
import { flood, listenHttp, listenRaw } from './receivers.ts';

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
