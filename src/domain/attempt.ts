/**
 * What the remote did, as one word. `interrupted` is ours alone: a courier died between sending the request
 * and recording its answer, so the receiver may or may not have seen it.
 */
export const ATTEMPT_OUTCOMES = [
  'delivered', // 2xx
  'rejected', // any other status, redirects included: they are never followed
  'timeout', // the deadline over DNS, connect, TLS, headers and body passed
  'dns', // the name did not resolve
  'network', // refused, unreachable, reset, closed early
  'tls', // handshake or certificate
  'protocol', // not HTTP, or headers beyond the bound
  'blocked', // the egress guard refused before a byte was sent
  'interrupted',
] as const;

export type AttemptOutcome = (typeof ATTEMPT_OUTCOMES)[number];

export const ATTEMPT_TRIGGERS = ['scheduled', 'manual', 'probe'] as const;

/** One HTTP response, bounded: at most the first bytes of its body are kept. */
export interface AttemptResponse {
  readonly status: number;
  /** Name and value in the order received; names as the receiver spelled them. */
  readonly headers: ReadonlyArray<readonly [string, string]>;
  /** The first bytes of the body, raw: it need be neither text nor whole. */
  readonly bodyPrefix: Uint8Array;
  /** Body bytes read before the end or the bound. */
  readonly bodyBytes: number;
  /** True when the body was longer than the bound, or in too many chunks, and the connection was cut there. */
  readonly truncated: boolean;
}

/** Milliseconds of each phase; null when the phase did not happen (a reused connection has no DNS, connect and TLS). */
export interface AttemptTimings {
  readonly dnsMs: number | null;
  readonly connectMs: number | null;
  readonly tlsMs: number | null;
  /** From the request's last byte handed over to the response's first. */
  readonly firstByteMs: number | null;
  readonly totalMs: number;
}

/** One HTTP request and what came of it. */
export interface AttemptResult {
  readonly outcome: AttemptOutcome;
  /** Stable, lower snake case, more exact than the outcome (`connection_refused`); null when delivered. */
  readonly errorCode: string | null;
  /** For people; never holds the receiver's bytes unescaped. */
  readonly errorDetail: string | null;
  /** The address the request was pinned to; null when none was reached. */
  readonly remoteAddress: string | null;
  readonly startedAt: Date;
  readonly finishedAt: Date;
  readonly timings: AttemptTimings;
  readonly response: AttemptResponse | null;
}

/** Besides those that start with `proxy_`. */
const OUR_FAULTS: ReadonlySet<string> = new Set([
  'secret_unreadable',
  'tls_key_unreadable',
  'source_address_unusable',
  'out_of_resources',
  'request_stopped',
  'courier_lost',
  'record_refused',
]);

/**
 * Whether an attempt failed on this side, so that its failure says nothing of the endpoint: not to be counted against
 * its health. `errorCode` as in an `AttemptResult`.
 */
export function isOurFault(errorCode: string | null): boolean {
  return errorCode !== null && (errorCode.startsWith('proxy_') || OUR_FAULTS.has(errorCode));
}
