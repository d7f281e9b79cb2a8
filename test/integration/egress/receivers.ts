import { once } from 'node:events';
import http from 'node:http';
import net from 'node:net';
import { onTestFinished } from 'vitest';
import { parseCidr } from '#domain/address.ts';
import type { EgressPolicy } from '#domain/callback-url.ts';
import { createSender, type Sender, type SenderOptions, type SendRequest } from '#egress/send.ts';

/** Everything here listens on 127.0.0.1 and is gone when the test is. */
export const ALLOW_LOOPBACK: EgressPolicy = {
  allow: [parseCidr('127.0.0.0/8')!],
  allowHttp: false,
  ports: [443, 8443],
};
export const ALLOW_NOTHING: EgressPolicy = { ...ALLOW_LOOPBACK, allow: [] };

export interface Receiver {
  readonly port: number;
  /** TCP connections accepted so far. */
  readonly connections: () => number;
  /** Resolves once every accepted connection is closed. */
  readonly allClosed: () => Promise<void>;
}

/** Makes `server` listen and counts its connections. */
export async function listen(server: net.Server): Promise<Receiver> {
  const open = new Set<net.Socket>();
  let connections = 0;
  server.on('connection', (socket) => {
    connections++;
    open.add(socket);
    socket.on('error', () => {}); // resets are what many of these tests are about
    socket.on('close', () => open.delete(socket));
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  onTestFinished(() => {
    for (const socket of open) socket.destroy();
    server.close();
  });
  return {
    port: (server.address() as net.AddressInfo).port,
    connections: () => connections,
    allClosed: async () => {
      await Promise.all([...open].map((socket) => new Promise((resolve) => socket.once('close', resolve))));
    },
  };
}

export function listenHttp(
  onRequest: (incoming: http.IncomingMessage, response: http.ServerResponse) => unknown,
): Promise<Receiver> {
  return listen(http.createServer((incoming, response) => void onRequest(incoming, response)));
}

/** A server that answers whatever arrives first with these bytes, through `answer`. */
export function listenRaw(answer: (socket: net.Socket) => void): Promise<Receiver> {
  return listen(net.createServer((socket) => void socket.once('data', () => answer(socket))));
}

/** Writes as fast as the other side reads, until it hangs up. */
export function flood(socket: net.Socket, chunk: string): void {
  const more = () => {
    while (!socket.destroyed && socket.write(chunk));
  };
  socket.on('drain', more);
  more();
}

export function makeSender(options: Partial<SenderOptions> = {}): Sender {
  const sender = createSender({
    policy: ALLOW_LOOPBACK,
    userAgent: 'Ringback/test',
    now: () => new Date(),
    ...options,
  });
  onTestFinished(() => sender.close());
  return sender;
}

export function request(url: string, changes: Partial<SendRequest> = {}): SendRequest {
  return { url, headers: {}, body: Buffer.from('{"type":"job.succeeded"}'), timeoutMs: 10_000, ...changes };
}

export function urlOf(receiver: Receiver, path = '/'): string {
  return `http://127.0.0.1:${receiver.port}${path}`;
}
