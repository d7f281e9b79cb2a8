import type { Failure } from './failure.ts';

/** What a proxy made of the wish for a tunnel to one address; `tryNext`: another address may be in reach. */
export type TunnelAnswer =
  | { readonly ok: true }
  | { readonly ok: false; readonly failure: Failure; readonly tryNext: boolean };

/** What the egress proxy did. Each code starts with `proxy_`: none of these is the receiver's doing. */
export const PROXY_CLOSED: Failure = {
  outcome: 'network',
  code: 'proxy_unreachable',
  detail: 'The egress proxy closed the connection before it answered.',
};
export const PROXY_AUTH_FAILED: Failure = {
  outcome: 'blocked',
  code: 'proxy_auth_failed',
  detail: 'The egress proxy does not accept our user name and password.',
};
export const PROXY_INVALID: Failure = {
  outcome: 'protocol',
  code: 'proxy_invalid_answer',
  detail: 'The egress proxy answered with something that is not its protocol.',
};

/** `reason`: a constant of Node, OpenSSL or a resolver. */
export function proxyUnreachable(reason: string): Failure {
  const detail = `The egress proxy cannot be reached (${reason}).`;
  return { outcome: 'network', code: 'proxy_unreachable', detail };
}

export function proxyTlsFailed(reason: string): Failure {
  const detail = `The TLS handshake with the egress proxy failed (${reason}).`;
  return { outcome: 'tls', code: 'proxy_tls_failed', detail };
}

/** `answer`: the proxy's, as a number. */
export function proxyDenied(answer: string): Failure {
  const detail = `The egress proxy does not let the request through (${answer}).`;
  return { outcome: 'blocked', code: 'proxy_denied', detail };
}

export function proxyTargetUnreachable(answer: string): Failure {
  const detail = `The egress proxy did not get through to the receiver (${answer}).`;
  return { outcome: 'network', code: 'proxy_target_unreachable', detail };
}
