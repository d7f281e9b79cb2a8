import { errors } from 'undici';
import type { AttemptOutcome } from '#domain/attempt.ts';

/** Why an attempt has no complete response. */
export interface Failure {
  readonly outcome: AttemptOutcome;
  /** Stable, lower snake case. */
  readonly code: string;
  /** For people, in our words: error messages of TLS and HTTP libraries quote what the receiver sent. */
  readonly detail: string;
}

/** How far a connection got; `ready` once requests can be written. */
export type Stage = 'dns' | 'proxy' | 'connect' | 'tls' | 'ready';

/** Carries a failure that is already put into words through undici, which hands our errors back untouched. */
export class EgressError extends Error {
  readonly failure: Failure;

  constructor(failure: Failure, cause?: unknown) {
    super(failure.detail, { cause });
    this.name = 'EgressError';
    this.failure = failure;
  }
}

/** The response body is longer than who asked for it will take. */
export class BodyTooLargeError extends EgressError {
  constructor(maxBytes: number) {
    const detail = `The response body is longer than ${maxBytes} bytes.`;
    super({ outcome: 'protocol', code: 'body_too_large', detail });
    this.name = 'BodyTooLargeError';
  }
}

const TIMEOUTS: Record<Stage, readonly [code: string, what: string]> = {
  dns: ['dns_timeout', 'resolving the host name'],
  proxy: ['proxy_timeout', 'the egress proxy was asked for a connection'],
  connect: ['connect_timeout', 'connecting'],
  tls: ['tls_timeout', 'the TLS handshake'],
  ready: ['headers_timeout', 'waiting for the response'],
};

export function timeoutFailure(stage: Stage, hasHeaders: boolean, timeoutMs: number): Failure {
  const [code, what] = hasHeaders ? ['body_timeout', 'reading the response body'] : TIMEOUTS[stage];
  return { outcome: 'timeout', code, detail: `The deadline of ${timeoutMs} ms passed while ${what}.` };
}

const CERTIFICATE_FAULTS: Record<string, string> = {
  CERT_HAS_EXPIRED: 'has expired',
  CERT_NOT_YET_VALID: 'is not valid yet',
  CERT_REVOKED: 'is revoked',
  DEPTH_ZERO_SELF_SIGNED_CERT: 'is self-signed',
  SELF_SIGNED_CERT_IN_CHAIN: 'comes from a private authority (self-signed certificate in its chain)',
  UNABLE_TO_GET_ISSUER_CERT: 'lacks its issuer',
  UNABLE_TO_GET_ISSUER_CERT_LOCALLY: 'comes from an unknown authority, or the server does not send the whole chain',
  UNABLE_TO_VERIFY_LEAF_SIGNATURE: 'comes from an unknown authority, or the server does not send the whole chain',
  ERR_TLS_CERT_ALTNAME_INVALID: 'is for another host name',
  HOSTNAME_MISMATCH: 'is for another host name',
  CERT_SIGNATURE_FAILURE: 'has a wrong signature',
  CERT_UNTRUSTED: 'is not trusted',
  CERT_REJECTED: 'is rejected',
  CERT_CHAIN_TOO_LONG: 'has too long a chain',
  INVALID_CA: 'has an invalid authority',
  INVALID_PURPOSE: 'is not for servers',
  PATH_LENGTH_EXCEEDED: 'has too long a chain',
  EE_KEY_TOO_SMALL: 'has too small a key',
  CA_KEY_TOO_SMALL: 'comes from an authority with too small a key',
  CA_MD_TOO_WEAK: 'is signed with too weak a digest',
};

/**
 * Alerts that a server sends of the client's certificate alone (RFC 8446 section 6.2). Of a missing one, TLS 1.2 has only
 * the alert "handshake failure", which may mean other things. OpenSSL 3.2 renamed some: `ERR_SSL_SSL/TLS_ALERT_...`.
 */
const CLIENT_CERTIFICATE_ALERT =
  /_ALERT_(?:(?:BAD|UNSUPPORTED|NO)_CERTIFICATE|CERTIFICATE_(?:REVOKED|EXPIRED|UNKNOWN|REQUIRED)|UNKNOWN_CA|ACCESS_DENIED)$/;

const CLOSED: Failure = {
  outcome: 'network',
  code: 'connection_closed',
  detail: 'The receiver closed the connection before the response was complete.',
};
const RESET: Failure = { outcome: 'network', code: 'connection_reset', detail: 'The receiver reset the connection.' };
const INVALID_HTTP: Failure = {
  outcome: 'protocol',
  code: 'invalid_http',
  detail: 'The receiver answered with something that is not HTTP/1.1.',
};
export const UNREACHABLE: Failure = {
  outcome: 'network',
  code: 'host_unreachable',
  detail: "The receiver's address cannot be reached from here.",
};
export const CONNECTION_REFUSED: Failure = {
  outcome: 'network',
  code: 'connection_refused',
  detail: 'The receiver refused the connection.',
};
/** Of this machine, whoever the receiver is. */
export const SOURCE_ADDRESS_UNUSABLE: Failure = {
  outcome: 'network',
  code: 'source_address_unusable',
  detail: "The source address is none of this machine's, or of another family than the receiver's.",
};
const OUT_OF_RESOURCES: Failure = {
  outcome: 'network',
  code: 'out_of_resources',
  detail: 'This machine has no more sockets or memory for connections.',
};
/** Ended by us: a run that was stopped, a process that ends. */
export const STOPPED: Failure = {
  outcome: 'interrupted',
  code: 'request_stopped',
  detail: 'The request was stopped before its response was complete.',
};
const INVALID_REQUEST: Failure = {
  outcome: 'blocked',
  code: 'request_invalid',
  detail: 'The request holds a header that cannot be sent.',
};
export const HEADERS_TOO_LARGE: Failure = {
  outcome: 'protocol',
  code: 'headers_too_large',
  detail: 'The response headers are larger than a callback response may have.',
};
export const RESPONSE_TOO_LARGE: Failure = {
  outcome: 'protocol',
  code: 'response_too_large',
  detail: 'The receiver sent far more bytes than a response of this size needs.',
};

