import net from 'node:net';
import type tls from 'node:tls';
import type { EgressProxy } from '#domain/egress-proxy.ts';
import { candidates, connectFirst, type Connected } from './connect.ts';
import { codeOf, EgressError, type Failure } from './failure.ts';
import { httpConnect } from './http-connect.ts';
import { proxyTlsFailed, proxyUnreachable } from './proxy-failure.ts';
import type { Resolve } from './resolve.ts';
import { secure } from './secure.ts';
import { socks5Connect } from './socks5.ts';

export interface ProxyOptions extends EgressProxy {
  /** For an https proxy: whom it has to be vouched for by. */
  readonly secureContext: tls.SecureContext;
}

export interface WayToProxy {
  readonly resolve: Resolve;
  readonly localAddress: string | undefined;
}

/**
 * Opens a connection through the proxy to the first address that it reaches, one after the other: how long a silent
 * one may take is the proxy's to say. `addresses` are judged literals; the proxy's own are not judged. Plain http goes
 * through a tunnel too, so that the proxy need not understand, and cannot change, what is signed.
 */
export async function openTunnel(
  proxy: ProxyOptions,
  target: { readonly addresses: readonly string[]; readonly port: number },
  way: WayToProxy,
  signal: AbortSignal,
): Promise<Connected> {
  const ask = proxy.scheme === 'socks5' ? socks5Connect : httpConnect;
  let refusal: Failure | undefined;
  for (const address of candidates(target.addresses)) {
    const socket = await reachProxy(proxy, way, signal);
    const answer = await ask(socket, proxy, { address, port: target.port }, signal);
    if (answer.ok) return { socket, address };
    socket.destroy();
    refusal = answer.failure;
    if (!answer.tryNext) break;
  }
  throw new EgressError(refusal!);
}

async function reachProxy(proxy: ProxyOptions, way: WayToProxy, signal: AbortSignal): Promise<net.Socket> {
  const socket = await connectToProxy(proxy, way, signal);
  if (proxy.scheme !== 'https') return socket;
  try {
    return await secure(socket, proxy.host, proxy.secureContext, signal);
  } catch (error) {
    socket.destroy();
    throw wrap(error, proxyTlsFailed, signal);
  }
}

async function connectToProxy(proxy: ProxyOptions, way: WayToProxy, signal: AbortSignal): Promise<net.Socket> {
  try {
    const addresses = net.isIP(proxy.host) === 0 ? await way.resolve(proxy.host) : [proxy.host];
    signal.throwIfAborted();
    if (addresses.length === 0) throw new EgressError(proxyUnreachable('ENOTFOUND'));
    const { socket } = await connectFirst(addresses, proxy.port, signal, way.localAddress);
    return socket;
  } catch (error) {
    throw wrap(error, proxyUnreachable, signal);
  }
}

function wrap(error: unknown, describe: (reason: string) => Failure, signal: AbortSignal): unknown {
  if (error instanceof EgressError || signal.aborted) return error;
  return new EgressError(describe(codeOf(error)), error);
}
