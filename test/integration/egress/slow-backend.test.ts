import { once } from 'node:events';
import type net from 'node:net';
import { text } from 'node:stream/consumers';
import { expect, onTestFinished, test, vi } from 'vitest';
import { ask, makeClient, never, responseOf } from './backends.ts';
import { listenRaw } from './receivers.ts';

// In a file of its own: undici makes its clock with the first timer it needs, which has to be a false one.
test('a back end that answers after an hour is in time when the deadline says so, headers and body both', async () => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
  onTestFinished(() => void vi.useRealTimers());
  const asked = Promise.withResolvers<net.Socket>();
  const receiver = await listenRaw((socket) => asked.resolve(socket));
  const answer = makeClient().send(ask(receiver, { timeoutMs: 3 * 3_600_000 }), never);
  const socket = await asked.promise;
  vi.advanceTimersByTime(3_600_000);
  socket.write('HTTP/1.1 200 OK\r\ncontent-length: 8\r\n\r\nhalf');
  const { body } = responseOf(await answer);
  await once(body, 'readable');
  vi.advanceTimersByTime(3_600_000);
  socket.write('done');
  expect(await text(body)).toBe('halfdone');
});
