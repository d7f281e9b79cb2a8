import { ReadableStream, type ReadableStreamDefaultController } from 'node:stream/web';
import { type MessagePort, receiveMessageOnPort } from 'node:worker_threads';
import { failed, type HandlerContext, type HandlerOutcome } from '../run/handler.ts';
import { type FromThread, toError, type ToThread } from './thread-messages.ts';

export interface ThreadCallOptions {
  readonly port: MessagePort;
  readonly taken: Int32Array;
  readonly context: HandlerContext;
  readonly signal: AbortSignal;
  /** How long the thread may take to stop when it is told to, in milliseconds. */
  readonly graceMs: number;
  /** Ends the thread. */
  readonly kill: () => void;
}

/** The parent's side of one call: what the thread says is passed on, what the parent's signal says is passed in. */
export class ThreadCall {
  readonly #options: ThreadCallOptions;
  readonly #outcome = Promise.withResolvers<HandlerOutcome>();
  readonly #onAbort = () => this.stop(this.#options.signal.reason);
  #file: FileFromThread | undefined;
  #grace: NodeJS.Timeout | undefined;
  #killedBecause: string | undefined;
  #ended = false;

  constructor(options: ThreadCallOptions) {
    this.#options = options;
    options.port.on('message', (message: FromThread) => this.#take(message));
    options.signal.addEventListener('abort', this.#onAbort, { once: true });
  }

  /** Resolves as soon as it is known; while the outcome is a file, the thread is busy with its body. */
  get outcome(): Promise<HandlerOutcome> {
    return this.#outcome.promise;
  }

  /** Tells the handler to stop, and ends its thread when it does not. */
  stop(reason: unknown): void {
    if (this.#ended) return;
    const { graceMs, kill } = this.#options;
    const { name, message } = reason instanceof Error ? reason : { name: 'AbortError', message: String(reason) };
    this.#post({ kind: 'abort', name, message });
    this.#file?.fail(reason);
    this.#grace ??= setTimeout(() => {
      this.#killedBecause = `It did not stop within ${graceMs} ms when told to (${message}): its thread was ended.`;
      kill();
    }, graceMs);
  }

  /**
   * To be called when the thread has answered or is gone.
   * @param fault why it is gone
   */
  end(fault: string | null): void {
    const { port, signal } = this.#options;
    // Two ports are read in no order: what was sent on this one before the end is here, but perhaps not yet seen.
    for (let rest = receiveMessageOnPort(port); rest !== undefined; rest = receiveMessageOnPort(port)) {
      this.#take(rest.message as FromThread);
    }
    this.#ended = true;
    port.close();
    clearTimeout(this.#grace);
    signal.removeEventListener('abort', this.#onAbort);
    const message = this.#killedBecause ?? fault ?? 'Its thread said nothing.';
    this.#outcome.resolve(failed('handler_error', message, true));
    this.#file?.fail(new Error(message));
  }

  #post(message: ToThread): void {
    const { port } = this.#options;
    port.postMessage(message);
  }

  #take(message: FromThread): void {
    switch (message.kind) {
      case 'progress':
      case 'log':
        return this.#report(message);
      case 'outcome':
        return this.#outcome.resolve(message.outcome);
      case 'file':
        return this.#open(message.contentType);
      case 'chunk':
        return this.#file?.add(message.bytes);
      case 'end':
        return message.error === null ? this.#file?.end() : this.#file?.fail(toError(message.error));
    }
  }

  #report(message: Extract<FromThread, { kind: 'progress' | 'log' }>): void {
    const { context, taken } = this.#options;
    try {
      if (message.kind === 'progress') context.progress(message.percent as number, message.message as string);
      else context.log(message.level, message.message, fieldsOf(message.fields));
    } catch {
      // In the handler it would fail the run; from here it would end the process.
    }
    Atomics.add(taken, 0, 1);
    Atomics.notify(taken, 0);
  }

  #open(contentType: string): void {
    const { signal } = this.#options;
    if (signal.aborted) {
      // Its signal makes the thread close the stream; an outcome that cannot be read is none.
      const message = `It was stopped before its result was read: ${String(signal.reason)}`;
      return this.#outcome.resolve(failed('handler_error', message, true));
    }
    this.#file = new FileFromThread({
      pull: () => this.#post({ kind: 'pull' }),
      abandon: () => this.stop(new DOMException('The result is no longer wanted.', 'AbortError')),
    });
    this.#outcome.resolve({ kind: 'file', contentType, body: this.#file.body });
  }
}

function fieldsOf(json: string | undefined): Record<string, unknown> | undefined {
  return json === undefined ? undefined : (JSON.parse(json) as Record<string, unknown>);
}

/** Chunks that are here or asked for while nobody reads them: the thread works on the next while one is stored. */
const CHUNKS_AHEAD = 2;

/** A file whose chunks are asked for one by one. */
class FileFromThread {
  readonly body: ReadableStream<Uint8Array>;
  #controller: ReadableStreamDefaultController<Uint8Array> | undefined;
  #asked = Promise.withResolvers<void>();

  constructor({ pull, abandon }: { pull: () => void; abandon: () => void }) {
    const source = {
      start: (controller: ReadableStreamDefaultController<Uint8Array>) => {
        this.#controller = controller;
      },
      pull: () => {
        this.#asked = Promise.withResolvers();
        pull();
        return this.#asked.promise;
      },
      cancel: () => {
        this.#controller = undefined;
        abandon();
      },
    };
    this.body = new ReadableStream(source, { highWaterMark: CHUNKS_AHEAD });
  }

  add(bytes: Uint8Array): void {
    this.#controller?.enqueue(bytes);
    this.#asked.resolve();
  }

  end(): void {
    this.#controller?.close();
    this.#controller = undefined;
  }

  fail(error: unknown): void {
    this.#controller?.error(error);
    this.#controller = undefined;
  }
}
