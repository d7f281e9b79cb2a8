import { getRequestListener } from '@hono/node-server';
import {
  createServer,
  type IncomingMessage,
  type OutgoingHttpHeader,
  type OutgoingHttpHeaders,
  type RequestListener,
  type Server,
  ServerResponse,
} from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import { PROBLEMS, type ProblemCode, type Refusal, refuse } from '#domain/problem.ts';
import { problemBody } from './problem.ts';

export interface HttpServer {
  /** Where it listens: `http://127.0.0.1:3000`. */
  readonly url: string;
  /** From now on `fetch` answers. Until then all but `/healthz` is refused with 503 `starting`, to be repeated a second later. */
  serve(fetch: (request: Request, env: unknown) => Response | Promise<Response>): void;
  /** Takes no new connections, lets requests under way finish, cuts what is left after `graceMs`. */
  close(graceMs: number): Promise<void>;
}

/**
 * Takes the port and answers from the first connection on: a liveness probe sees a live process while a migration takes its
 * time, and no request is accepted that nothing would ever respond to.
 */
export async function listen({ host, port }: { host: string; port: number }): Promise<HttpServer> {
  let respond: RequestListener = answerWhileStarting;
  const server = createServer({
    // The largest result there may be, over a slow line.
    requestTimeout: 600_000,
    headersTimeout: 20_000,
    keepAliveTimeout: 65_000,
    // Checked below instead: Node's own answer has no body.
    requireHostHeader: false,
    ServerResponse: LastResponse,
  });
  server.on('request', (request, response) => {
    if (hasOneHost(request)) respond(request, response);
    else answer(response, refuse('malformed_request', 'Send exactly one Host header, as RFC 9112 (3.2) asks.'));
  });
  server.on('clientError', answerClientError);
  server.on('checkExpectation', (_request, response) => {
    answer(response, refuse('expectation_failed', 'Only "Expect: 100-continue" is understood: leave the header out.'));
  });
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  server.once('error', reject);
  server.listen(port, host, resolve);
  await promise;
  const { port: taken } = server.address() as AddressInfo;
  const name = host === '0.0.0.0' || host === '::' ? 'localhost' : host.includes(':') ? `[${host}]` : host;
  return {
    url: `http://${name}:${taken}`,
    serve: (fetch) => {
      const listener = getRequestListener(fetch);
      respond = (request, response) => void listener(request, response);
    },
    close: (graceMs) => close(server, graceMs),
  };
}

type HeaderList = OutgoingHttpHeaders | OutgoingHttpHeader[] | undefined;

/**
 * Once the server closes, a response is the last one on its connection and says so: a client would else send its next request
 * just when the idle connection is cut.
 */
class LastResponse extends ServerResponse {
  override writeHead(status: number, first?: string | HeaderList, second?: HeaderList): this {
    const { server } = this.req.socket as Socket & { server?: Server };
    if (server?.listening === false) this.setHeader('connection', 'close');
    // With headers in its place: the second overload.
    return super.writeHead(status, first as string, second as OutgoingHttpHeaders);
  }
}

/** The process is alive, and nothing else yet: `/readyz` is refused as well. */
function answerWhileStarting({ method, url = '' }: IncomingMessage, response: ServerResponse): void {
  const isRead = method === 'GET' || method === 'HEAD';
  if (isRead && /^\/healthz(?:\?|$)/.test(url)) {
    response.writeHead(200, { 'content-type': 'application/json' }).end('{"status":"ok"}');
    return;
  }
  const detail = 'The service is starting. Nothing was stored; send the request again in a second.';
  answer(response, refuse('starting', detail, { retryAfter: 1 }));
}

function hasOneHost({ headersDistinct: { host = [] } }: IncomingMessage): boolean {
  return host.length === 1 && URL.canParse(`http://${host[0]}/`);
}

/** For what never reaches the application. */
function answer(response: ServerResponse, refusal: Refusal): void {
  const body = JSON.stringify(problemBody(refusal));
  response.writeHead(PROBLEMS[refusal.code].status, {
    'content-type': 'application/problem+json',
    'content-length': Buffer.byteLength(body),
    ...(refusal.retryAfter !== undefined && { 'retry-after': String(refusal.retryAfter) }),
    connection: 'close',
  });
  response.end(body);
}

const SWEEP_MS = 20;

async function close(server: Server, graceMs: number): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  server.close(() => resolve());
  // A connection whose last response ends now would else be kept for the next request, which cannot come.
  const sweep = setInterval(() => server.closeIdleConnections(), SWEEP_MS);
  const timer = setTimeout(() => server.closeAllConnections(), graceMs);
  await promise;
  clearInterval(sweep);
  clearTimeout(timer);
}

const CLIENT_ERRORS: Readonly<Record<string, readonly [ProblemCode, string]>> = {
  HPE_HEADER_OVERFLOW: ['headers_too_large', 'Send a smaller request header: 16 KiB at most.'],
};

/** What never became a request still gets a problem document, not Node's bare status line. */
function answerClientError(error: NodeJS.ErrnoException, socket: Socket): void {
  if (error.code === 'ECONNRESET' || !socket.writable) {
    socket.destroy();
    return;
  }
  const [code, detail] = CLIENT_ERRORS[error.code ?? ''] ?? [
    'malformed_request',
    'The request could not be parsed as HTTP/1.1.',
  ];
  const body = JSON.stringify(problemBody(refuse(code, detail)));
  socket.end(
    `HTTP/1.1 ${PROBLEMS[code].status} ${PROBLEMS[code].title}\r\nconnection: close\r\n` +
      `content-type: application/problem+json\r\ncontent-length: ${Buffer.byteLength(body)}\r\n\r\n${body}`,
  );
}
