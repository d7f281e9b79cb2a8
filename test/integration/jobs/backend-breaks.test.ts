import { once } from 'node:events';
import net from 'node:net';
import { describe, expect, test } from 'vitest';
import { failureOf } from '#jobs/run/handler.ts';
import { MIB } from '../egress/backends.ts';
import { flood, listenRaw } from '../egress/receivers.ts';
import { answering, bytesOf, callReceiver, failure } from './backend-calls.ts';

describe('a back end that breaks', () => {
  test('because nobody listens fails the run, to be tried again', async () => {
    const server = net.createServer().listen(0, '127.0.0.1');
    await once(server, 'listening');
    const { port } = server.address() as net.AddressInfo;
    server.close();
    await once(server, 'close');
    const outcome = failure('backend_unavailable', true, 'The back end refused the connection.');
    expect(await callReceiver(`http://127.0.0.1:${port}/`)).toEqual(outcome);
  });

  test.each([
    ['before it answers', '', 'backend_unavailable'],
    [
      'within JSON',
      'HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 9\r\n\r\n[1,',
      'backend_unavailable',
    ],
    [
      'within a bad chunk of JSON',
      'HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n',
      'backend_invalid',
    ],
    ['with what is not HTTP', 'SSH-2.0-OpenSSH_9.9\r\n', 'backend_invalid'],
    ['with a header of 1 MB', `HTTP/1.1 200 OK\r\nx: ${'y'.repeat(MIB)}\r\n\r\n`, 'backend_invalid'],
  ])('%s fails the run, to be tried again', async (_, bytes, code) => {
    const receiver = await listenRaw((socket) => {
      if (bytes === '') socket.resetAndDestroy();
      else socket.write(bytes, () => setImmediate(() => socket.resetAndDestroy()));
    });
    const outcome = await callReceiver(receiver);
    expect(outcome).toMatchObject(failure(code, true));
    expect(JSON.stringify(outcome)).not.toMatch(/receiver|SSH/);
  });

  test('within a file fails who reads it, to be tried again', async () => {
    const receiver = await listenRaw((socket) => {
      const head = 'HTTP/1.1 200 OK\r\ncontent-type: image/png\r\ncontent-length: 9\r\n\r\nhalf';
      socket.write(head, () => setImmediate(() => socket.resetAndDestroy()));
    });
    const error: unknown = await bytesOf(await callReceiver(receiver)).catch((thrown: unknown) => thrown);
    const message = 'The back end reset the connection.';
    expect(failureOf(error)).toEqual(failure('backend_unavailable', true, message));
  });
});

describe('a back end that takes too long', () => {
  const backend = { timeoutMs: 80 };

  test('to answer fails the run, to be tried again', async () => {
    const receiver = await listenRaw(() => {});
    const message = 'The deadline of 80 ms passed while waiting for the response.';
    expect(await callReceiver(receiver, { backend })).toEqual(failure('backend_unavailable', true, message));
    await receiver.allClosed();
  });

  test.each([
    ['JSON', 'application/json'],
    ['a file', 'application/pdf'],
  ])('with a byte at a time of %s fails the run, to be tried again', async (_, type) => {
    const receiver = await listenRaw((socket) => {
      socket.write(`HTTP/1.1 200 OK\r\ncontent-type: ${type}\r\n\r\n`);
      const timer = setInterval(() => socket.write('1'), 10);
      socket.once('close', () => clearInterval(timer));
    });
    const outcome = await callReceiver(receiver, { backend });
    const failed =
      outcome.kind === 'file' ? failureOf(await bytesOf(outcome).catch((error: unknown) => error)) : outcome;
    const message = 'The deadline of 80 ms passed while reading the response body.';
    expect(failed).toEqual(failure('backend_unavailable', true, message));
    await receiver.allClosed();
  });
});

describe('an abort', () => {
  test('closes the socket while the answer is awaited', async () => {
    const asked = Promise.withResolvers<void>();
    const receiver = await listenRaw(() => asked.resolve());
    const abort = new AbortController();
    const outcome = callReceiver(receiver, { signal: abort.signal });
    await asked.promise;
    abort.abort();
    expect(await outcome).toMatchObject(failure('backend_unavailable', true));
    await receiver.allClosed();
  });

  test.each([
    ['JSON that is read', 'content-type: application/json'],
    ['the text of a refusal', 'content-type: text/plain'],
  ])('closes the socket in the middle of %s', async (_, header) => {
    const answered = Promise.withResolvers<void>();
    const status = header.endsWith('json') ? 200 : 503;
    const receiver = await listenRaw((socket) => {
      socket.write(`HTTP/1.1 ${status} X\r\n${header}\r\n\r\n[`, () => answered.resolve());
    });
    const abort = new AbortController();
    const outcome = callReceiver(receiver, { signal: abort.signal });
    await answered.promise;
    abort.abort();
    expect(await outcome).toMatchObject(failure('backend_unavailable', true));
    await receiver.allClosed();
  });

  test('closes the socket in the middle of a file, read or not', async () => {
    const receiver = await listenRaw((socket) => {
      socket.write('HTTP/1.1 200 OK\r\n\r\n');
      flood(socket, 'x'.repeat(16_384));
    });
    const abort = new AbortController();
    const call = { maxResultBytes: 1e12 };
    const [unread, read] = await Promise.all([1, 2].map(() => callReceiver(receiver, { signal: abort.signal, call })));
    const reading = bytesOf(read!).catch(failureOf);
    abort.abort();
    expect(await reading).toMatchObject(failure('backend_unavailable', true));
    await receiver.allClosed();
    expect(await bytesOf(unread!).catch(failureOf)).toMatchObject(failure('backend_unavailable', true));
  });

  test('before the call sends nothing', async () => {
    const receiver = await answering(200);
    expect(await callReceiver(receiver, { signal: AbortSignal.abort() })).toMatchObject(
      failure('backend_unavailable', true),
    );
    expect(receiver.connections()).toBe(0);
  });
});

test('a file that nobody wants is ended without having been read', async () => {
  const receiver = await listenRaw((socket) => {
    socket.write('HTTP/1.1 200 OK\r\n\r\n');
    flood(socket, 'x'.repeat(16_384));
  });
  const outcome = await callReceiver(receiver);
  if (outcome.kind !== 'file') expect.fail(outcome.kind);
  await outcome.body[Symbol.asyncIterator]().return?.();
  await receiver.allClosed();
});
