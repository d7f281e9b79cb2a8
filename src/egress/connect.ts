import net from 'node:net';
import { EgressError, SOURCE_ADDRESS_UNUSABLE } from './failure.ts';

/** A connection attempt that has not been answered for this long gets company (RFC 8305 section 8). */
const STAGGER_MS = 250;
/** However many addresses a name has: one callback must not become a port scan of somebody's network. */
const MAX_ADDRESSES = 4;

/** Alternates between the address families, the resolver's first choice first (RFC 8305 section 4). */
export function interleave(addresses: readonly string[]): string[] {
  const isIpv6 = (address: string | undefined) => address?.includes(':') === true;
  const firstFamily = isIpv6(addresses[0]);
  const first = addresses.filter((address) => isIpv6(address) === firstFamily);
  const second = addresses.filter((address) => isIpv6(address) !== firstFamily);
  const mixed: string[] = [];
  for (let index = 0; mixed.length < addresses.length; index++) {
    mixed.push(...first.slice(index, index + 1), ...second.slice(index, index + 1));
  }
  return mixed;
}

export interface Connected {
  readonly socket: net.Socket;
  readonly address: string;
}

/** Which of a name's addresses are tried, in their order: with a source address, only those of its family. */
export function candidates(addresses: readonly string[], localAddress?: string): string[] {
  const usable = addresses.filter(
    (address) => localAddress === undefined || net.isIP(localAddress) === net.isIP(address),
  );
  if (usable.length === 0) throw new EgressError(SOURCE_ADDRESS_UNUSABLE);
  return interleave([...new Set(usable)]).slice(0, MAX_ADDRESSES);
}

/**
 * Opens TCP to the first address that accepts. The next one is tried when one fails or stays silent, while the
 * silent ones stay in the race. `addresses` are judged literals: nothing here can resolve a name.
 */
export async function connectFirst(
  addresses: readonly string[],
  port: number,
  signal: AbortSignal,
  localAddress?: string,
): Promise<Connected> {
  const { promise, resolve, reject } = Promise.withResolvers<Connected>();
  const waiting = candidates(addresses, localAddress);
  const open = new Set<net.Socket>();
  let timer: NodeJS.Timeout | undefined;

  function stop(winner?: net.Socket): void {
    clearTimeout(timer);
    waiting.length = 0;
    signal.removeEventListener('abort', onAbort);
    for (const socket of open) if (socket !== winner) socket.destroy();
  }
  function onAbort(): void {
    stop();
    reject(signal.reason);
  }
  function tryNext(): void {
    clearTimeout(timer);
    const address = waiting.shift();
    if (address === undefined) return;
    const socket = net.connect({ host: address, port, noDelay: true, localAddress });
    open.add(socket);
    socket.once('connect', () => {
      stop(socket);
      resolve({ socket, address });
    });
    // Stays for the socket's life: what happens to a loser, or to a TCP socket under TLS, is reported elsewhere.
    socket.on('error', (error: NodeJS.ErrnoException) => {
      open.delete(socket);
      if (waiting.length > 0) tryNext();
      else if (open.size === 0) {
        stop();
        reject(error.syscall === 'bind' ? new EgressError(SOURCE_ADDRESS_UNUSABLE, error) : error);
      }
    });
    if (waiting.length > 0) timer = setTimeout(tryNext, STAGGER_MS);
  }

  if (signal.aborted) onAbort();
  else {
    signal.addEventListener('abort', onAbort);
    tryNext();
  }
  return promise;
}
