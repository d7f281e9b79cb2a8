import { Readable } from 'node:stream';
import type { Dispatcher } from 'undici';
import { BodyTooLargeError, EgressError, failureOf, STOPPED, timeoutFailure, type Failure } from './failure.ts';
import type { Lane } from './lane.ts';

export interface BackendResponse {
  readonly status: number;
  /** The value of a header, by its name in lower case; of a repeated one, the values joined (RFC 9110, 5.3). */
  readonly header: (name: string) => string | undefined;
  /** What the response says of its body's length, in bytes. */
  readonly contentLength: number | undefined;
  /**
   * The body as it arrives, no faster than it is read. Fails with an EgressError; destroying it ends the request. Does
   * not depend on being read: the deadline, the signal and the end of the client end it anyway.
   */
  readonly body: Readable;
}

export type BackendAnswer =
  | { readonly ok: true; readonly response: BackendResponse }
  | { readonly ok: false; readonly failure: Failure };

export interface BackendLimits {
  /** From the start to the last byte of the body. */
  readonly timeoutMs: number;
  readonly maxBodyBytes: number;
  /** Of all that arrives: see `Lane.limitResponse`. */
  readonly maxWireBytes: number;
}

export interface BackendHooks {
  /** Called once: with the response when its headers are there, or with why there is none. */
  readonly answer: (answer: BackendAnswer) => void;
  /** Called once, when the lane is no longer needed; `reusable` when another request may follow on it. */
  readonly release: (reusable: boolean) => void;
}

/** Read ahead of who reads the body. */
const READ_AHEAD_BYTES = 65_536;

/** One request to a back end and its response, as undici's handler. What undici reports after its end is ignored. */
export class BackendExchange implements Dispatcher.DispatchHandler {
  readonly #lane: Lane;
  readonly #limits: BackendLimits;
  readonly #signal: AbortSignal;
  readonly #hooks: BackendHooks;
  readonly #timer: NodeJS.Timeout;
  readonly #onAbort = () => this.stop();
  #body: Readable | undefined;
  #bodyBytes = 0;
  #over = false;

  constructor(lane: Lane, limits: BackendLimits, signal: AbortSignal, hooks: BackendHooks) {
    this.#lane = lane;
    this.#limits = limits;
    this.#signal = signal;
    this.#hooks = hooks;
    // As in `Exchange`: after a stall of this process, an answer that arrived in time counts.
    this.#timer = setTimeout(() => setImmediate(() => this.#onDeadline()), limits.timeoutMs);
    signal.addEventListener('abort', this.#onAbort);
  }

  /** Ends the request at once; its connection is closed. */
  stop(): void {
    this.#end(new EgressError(STOPPED));
  }

  onRequestStart(): void {
    this.#lane.limitResponse(this.#limits.maxWireBytes);
  }

  onResponseStart(
    controller: Dispatcher.DispatchController,
    status: number,
    headers: Readonly<Record<string, string | string[] | undefined>>,
  ): void {
    // An interim response says that the back end is at work, as often as it likes: the bound on the wire covers it.
    if (status < 200 || this.#over) return;
    const header = (name: string) => [headers[name] ?? []].flat().join(', ') || undefined;
    const length = header('content-length');
    const contentLength = length === undefined ? undefined : Number(length);
    const body = this.#makeBody(controller);
    this.#body = body;
    this.#hooks.answer({ ok: true, response: { status, header, contentLength, body } });
  }

  onResponseData(controller: Dispatcher.DispatchController, chunk: Buffer): void {
    if (this.#over) return;
    this.#bodyBytes += chunk.length;
    if (this.#bodyBytes > this.#limits.maxBodyBytes) this.#end(new BodyTooLargeError(this.#limits.maxBodyBytes));
    else if (this.#body?.push(chunk) === false) controller.pause();
  }

  onResponseEnd(): void {
    this.#end(null);
  }

  onResponseError(_: Dispatcher.DispatchController | null, error: Error): void {
    const { tlsError, stage } = this.#lane.link;
    this.#end(new EgressError(failureOf(tlsError ?? error, stage, this.#body !== undefined), error));
  }

  #onDeadline(): void {
    const { timeoutMs } = this.#limits;
    this.#end(new EgressError(timeoutFailure(this.#lane.link.stage, this.#body !== undefined, timeoutMs)));
  }

  #makeBody(controller: Dispatcher.DispatchController): Readable {
    const body = new Readable({
      highWaterMark: READ_AHEAD_BYTES,
      read: () => controller.resume(),
      destroy: (error, done) => {
        this.stop(); // nothing when the response has ended already
        done(error);
      },
    });
    body.on('error', () => {}); // whoever reads it is told; when nobody does, that is no reason to end the process
    return body;
  }

  #end(error: EgressError | null): void {
    if (this.#over) return;
    this.#over = true;
    clearTimeout(this.#timer);
    this.#signal.removeEventListener('abort', this.#onAbort);
    this.#hooks.release(error === null && this.#lane.isFlushed());
    if (error === null) this.#body?.push(null);
    else if (this.#body) this.#body.destroy(error);
    else this.#hooks.answer({ ok: false, failure: error.failure });
  }
}
