import tls from 'node:tls';
import { judgeUrl } from '#domain/callback-url.ts';
import { CONNECTION_HEADERS } from '#domain/connection-headers.ts';
import { ANYWHERE } from './anywhere.ts';
import { BackendExchange, type BackendAnswer } from './backend-exchange.ts';
import { reservedHeader } from './reserved-header.ts';
import { STOPPED, type Failure } from './failure.ts';
import { LanePool } from './lane.ts';
import { systemResolver, type Resolve } from './resolve.ts';

export interface BackendClientOptions {
  /** `Ringback/<version>`; a request may bring its own. */
  readonly userAgent: string;
  readonly resolve?: Resolve;
  /** Response header bytes, names and values. Default 16 KiB. */
  readonly maxHeaderBytes?: number;
  /** Authorities to trust instead of Node's own, which NODE_EXTRA_CA_CERTS adds to. */
  readonly tls?: { readonly ca: string | Buffer | Array<string | Buffer> };
}

export interface BackendRequest {
  /** Any address and port, http or https, without user name and password. */
  readonly url: string;
  /** Encoded as in a form, without `?`; empty for none. Follows what the URL's own query says. */
  readonly query: string;
  readonly method: 'POST' | 'PUT' | 'PATCH' | 'GET' | 'DELETE';
  /** Names in lower case, `CONNECTION_HEADERS` not among them. */
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string | null;
  /** One deadline over DNS, connect, TLS, headers and body. There is no other: the back end may be slow. */
  readonly timeoutMs: number;
  /** Response body bytes read before the connection is cut. */
  readonly maxBodyBytes: number;
}

/**
 * Calls the services that platform owners have put in their configuration. Their addresses are not judged; all else is
 * as for callbacks: no redirects, no proxy of the environment, no decompression, every length bounded.
 */
export interface BackendClient {
  /** One request; never rejects. A signal that aborts ends it at once, its response body too. */
  readonly send: (request: BackendRequest, signal: AbortSignal) => Promise<BackendAnswer>;
  /** Ends all requests and connections at once; what is sent later is answered as stopped. */
  readonly close: () => void;
}

const KIB = 1024;

export function createBackendClient(options: BackendClientOptions): BackendClient {
  const { userAgent, resolve = systemResolver(), maxHeaderBytes = 16 * KIB } = options;
  const ca = options.tls?.ca;
  const pool = new LanePool({
    policy: ANYWHERE,
    resolve,
    secureContext: tls.createSecureContext(ca === undefined ? {} : { ca }),
    wary: false,
    maxHeaderBytes,
    maxWireBytes: 8 * maxHeaderBytes, // until a request brings its own bound
  });
  const inFlight = new Set<BackendExchange>();
  let closed = false;

  function send(request: BackendRequest, signal: AbortSignal): Promise<BackendAnswer> {
    const { method, headers, body, timeoutMs, maxBodyBytes } = request;
    if (closed || signal.aborted) return refuse(STOPPED);
    const verdict = judgeUrl(request.url, ANYWHERE);
    if (!verdict.ok) return refuse({ outcome: 'blocked', code: verdict.reason, detail: verdict.detail });
    const reserved = Object.keys(headers).find((name) => CONNECTION_HEADERS.has(name.toLowerCase()));
    if (reserved !== undefined) return refuse(reservedHeader(reserved));

    const { promise, resolve: answer } = Promise.withResolvers<BackendAnswer>();
    const lane = pool.take(verdict.url);
    const limits = { timeoutMs, maxBodyBytes, maxWireBytes: 8 * (maxHeaderBytes + maxBodyBytes) }; // as in `createSender`
    const exchange = new BackendExchange(lane, limits, signal, {
      answer,
      release: (reusable) => {
        inFlight.delete(exchange);
        if (reusable && !closed) pool.giveBack(lane);
        else pool.discard(lane);
      },
    });
    inFlight.add(exchange);
    const all = { 'user-agent': userAgent, ...headers, 'accept-encoding': 'identity' };
    lane.client.dispatch({ path: pathOf(verdict.url.path, request.query), method, headers: all, body }, exchange);
    return promise;
  }

  function close(): void {
    closed = true;
    for (const exchange of inFlight) exchange.stop();
    pool.closeIdle();
  }

  return { send, close };
}

function pathOf(path: string, query: string): string {
  if (query === '') return path;
  return `${path}${path.includes('?') ? '&' : '?'}${query}`;
}

async function refuse(failure: Failure): Promise<BackendAnswer> {
  return { ok: false, failure };
}
