import type net from 'node:net';
import type tls from 'node:tls';
import { judgeTarget, type CallbackUrl, type EgressPolicy } from '#domain/callback-url.ts';
import { connectFirst, type Connected } from './connect.ts';
import { EgressError, type Stage } from './failure.ts';
import type { Resolve } from './resolve.ts';
import { secure } from './secure.ts';
import { openTunnel, type ProxyOptions } from './tunnel.ts';

export interface DialOptions {
  readonly policy: EgressPolicy;
  readonly resolve: Resolve;
  readonly secureContext: tls.SecureContext;
  /** Every connection goes through it. */
  readonly proxy?: ProxyOptions | undefined;
  /** The address of this machine that connections come from; the system's choice without. */
  readonly localAddress?: string | undefined;
}

/** What is known of one connection, filled in while it is made and read by the attempts that it serves. */
export interface Link {
  stage: Stage;
  dnsMs: number | null;
  connectMs: number | null;
  tlsMs: number | null;
  /** The address that accepted the TCP connection, or that the proxy has reached. */
  address: string | null;
  /** The first error of an established TLS socket: undici reports the last one, "closed" after an alert. */
  tlsError: Error | null;
  /** Attempts that have used it before. */
  served: number;
}

export function newLink(): Link {
  return { stage: 'dns', dnsMs: null, connectMs: null, tlsMs: null, address: null, tlsError: null, served: 0 };
}

/**
 * Opens a connection to where the URL's host lives: resolve once, judge every answer, connect to a judged address,
 * so that a name which changes its mind between two look-ups (DNS rebinding) gains nothing. Address literals take
 * the same way, because `net.connect` asks no resolver about them. No proxy setting of the environment is read; the
 * operator's own proxy is given the judged address, for a name would be resolved there once more, by nobody's rules.
 */
export async function dial(
  url: CallbackUrl,
  link: Link,
  options: DialOptions,
  signal: AbortSignal,
): Promise<net.Socket> {
  const addresses = url.isAddressLiteral ? [url.host] : await timeDns(url, link, options.resolve);
  signal.throwIfAborted();
  const target = judgeTarget(url, addresses, options.policy);
  if (!target.ok) throw new EgressError({ outcome: 'blocked', code: target.reason, detail: target.detail });

  link.stage = options.proxy ? 'proxy' : 'connect';
  const startedAt = performance.now();
  const { socket, address } = await reach(addresses, url.port, options, signal);
  link.connectMs = performance.now() - startedAt;
  link.address = address;
  if (url.secure) {
    link.stage = 'tls';
    const secured = await secure(socket, url.host, options.secureContext, signal);
    secured.on('error', (error) => (link.tlsError ??= error));
    link.tlsMs = performance.now() - startedAt - link.connectMs;
    link.stage = 'ready';
    return secured;
  }
  link.stage = 'ready';
  return socket;
}

function reach(
  addresses: readonly string[],
  port: number,
  { proxy, resolve, localAddress }: DialOptions,
  signal: AbortSignal,
): Promise<Connected> {
  return proxy
    ? openTunnel(proxy, { addresses, port }, { resolve, localAddress }, signal)
    : connectFirst(addresses, port, signal, localAddress);
}

async function timeDns(url: CallbackUrl, link: Link, resolve: Resolve): Promise<readonly string[]> {
  const startedAt = performance.now();
  const addresses = await resolve(url.host);
  link.dnsMs = performance.now() - startedAt;
  if (addresses.length === 0) {
    throw new EgressError({ outcome: 'dns', code: 'dns_not_found', detail: 'The host name has no address.' });
  }
  return addresses;
}
