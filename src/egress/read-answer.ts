import type net from 'node:net';
import { EgressError } from './failure.ts';
import { PROXY_CLOSED, PROXY_INVALID, proxyUnreachable } from './proxy-failure.ts';

/** More than any proxy needs to say that it is connected, or why not. */
const MAX_ANSWER_BYTES = 8192;

export interface Answer {
  readonly bytes: Buffer;
  /** Whether the proxy has sent more than its answer already. */
  readonly excess: boolean;
}

/**
 * Reads from `socket` until `endOf` finds the end of an answer: its length, undefined while more is needed, null when
 * it can be none. What follows stays unread. Destroys the socket and rejects with an EgressError otherwise, or with
 * the signal's reason.
 */
export function readAnswer(
  socket: net.Socket,
  endOf: (received: Buffer) => number | undefined | null,
  signal: AbortSignal,
): Promise<Answer> {
  const { promise, resolve, reject } = Promise.withResolvers<Answer>();
  let received: Buffer = Buffer.alloc(0);

  function stop(): void {
    socket.off('readable', onReadable).off('error', onError).off('close', onClose).off('end', onClose);
    signal.removeEventListener('abort', onAbort);
  }
  function fail(error: unknown): void {
    stop();
    socket.destroy();
    reject(error);
  }
  const onAbort = () => fail(signal.reason);
  const onClose = () => fail(new EgressError(PROXY_CLOSED));
  const onError = (error: Error & { code?: string }) =>
    fail(new EgressError(proxyUnreachable(error.code ?? 'UNKNOWN'), error));
  function onReadable(): void {
    for (let chunk = socket.read() as Buffer | null; chunk !== null; chunk = socket.read() as Buffer | null) {
      received = Buffer.concat([received, chunk]);
      const end = endOf(received);
      if (end === null || (end === undefined && received.length > MAX_ANSWER_BYTES)) {
        return fail(new EgressError(PROXY_INVALID));
      }
      if (end !== undefined) {
        stop();
        return resolve({ bytes: received.subarray(0, end), excess: received.length > end });
      }
    }
  }

  if (signal.aborted) onAbort();
  else {
    signal.addEventListener('abort', onAbort);
    socket.on('readable', onReadable).on('error', onError).on('close', onClose).on('end', onClose);
    onReadable();
  }
  return promise;
}
