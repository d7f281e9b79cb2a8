import type net from 'node:net';
import { parseCidr } from '#domain/address.ts';
import type { EgressProxy } from '#domain/egress-proxy.ts';
import { CONNECTION_REFUSED, UNREACHABLE, type Failure } from './failure.ts';
import {
  PROXY_AUTH_FAILED,
  PROXY_INVALID,
  proxyDenied,
  proxyTargetUnreachable,
  type TunnelAnswer,
} from './proxy-failure.ts';
import { readAnswer } from './read-answer.ts';

const VERSION = 5;
const NO_AUTH = 0;
const USER_PASSWORD = 2;
const CONNECT = 1;
const IPV4 = 1;
const NAME = 3;
const IPV6 = 4;

/** RFC 1928 section 6. Unlike an HTTP proxy, this one says what the receiver did. */
const REPLIES: Record<number, Failure> = {
  1: proxyTargetUnreachable('reply 1'),
  3: UNREACHABLE,
  4: UNREACHABLE,
  5: CONNECTION_REFUSED,
  6: UNREACHABLE,
  8: proxyTargetUnreachable('reply 8'), // address type not supported: the next may be of the other family
};

/**
 * Asks a SOCKS5 proxy for a connection to an address (RFC 1928), with user and password (RFC 1929) if there are any.
 * Our own, for a library would keep the reply to itself: it says whose fault it is.
 */
export async function socks5Connect(
  socket: net.Socket,
  proxy: EgressProxy,
  target: { readonly address: string; readonly port: number },
  signal: AbortSignal,
): Promise<TunnelAnswer> {
  const method = proxy.credentials ? USER_PASSWORD : NO_AUTH;
  socket.write(Buffer.from([VERSION, 1, method]));
  const greeting = await readAnswer(socket, endOfTwo(VERSION), signal);
  if (greeting.bytes[1] !== method) return { ok: false, failure: PROXY_AUTH_FAILED, tryNext: false };
  if (proxy.credentials) {
    socket.write(login(proxy.credentials));
    const { bytes } = await readAnswer(socket, endOfTwo(1), signal);
    if (bytes[1] !== 0) return { ok: false, failure: PROXY_AUTH_FAILED, tryNext: false };
  }
  socket.write(Buffer.concat([Buffer.from([VERSION, CONNECT, 0]), destination(target.address, target.port)]));
  const { bytes, excess } = await readAnswer(socket, endOfReply, signal);
  const reply = bytes[1]!;
  if (reply === 0) return excess ? { ok: false, failure: PROXY_INVALID, tryNext: false } : { ok: true };
  const failure = REPLIES[reply];
  return failure
    ? { ok: false, failure, tryNext: true }
    : { ok: false, failure: proxyDenied(`reply ${reply}`), tryNext: false };
}

function endOfTwo(version: number): (received: Buffer) => number | undefined | null {
  return (received) => {
    if (received[0] !== version) return null;
    return received.length < 2 ? undefined : 2;
  };
}

/** Version, reply, reserved, address type, address, port. Of a refusal, the reply is enough. */
function endOfReply(received: Buffer): number | undefined | null {
  if (received[0] !== VERSION) return null;
  if (received.length >= 2 && received[1] !== 0) return 2;
  if (received.length < 5) return undefined;
  const lengths: Record<number, number> = { [IPV4]: 4, [IPV6]: 16, [NAME]: 1 + received[4]! };
  const length = lengths[received[3]!];
  if (length === undefined) return null;
  const end = 4 + length + 2;
  return received.length < end ? undefined : end;
}

function login({ user, password }: { readonly user: string; readonly password: string }): Buffer {
  const [name, secret] = [Buffer.from(user), Buffer.from(password)];
  return Buffer.concat([Buffer.from([1, name.length]), name, Buffer.from([secret.length]), secret]);
}

function destination(address: string, port: number): Buffer {
  const { bytes } = parseCidr(address)!; // a bare address is a range of one
  return Buffer.from([bytes.length === 4 ? IPV4 : IPV6, ...bytes, port >> 8, port & 255]);
}
