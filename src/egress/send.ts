import tls from 'node:tls';
import type { AttemptResult } from '#domain/attempt.ts';
import { judgeUrl, type EgressPolicy } from '#domain/callback-url.ts';
import type { EgressProxy } from '#domain/egress-proxy.ts';
import { CONNECTION_HEADERS } from '#domain/connection-headers.ts';
import { reservedHeader } from './reserved-header.ts';
import { Exchange } from './exchange.ts';
import type { Failure } from './failure.ts';
import { Identities, type TlsIdentity } from './identity.ts';
import { LanePool } from './lane.ts';
import { systemResolver, type Resolve } from './resolve.ts';

export interface SenderOptions {
  readonly policy: EgressPolicy;
  /** `Ringback/<version>`. */
  readonly userAgent: string;
  readonly resolve?: Resolve;
  /** Response header bytes, names and values. Default 16 KiB. */
  readonly maxHeaderBytes?: number;
  /** Response body bytes read before the connection is cut. Default 64 KiB. */
  readonly maxBodyBytes?: number;
  /** Response body bytes kept. Default 4 KiB. */
  readonly keptBodyBytes?: number;
  /** Authorities to trust instead of Node's own, for receivers and for the proxy. */
  readonly tls?: { readonly ca: string | Buffer | Array<string | Buffer> };
  /** When attempts are said to begin; how long they take is measured otherwise. */
  readonly now: () => Date;
  /** Every request goes through it, by the address that was judged here. */
  readonly proxy?: EgressProxy | undefined;
  /** The address of this machine that connections come from; receivers of the other family are out of reach. */
  readonly localAddress?: string | undefined;
}

export interface SendRequest {
  readonly url: string;
  /** Without those that the sender sets: see `SENDER_HEADERS`. */
  readonly headers: Readonly<Record<string, string>>;
  readonly body: Uint8Array;
  /** One deadline over DNS, connect, TLS, headers and body. */
  readonly timeoutMs: number;
  /** Of an endpoint that has its own: mutual TLS, or an authority that nobody else knows. */
  readonly tls?: TlsIdentity | undefined;
}

export interface Sender {
  /** POSTs once. Never rejects for what the remote does; rejects only after `close`. */
  readonly send: (request: SendRequest) => Promise<AttemptResult>;
  /** Takes no more requests, waits for those in flight (their deadlines bound that), closes every connection. */
  readonly close: () => Promise<void>;
}

/** Names a request may not bring along either: the callback's URL and the sender decide these. */
const SENDER_HEADERS: ReadonlySet<string> = new Set([...CONNECTION_HEADERS, 'host', 'user-agent']);

const KIB = 1024;

export function createSender(options: SenderOptions): Sender {
  const { policy, userAgent, resolve = systemResolver() } = options;
  const { maxHeaderBytes = 16 * KIB, maxBodyBytes = 64 * KIB, keptBodyBytes = 4 * KIB } = options;
  const { now } = options;
  const limits = { maxBodyBytes, keptBodyBytes };
  const ca = options.tls?.ca;
  // One for all: making one takes 0.1 ms, and 3.5 ms when authorities are given.
  const secureContext = tls.createSecureContext(ca === undefined ? {} : { ca });
  const pool = new LanePool({
    policy,
    resolve,
    secureContext,
    proxy: options.proxy && { ...options.proxy, secureContext },
    localAddress: options.localAddress,
    wary: true,
    maxHeaderBytes,
    maxWireBytes: 8 * (maxHeaderBytes + maxBodyBytes), // a byte in a chunk of its own takes six on the wire
  });
  const identities = new Identities(ca);
  let inFlight = 0;
  let closing: PromiseWithResolvers<void> | undefined;

  async function send(request: SendRequest): Promise<AttemptResult> {
    if (closing) throw new Error('the sender is closed');
    const verdict = judgeUrl(request.url, policy);
    if (!verdict.ok) return blocked({ outcome: 'blocked', code: verdict.reason, detail: verdict.detail }, now());
    const reserved = Object.keys(request.headers).find((name) => SENDER_HEADERS.has(name.toLowerCase()));
    if (reserved !== undefined) return blocked(reservedHeader(reserved), now());
    const identity = request.tls && identities.open(request.tls);
    if (identity?.ok === false) return blocked(identity.failure, now());

    const headers = ['user-agent', userAgent, 'accept-encoding', 'identity', ...Object.entries(request.headers).flat()];
    inFlight++;
    const { promise, resolve: settle } = Promise.withResolvers<AttemptResult>();
    const lane = pool.take(verdict.url, identity);
    const exchange = new Exchange(
      lane,
      { startedAt: now(), timeoutMs: request.timeoutMs },
      limits,
      (result, reusable) => {
        if (reusable) pool.giveBack(lane);
        else pool.discard(lane);
        settle(result);
        if (--inFlight === 0 && closing) finishClosing();
      },
    );
    lane.client.dispatch({ path: verdict.url.path, method: 'POST', headers, body: request.body }, exchange);
    return promise;
  }

  function finishClosing(): void {
    pool.closeIdle();
    closing?.resolve();
  }

  function close(): Promise<void> {
    closing ??= Promise.withResolvers<void>();
    if (inFlight === 0) finishClosing();
    return closing.promise;
  }

  return { send, close };
}

/** Refused before a connection was thought of. */
function blocked(failure: Failure, now: Date): AttemptResult {
  return {
    outcome: failure.outcome,
    errorCode: failure.code,
    errorDetail: failure.detail,
    remoteAddress: null,
    startedAt: now,
    finishedAt: now,
    timings: { dnsMs: null, connectMs: null, tlsMs: null, firstByteMs: null, totalMs: 0 },
    response: null,
  };
}
