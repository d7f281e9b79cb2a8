import { getRequestListener } from '@hono/node-server';
import { createServer, type Server } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import { PROBLEMS, type ProblemCode, refuse } from '#domain/problem.ts';
import { problemBody } from './problem.ts';

export interface HttpServer {
  /** Where it listens: `http://127.0.0.1:3000`. */
  readonly url: string;
  /** Answers from now on; requests that came before waited. */
  serve(fetch: (request: Request, env: unknown) => Response | Promise<Response>): void;
  /** Takes no new connections, lets requests under way finish, cuts what is left after `graceMs`. */
  close(graceMs: number): Promise<void>;
}

/** Takes the port, so that the address is known before anything is told of it. */
export async function listen({ host, port }: { host: string; port: number }): Promise<HttpServer> {
  const server = createServer({ requestTimeout: 60_000, headersTimeout: 20_000, keepAliveTimeout: 65_000 });
  server.on('clientError', answerClientError);
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
      server.on('request', (request, response) => void listener(request, response));
    },
    close: (graceMs) => close(server, graceMs),
  };
}

async function close(server: Server, graceMs: number): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  server.close(() => resolve());
  server.closeIdleConnections();
  const timer = setTimeout(() => server.closeAllConnections(), graceMs);
  await promise;
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