const BY_CODE: Record<string, Failure> = {
  ECONNREFUSED: CONNECTION_REFUSED,
  ECONNRESET: RESET,
  EPIPE: RESET,
  ECONNABORTED: RESET,
  EHOSTUNREACH: UNREACHABLE,
  ENETUNREACH: UNREACHABLE,
  EHOSTDOWN: UNREACHABLE,
  ENETDOWN: UNREACHABLE,
  EADDRNOTAVAIL: UNREACHABLE,
  ETIMEDOUT: UNREACHABLE,
  EACCES: UNREACHABLE, // a local firewall's "administratively prohibited"
  EPERM: UNREACHABLE,
  UND_ERR_SOCKET: CLOSED,
  UND_ERR_RES_CONTENT_LENGTH_MISMATCH: CLOSED,
  ERR_ASSERTION: INVALID_HTTP, // undici asserts that a status is at least 100
  UND_ERR_HEADERS_OVERFLOW: HEADERS_TOO_LARGE,
};

/** Of the process or the machine, whatever it was about to do. */
const OUT_OF_RESOURCES_CODES = new Set(['EMFILE', 'ENFILE', 'ENOBUFS', 'ENOMEM']);
/** undici's, before it connects. */
const INVALID_REQUEST_CODES = new Set(['UND_ERR_INVALID_ARG', 'UND_ERR_NOT_SUPPORTED']);

/** Error codes of Node, OpenSSL and undici are constants; anything else might quote the receiver. */
export function codeOf(error: unknown): string {
  const code = error instanceof Error && 'code' in error ? error.code : undefined;
  return typeof code === 'string' && /^[A-Z][A-Z0-9_/]{1,60}$/.test(code) ? code : 'UNKNOWN';
}

function dnsFailure(code: string): Failure {
  return code === 'ENOTFOUND' || code === 'ENODATA'
    ? { outcome: 'dns', code: 'dns_not_found', detail: 'The host name does not exist or has no address.' }
    : { outcome: 'dns', code: 'dns_failed', detail: `The host name could not be resolved (${code}).` };
}

function tlsFailure(code: string): Failure {
  const fault = CERTIFICATE_FAULTS[code];
  if (fault) {
    return {
      outcome: 'tls',
      code: 'tls_certificate_invalid',
      detail: `The receiver's certificate ${fault} (${code}).`,
    };
  }
  if (CLIENT_CERTIFICATE_ALERT.test(code)) {
    return {
      outcome: 'tls',
      code: 'tls_client_certificate_refused',
      detail: `The receiver wants a client certificate, and not the one it got, if any (${code}).`,
    };
  }
  return { outcome: 'tls', code: 'tls_handshake_failed', detail: `The TLS handshake failed (${code}).` };
}

/** The parser's reasons are constants of llhttp; undici 8.12 leaves their codes out. */
function parserFailure({ message }: Error): Failure {
  const reason = /\(([\w ,'`/-]{1,60})\)$/.exec(message)?.[1];
  if (reason === 'Invalid EOF state') return CLOSED;
  return reason ? { ...INVALID_HTTP, detail: `${INVALID_HTTP.detail} (${reason})` } : INVALID_HTTP;
}

/** Names a failure by what was thrown and how far the connection had got. */
export function failureOf(error: unknown, stage: Stage, hasHeaders: boolean): Failure {
  if (error instanceof EgressError) return error.failure;
  const code = codeOf(error);
  if (INVALID_REQUEST_CODES.has(code)) return INVALID_REQUEST;
  if (OUT_OF_RESOURCES_CODES.has(code)) return OUT_OF_RESOURCES;
  if (stage === 'dns') return dnsFailure(code);
  // A server that wants a client certificate says so, in TLS 1.3, after the handshake.
  if (stage === 'tls' || code.startsWith('ERR_SSL_')) return tlsFailure(code);
  // undici words "the connection ended" and "a 100 or 101 nobody asked for" with the same code ...
  if (code === 'UND_ERR_SOCKET' && (error as Error).message.startsWith('bad ')) return INVALID_HTTP;
  // ... and a header section it cannot parse like a body that ends too early, once it has seen a length.
  if (code === 'UND_ERR_RES_CONTENT_LENGTH_MISMATCH' && !hasHeaders) return INVALID_HTTP;
  if (error instanceof errors.HTTPParserError) return parserFailure(error);
  const unknown: Failure = { outcome: 'network', code: 'network_error', detail: `The connection failed (${code}).` };
  return BY_CODE[code] ?? unknown;
}
