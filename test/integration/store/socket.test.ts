import { once } from 'node:events';
import { type AddressInfo, createServer, type Socket } from 'node:net';
import { setImmediate as turn } from 'node:timers/promises';
import { expect, onTestFinished, test } from 'vitest';
import { Sockets } from '#store/socket.ts';

/** A port of loopback where nobody listens. */
async function closedPort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, 'close');
  return port;
}

test('a socket closes in the tick of its error', async () => {
  const socket = new Sockets().make({ host: ['127.0.0.1'], port: [await closedPort()] });
  const [error] = (await once(socket, 'error')) as [NodeJS.ErrnoException];
  expect(error.code).toBe('ECONNREFUSED');
  await once(socket, 'close');
});

test('a socket that is ended before it connects, as by a pool that closes, does not connect any more', async () => {
  const socket = new Sockets().make({ host: ['127.0.0.1'], port: [await closedPort()] });
  const closed = Promise.withResolvers<void>();
  // As the driver does: it says goodbye, and forgets a socket that has closed.
  socket.once('close', () => {
    socket.removeAllListeners();
    closed.resolve();
  });
  socket.end('goodbye');
  await closed.promise;
  const errors: unknown[] = [];
  socket.on('error', (error) => errors.push(error));
  for (let count = 0; count < 20; count++) await turn();
  expect({ errors, connecting: socket.connecting }).toEqual({ errors: [], connecting: false });
});

test('a pool that has ended leaves nothing open: neither what is connected nor what was about to be', async () => {
  const accepted: Socket[] = [];
  const server = createServer((socket) => accepted.push(socket));
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  onTestFinished(() => void server.close());
  const sockets = new Sockets();
  const target = { host: ['127.0.0.1'], port: [(server.address() as AddressInfo).port] };
  const connected = sockets.make(target);
  await once(connected, 'connect');
  const later = sockets.make(target);
  sockets.close();
  const latest = sockets.make(target);
  await turn();
  await once(connected, 'close');
  expect([connected.destroyed, later.destroyed, latest.connecting]).toEqual([true, true, false]);
  expect(accepted).toHaveLength(1);
});
