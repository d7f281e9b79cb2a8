import type net from 'node:net';
import type { EgressProxy } from '#domain/egress-proxy.ts';
import {
  PROXY_AUTH_FAILED,
  PROXY_INVALID,
  proxyDenied,
  proxyTargetUnreachable,
  type TunnelAnswer,
} from './proxy-failure.ts';
import { readAnswer } from './read-answer.ts';

const STATUS_LINE = /^HTTP\/1\.[01] ([2-5]\d\d)(?: [^\r\n]*)?\r\n/;
/** 502 and 504 by RFC 9110; squid says 503 of a target that it cannot reach. */
const GATEWAY_STATUSES = new Set([502, 503, 504]);

/** Asks an HTTP proxy for a tunnel to an address (RFC 9110 section 9.3.6). */
export async function httpConnect(
  socket: net.Socket,
  proxy: EgressProxy,
  target: { readonly address: string; readonly port: number },
  signal: AbortSignal,
): Promise<TunnelAnswer> {
  const host = target.address.includes(':') ? `[${target.address}]` : target.address;
  const authority = `${host}:${target.port}`;
  const lines = [`CONNECT ${authority} HTTP/1.1`, `Host: ${authority}`];
  if (proxy.credentials) {
    const { user, password } = proxy.credentials;
    lines.push(`Proxy-Authorization: Basic ${Buffer.from(`${user}:${password}`).toString('base64')}`);
  }
  socket.write(`${lines.join('\r\n')}\r\n\r\n`);
  const { bytes, excess } = await readAnswer(socket, endOfHead, signal);
  return judge(bytes.toString('latin1'), excess);
}

function endOfHead(received: Buffer): number | undefined | null {
  if (!'HTTP/1.'.startsWith(received.toString('latin1', 0, 7))) return null;
  const end = received.indexOf('\r\n\r\n');
  return end === -1 ? undefined : end + 4;
}

function judge(head: string, excess: boolean): TunnelAnswer {
  const status = Number(STATUS_LINE.exec(head)?.[1] ?? 0);
  if (status === 0) return { ok: false, failure: PROXY_INVALID, tryNext: false };
  // In a tunnel to HTTP or TLS nothing can have been said yet: it would be taken for an answer of the receiver.
  if (status < 300) return excess ? { ok: false, failure: PROXY_INVALID, tryNext: false } : { ok: true };
  if (status === 407) return { ok: false, failure: PROXY_AUTH_FAILED, tryNext: false };
  return GATEWAY_STATUSES.has(status)
    ? { ok: false, failure: proxyTargetUnreachable(`status ${status}`), tryNext: true }
    : { ok: false, failure: proxyDenied(`status ${status}`), tryNext: false };
}
