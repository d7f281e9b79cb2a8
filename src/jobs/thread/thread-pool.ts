import { resolve as absolute } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { MessageChannel } from 'node:worker_threads';
import { failed, type HandlerContext, type HandlerOutcome } from '../run/handler.ts';
import { ThreadCall } from './thread-call.ts';
import { ThreadSlot } from './thread-slot.ts';

export interface ThreadPoolOptions {
  /** Loaded by every thread for itself. */
  readonly configFile: string;
  readonly diagnostics: boolean;
  readonly maxThreads: number;
  /** How long a handler may take to stop when it is told to, before its thread is ended, in milliseconds. Default 1,000. */
  readonly graceMs?: number;
  /** Heap of one thread, without its buffers, at least 16: with less, no thread comes up. Default 512. */
  readonly maxOldSpaceMb?: number;
  /**
   * How long a thread waits for a call before it is ended, in milliseconds. Default 30,000: an idle one holds some 45 MB,
   * a new one costs a quarter of a second of CPU, so that starting again takes less than 1 % of a core.
   */
  readonly idleTimeoutMs?: number;
  /** Told of errors in idle threads, which belong to no call: a handler left something behind. */
  readonly onError?: (error: unknown) => void;
}

export interface HandlerCall {
  readonly type: string;
  /** JSON */
  readonly input: unknown;
  readonly context: HandlerContext;
}

const NOT_STARTED = failed('handler_error', 'It was stopped before it started.', true);

/** Runs handlers in threads, one call to a thread at a time. */
export class ThreadPool {
  readonly #graceMs: number;
  /** Those without a call, the one used last at the end: it is taken first, so that the others may fall idle. */
  readonly #free: ThreadSlot[];
  readonly #waiting = new Set<(slot: ThreadSlot | undefined) => void>();
  readonly #calls = new Map<ThreadCall, Promise<void>>();
  #closed = false;

  constructor(options: ThreadPoolOptions) {
    const { configFile, diagnostics, maxThreads, graceMs = 1000 } = options;
    const { maxOldSpaceMb = 512, idleTimeoutMs = 30_000, onError = () => {} } = options;
    this.#graceMs = graceMs;
    const threadOptions = {
      settings: { configFile: absolute(configFile), diagnostics },
      maxOldSpaceMb,
      idleTimeoutMs,
      onError,
    };
    this.#free = Array.from({ length: maxThreads }, () => new ThreadSlot(threadOptions));
  }

  /**
   * Calls a handler in a thread; never rejects. A call for which no thread is free waits for one. When the signal
   * aborts, so does the handler's; a handler that has not ended `graceMs` later is ended with its thread.
   *
   * A file's body keeps its thread until it has been read to its end, its iterator was returned, or the signal aborts.
   */
  async run(call: HandlerCall, signal: AbortSignal): Promise<HandlerOutcome> {
    const slot = await this.#take(signal);
    if (slot === undefined) return NOT_STARTED;
    if (signal.aborted || this.#closed) {
      this.#give(slot); // stopped in the moment between
      return NOT_STARTED;
    }
    const { type, input, context } = call;
    const { port1: port, port2: threadPort } = new MessageChannel();
    const taken = new Int32Array(new SharedArrayBuffer(Int32Array.BYTES_PER_ELEMENT));
    const kill = () => void slot.close();
    const threadCall = new ThreadCall({ port, taken, context, signal, graceMs: this.#graceMs, kill });
    const task = { type, input, job: context.job, run: context.run, port: threadPort, taken };
    const used = slot.use(task, (fault) => threadCall.end(fault));
    this.#calls.set(
      threadCall,
      used.finally(() => {
        this.#calls.delete(threadCall);
        this.#give(slot);
      }),
    );
    return threadCall.outcome;
  }

  /**
   * Tells all handlers to stop, and ends all threads. Calls that wait or come later fail. What holds a thread in native
   * code does not hold this for longer than twice the grace.
   */
  async close(): Promise<void> {
    this.#closed = true;
    for (const give of this.#waiting) give(undefined);
    this.#waiting.clear();
    for (const call of this.#calls.keys()) call.stop(new DOMException('The worker is shutting down.', 'AbortError'));
    await Promise.race([Promise.all(this.#calls.values()), pause(2 * this.#graceMs, undefined, { ref: false })]);
    await Promise.all(this.#free.map((slot) => slot.close()));
  }

  async #take(signal: AbortSignal): Promise<ThreadSlot | undefined> {
    if (signal.aborted || this.#closed) return undefined;
    const free = this.#free.pop();
    if (free !== undefined) return free;
    const { promise, resolve } = Promise.withResolvers<ThreadSlot | undefined>();
    const leave = () => {
      this.#waiting.delete(resolve);
      resolve(undefined);
    };
    this.#waiting.add(resolve);
    signal.addEventListener('abort', leave, { once: true });
    const slot = await promise;
    signal.removeEventListener('abort', leave);
    return slot;
  }

  #give(slot: ThreadSlot): void {
    const [next] = this.#waiting;
    if (next === undefined) {
      this.#free.push(slot);
    } else {
      this.#waiting.delete(next);
      next(slot);
    }
  }
}
