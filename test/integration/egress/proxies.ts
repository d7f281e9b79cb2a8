import { once } from 'node:events';
import http from 'node:http';
import https from 'node:https';
import net from 'node:net';
import { expect } from 'vitest';
import { parseProxyUrl, type EgressProxy } from '#domain/egress-proxy.ts';
import { TEST_CERTIFICATE, TEST_KEY } from './certificates.ts';
import { listen, type Receiver } from './receivers.ts';

export interface Proxy extends Receiver {
  /** What it was asked to connect to, in order: `address:port`. */
  readonly asked: string[];
  /** The headers of the last CONNECT, or user and password of the last SOCKS greeting. */
  readonly credentials: () => string | undefined;
}

export function proxyAt(text: string): EgressProxy {
  return parseProxyUrl(text) ?? expect.fail(`${text} is no proxy`);
}

/** A proxy that does its work: CONNECT, by Node's own server. */
export async function listenConnect(scheme: 'http' | 'https' = 'http'): Promise<Proxy> {
  const asked: string[] = [];
  let credentials: string | undefined;
  const server =
    scheme === 'http' ? http.createServer() : https.createServer({ key: TEST_KEY, cert: TEST_CERTIFICATE });
  server.on('tlsClientError', () => {});
  server.on('connect', (request: http.IncomingMessage, socket: net.Socket, head: Buffer) => {
    asked.push(request.url!);
    credentials = request.headers['proxy-authorization'];
    const { hostname, port } = new URL(`http://${request.url}`);
    const upstream = net.connect(Number(port || 80), hostname.replaceAll(/[[\]]/g, ''));
    upstream.on('error', () => socket.end('HTTP/1.1 502 Bad Gateway\r\n\r\nno'));
    socket.on('error', () => upstream.destroy());
    socket.on('close', () => upstream.destroy());
    upstream.on('connect', () => {
      socket.write('HTTP/1.1 200 Connection established\r\nvia: test\r\n\r\n');
      upstream.write(head);
      socket.pipe(upstream).pipe(socket);
    });
  });
  return { ...(await listen(server)), asked, credentials: () => credentials };
}

interface SocksScript {
  /** Takes the login; asks for none without. */
  readonly login?: { readonly user: string; readonly password: string };
  /** The reply instead of connecting. */
  readonly reply?: number;
  /** Whether each answer comes byte by byte. */
  readonly slowly?: boolean;
}

/** The next `length` bytes. */
async function read(socket: net.Socket, length: number): Promise<Buffer> {
  for (;;) {
    const bytes = socket.read(length) as Buffer | null;
    if (bytes !== null) return bytes;
    await once(socket, 'readable');
  }
}

async function write(socket: net.Socket, bytes: readonly number[], slowly = false): Promise<void> {
  for (const part of slowly ? bytes.map((byte) => [byte]) : [bytes]) {
    socket.write(Buffer.from(part));
    await new Promise(setImmediate);
  }
}

/** Whether the login that follows is the one that is wanted; `told` hears of it. */
async function takesLogin(socket: net.Socket, { login }: SocksScript, told: (text: string) => void): Promise<boolean> {
  const [, length] = await read(socket, 2);
  const user = (await read(socket, length!)).toString();
  const password = (await read(socket, (await read(socket, 1))[0]!)).toString();
  told(`${user}:${password}`);
  return user === login?.user && password === login.password;
}

/** Just enough of RFC 1928 and 1929, for addresses alone. */
export async function listenSocks(script: SocksScript = {}): Promise<Proxy> {
  const { login, reply, slowly } = script;
  const asked: string[] = [];
  let credentials: string | undefined;

  async function serve(socket: net.Socket): Promise<void> {
    const [, methods] = await read(socket, 2);
    const method = login ? 2 : 0;
    if (!(await read(socket, methods!)).includes(method)) return write(socket, [5, 255]);
    await write(socket, [5, method], slowly);
    if (login) {
      const taken = await takesLogin(socket, script, (text) => (credentials = text));
      await write(socket, [1, taken ? 0 : 1], slowly);
    }
    const [, , , type] = await read(socket, 4);
    const bytes = await read(socket, type === 1 ? 4 : 16);
    const port = (await read(socket, 2)).readUInt16BE();
    const address = type === 1 ? bytes.join('.') : bytes.toString('hex');
    asked.push(`${address}:${port}`);
    if (reply !== undefined) return write(socket, [5, reply, 0, 1, 0, 0, 0, 0, 0, 0]);
    await connect(socket, address, port);
  }

  async function connect(socket: net.Socket, address: string, port: number): Promise<void> {
    const upstream = net.connect(port, address);
    try {
      await once(upstream, 'connect');
    } catch {
      return write(socket, [5, 5, 0, 1, 0, 0, 0, 0, 0, 0]);
    }
    upstream.on('error', () => socket.destroy());
    socket.on('close', () => upstream.destroy());
    await write(socket, [5, 0, 0, 3, 4, 104, 111, 115, 116, 0, 0], slowly); // bound to a name, of all things
    socket.pipe(upstream).pipe(socket);
  }

  // A client that hangs up half-way is what some of these tests are about.
  const server = net.createServer((socket) => void serve(socket).catch(() => socket.destroy()));
  return { ...(await listen(server)), asked, credentials: () => credentials };
}
