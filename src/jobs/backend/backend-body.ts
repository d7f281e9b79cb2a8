import type { Readable } from 'node:stream';
import { BodyTooLargeError, EgressError, type Failure } from '#egress/failure.ts';
import { failed, type HandlerFailure, messageOf, RunFailedError } from '../run/handler.ts';
import { ResultTooLargeError } from '../run/result-too-large.ts';

/** A request that got no whole answer. All but what cannot be sent at all may go better the next time. */
export function failedRequest({ outcome, detail }: Failure): HandlerFailure {
  const message = detail.replaceAll('receiver', 'back end'); // the details are about callbacks first
  const code = outcome === 'protocol' || outcome === 'blocked' ? 'backend_invalid' : 'backend_unavailable';
  return failed(code, message, outcome !== 'blocked');
}

/**
 * The body of a back end's response: looked into first, then read as a result. What fails it is thrown as a
 * RunFailedError. Ending an iteration, even before it began, ends the request.
 */
export class BackendBody implements AsyncIterable<Uint8Array> {
  readonly #body: Readable;
  readonly #source: AsyncIterator<Uint8Array>;
  readonly #maxBytes: number;
  /** Read already, and still to be given to who reads it as a result. */
  #ahead: Uint8Array[] = [];

  constructor(body: Readable, maxBytes: number) {
    this.#body = body;
    this.#source = body[Symbol.asyncIterator]();
    this.#maxBytes = maxBytes;
  }

  /** The whole body, or null when it is longer than `limit` bytes. An iteration afterwards still begins at its start. */
  async readWhole(limit: number): Promise<Buffer | null> {
    for (let length = 0; length <= limit;) {
      const chunk = await this.#next();
      if (chunk === null) return Buffer.concat(this.#ahead);
      this.#ahead.push(chunk);
      length += chunk.length;
    }
    return null;
  }

  /** The first bytes, for a message, and the end of the body. Of a slow one, what has come when `patienceMs` are over. */
  async readStart(limit: number, patienceMs: number): Promise<Buffer> {
    const timer = setTimeout(() => this.discard(), patienceMs);
    await this.readWhole(limit).catch(() => null);
    clearTimeout(timer);
    this.discard();
    return Buffer.concat(this.#ahead).subarray(0, limit);
  }

  /** Ends the request, unless the body was read to its end: then its connection serves another one. */
  discard(): void {
    this.#body.destroy();
  }

  [Symbol.asyncIterator](): AsyncIterator<Uint8Array> {
    return {
      next: async () => {
        const value = this.#ahead.shift() ?? (await this.#next());
        return value === null ? { done: true, value: undefined } : { done: false, value };
      },
      return: async () => {
        this.discard();
        return { done: true, value: undefined };
      },
    };
  }

  async #next(): Promise<Uint8Array | null> {
    try {
      const { done, value } = await this.#source.next();
      return done === true ? null : value;
    } catch (error) {
      if (error instanceof BodyTooLargeError) throw new ResultTooLargeError(this.#maxBytes, { cause: error });
      const failure =
        error instanceof EgressError
          ? failedRequest(error.failure)
          : failed('backend_unavailable', messageOf(error), true);
      throw new RunFailedError(failure, { cause: error });
    }
  }
}
