import { once } from 'node:events';
import { type IncomingMessage, request } from 'node:http';
import { connect, type Socket } from 'node:net';
import { text } from 'node:stream/consumers';
import { onTestFinished } from 'vitest';
import { eventually } from '../../support/eventually.ts';

/** An answer as it came over the wire. */
export interface RawAnswer {
  readonly status: number;
  readonly headers: Headers;
  readonly text: string;
  // eslint-disable-next-line -- what a test expects of it, the test says
  readonly json: any;
}

/** A TCP connection that says exactly what a test wants said; destroyed with the test. */
export async function openSocket(url: string): Promise<Socket> {
  const { hostname, port } = new URL(url);
  const socket = connect(Number(port), hostname);
  socket.on('error', () => {});
  onTestFinished(() => void socket.destroy());
  await once(socket, 'connect');
  return socket;
}

/** Sends the bytes and reads one answer, by its content-length. */
export async function sendRaw(url: string, bytes: string | Uint8Array, timeoutMs?: number): Promise<RawAnswer> {
  const socket = await openSocket(url);
  const answer = readAnswer(socket, timeoutMs);
  socket.write(bytes);
  return answer;
}

export async function readAnswer(socket: Socket, timeoutMs = 10_000): Promise<RawAnswer> {
  let received = Buffer.alloc(0);
  socket.on('data', (chunk: Buffer) => void (received = Buffer.concat([received, chunk])));
  return eventually(() => {
    const answer = parse(received.toString('latin1'));
    if (answer === undefined) throw new Error(`no whole answer yet (open: ${!socket.closed}): ${received.toString()}`);
    return answer;
  }, timeoutMs);
}

function parse(received: string): RawAnswer | undefined {
  const end = received.indexOf('\r\n\r\n');
  if (end === -1) return undefined;
  const [statusLine = '', ...lines] = received.slice(0, end).split('\r\n');
  const headers = new Headers();
  for (const line of lines) headers.append(line.slice(0, line.indexOf(':')), line.slice(line.indexOf(':') + 1));
  const length = Number(headers.get('content-length') ?? 0);
  const body = received.slice(end + 4);
  if (body.length < length) return undefined;
  const content = Buffer.from(body.slice(0, length), 'latin1').toString();
  const isJson = headers.get('content-type')?.includes('json') === true;
  return {
    status: Number(statusLine.split(' ')[1]),
    headers,
    text: content,
    json: isJson ? JSON.parse(content) : undefined,
  };
}

/** Posts JSON, and leaves the answer in the socket, unread, until `read` is called. */
export async function postWithoutReading(url: string, key: string, body: unknown) {
  const posted = request(url, {
    method: 'POST',
    headers: { authorization: `Bearer ${key}`, 'content-type': 'application/json' },
  });
  const answered = Promise.withResolvers<IncomingMessage>();
  posted.on('error', answered.reject);
  posted.on('response', answered.resolve);
  const connected = once(posted, 'socket') as Promise<[Socket]>;
  posted.end(JSON.stringify(body));
  const [socket] = await connected;
  // A paused socket reads nothing, not even the status line.
  socket.pause();
  return {
    read: async () => {
      socket.resume();
      const response = await answered.promise;
      return { status: response.statusCode, json: JSON.parse(await text(response)) };
    },
  };
}
