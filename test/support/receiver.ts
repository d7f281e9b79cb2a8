import { once } from 'node:events';
import { createServer, type IncomingHttpHeaders, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import { onTestFinished } from 'vitest';
import { eventually } from './eventually.ts';

/** A request as it came in, whole. */
export interface ReceivedRequest {
  readonly method: string;
  /** Path and query. */
  readonly path: string;
  readonly headers: IncomingHttpHeaders;
  /** The bytes that the signature covers. */
  readonly body: Buffer;
  readonly json: unknown;
  readonly receivedAt: Date;
}

/** What to do with one request: answer it, never answer it, or reset its connection. */
export type Answer =
  | { readonly status: number; readonly headers?: Record<string, string>; readonly body?: string | Uint8Array }
  | 'hang'
  | 'reset';

/** What to do with each request, by what it says. */
export type Answering = (request: ReceivedRequest) => Answer | Promise<Answer>;

export interface Receiver {
  /** `http://127.0.0.1:<port>`. */
  readonly origin: string;
  /** `/callback` under it: what most tests register. */
  readonly url: string;
  /** In the order they came in. */
  readonly requests: readonly ReceivedRequest[];
  /** The answers to the next requests, one each, in turn; after them, and at first, 200. */
  script(...answers: Answer[]): void;
  /** From now on every request that no script answers gets this. */
  answerAll(answer: Answer | Answering): void;
  /** The next request that no earlier `next` has answered with; at once when it has come already. */
  next(timeoutMs?: number): Promise<ReceivedRequest>;
  /** All requests, once there are at least so many. */
  waitFor(count: number, timeoutMs?: number): Promise<readonly ReceivedRequest[]>;
}

/** A real HTTP server on loopback, gone when the test is. */
export async function startReceiver(): Promise<Receiver> {
  const requests: ReceivedRequest[] = [];
  const scripted: Answer[] = [];
  const sockets = new Set<Socket>();
  let usual: Answer | Answering = { status: 200, body: 'ok' };
  let handedOut = 0;

  const receive = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    const chunks = await request.toArray().catch(() => undefined);
    if (chunks === undefined) return; // cut off while it was still sending
    const body = Buffer.concat(chunks as Buffer[]);
    const { method = '', url: path = '', headers } = request;
    const received = { method, path, headers, body, json: parse(body), receivedAt: new Date() };
    requests.push(received);
    const answer = scripted.shift() ?? usual;
    reply(response, typeof answer === 'function' ? await answer(received) : answer);
  };
  const server = createServer((request, response) => void receive(request, response));
  server.on('connection', (socket) => {
    sockets.add(socket);
    socket.on('close', () => sockets.delete(socket)).on('error', () => {});
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  onTestFinished(async () => {
    const closed = once(server, 'close');
    server.close();
    for (const socket of sockets) socket.destroy();
    await closed;
  });

  const waitFor = (count: number, timeoutMs?: number) =>
    eventually(() => {
      if (requests.length >= count) return requests;
      throw new Error(`the receiver has got ${requests.length} of ${count} requests`);
    }, timeoutMs);
  const origin = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  return {
    origin,
    url: `${origin}/callback`,
    requests,
    script: (...answers) => void scripted.push(...answers),
    answerAll: (answer) => void (usual = answer),
    next: async (timeoutMs) => {
      const index = handedOut++;
      return (await waitFor(index + 1, timeoutMs))[index]!;
    },
    waitFor,
  };
}

function reply(response: ServerResponse, answer: Answer): void {
  if (answer === 'hang') return;
  if (answer === 'reset') response.socket?.resetAndDestroy();
  else response.writeHead(answer.status, answer.headers).end(answer.body);
}

function parse(body: Buffer): unknown {
  try {
    return JSON.parse(body.toString());
  } catch {
    return undefined;
  }
}
