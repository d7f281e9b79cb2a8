import { types } from 'node:util';
import { type MessagePort, workerData } from 'node:worker_threads';
import { NonRetryableError } from '../type/define.ts';
import { callHandler, failed, type HandlerContext, type HandlerOutcome, messageOf } from '../run/handler.ts';
import type { JobType, JobTypes } from '../type/job-types.ts';
import { loadJobTypes } from '../type/load-config.ts';
import {
  CHUNK_BYTES,
  type FromThread,
  MAX_REPORTS,
  type Report,
  type ThreadSettings,
  type ThreadTask,
  toPosted,
  type ToThread,
} from './thread-messages.ts';

/** What a thread of the pool runs: see `ThreadPool`. */

let jobTypes: Promise<JobTypes> | undefined;

/**
 * Answers on the task's port; returns when the thread is free for the next task.
 * @throws Error when the thread is of no use for this task, nor for later ones
 */
export async function runInThread({ port, taken, type, input, job, run }: ThreadTask): Promise<void> {
  const abort = new AbortController();
  const pulls = new Pulls(abort.signal);
  port.on('message', (message: ToThread) => {
    if (message.kind === 'pull') pulls.add();
    else abort.abort(new DOMException(message.message, message.name));
  });
  const reports = new Reports(port, taken);
  const context = { progress: reports.progress, log: reports.log, job, run };
  try {
    const outcome = await callHandler(await findJobType(type), input, context, abort.signal);
    if (outcome.kind === 'file') await postFile(port, outcome, pulls);
    else post(port, { kind: 'outcome', outcome });
  } catch (error) {
    post(port, { kind: 'outcome', outcome: failed('handler_error', messageOf(error), true) });
    throw new Error('The job types could not be had.', { cause: error });
  } finally {
    reports.end();
    port.close();
  }
}

/** The thread's own copy: it read the file when it started, which may be later than its parent did. */
async function findJobType(type: string): Promise<JobType> {
  const { configFile, diagnostics } = workerData as ThreadSettings;
  jobTypes ??= loadJobTypes(configFile, { diagnostics });
  const jobType = (await jobTypes).get(type);
  if (jobType === undefined) throw new Error(`${configFile}, as it is now, defines no job type ${type}.`);
  return jobType;
}

function post(port: MessagePort, message: FromThread): void {
  port.postMessage(message);
}

/** Sends what a handler reports, in order, and never fails it: a report is no reason to. */
class Reports {
  readonly #port: MessagePort;
  readonly #taken: Int32Array;
  #sent = 0;
  #ended = false;

  constructor(port: MessagePort, taken: Int32Array) {
    this.#port = port;
    this.#taken = taken;
  }

  readonly progress: HandlerContext['progress'] = (percent, message) => {
    this.#send({ kind: 'progress', percent: cloneable(percent), message: cloneable(message) });
  };

  readonly log: HandlerContext['log'] = (level, message, fields) => {
    const text = textOf(message);
    this.#send({ kind: 'log', level: textOf(level) as typeof level, message: text, fields: jsonOf(fields) });
  };

  /** What a handler left behind may still report: nobody listens, and nobody would count it as taken. */
  end(): void {
    this.#ended = true;
  }

  #send(report: Report): void {
    if (this.#ended) return;
    post(this.#port, report);
    this.#sent += 1;
    for (let taken = this.#takenNow(); this.#sent - taken >= MAX_REPORTS; taken = this.#takenNow()) {
      Atomics.wait(this.#taken, 0, taken);
    }
  }

  #takenNow(): number {
    return Atomics.load(this.#taken, 0);
  }
}

function cloneable(value: unknown): unknown {
  return typeof value === 'number' || value === undefined ? value : textOf(value);
}

function textOf(value: unknown): string {
  try {
    return String(value);
  } catch {
    return '';
  }
}

function jsonOf(fields: unknown): string | undefined {
  try {
    return JSON.stringify(fields);
  } catch (error) {
    return JSON.stringify({ fields_error: messageOf(error) });
  }
}

/** Counts the chunks that the parent asks for. */
class Pulls {
  readonly #signal: AbortSignal;
  #open = 0;
  #changed = Promise.withResolvers<void>();

  constructor(signal: AbortSignal) {
    this.#signal = signal;
    signal.addEventListener('abort', () => this.#changed.resolve());
  }

  add(): void {
    this.#open += 1;
    this.#changed.resolve();
  }

  /** @throws the signal's reason, once it is aborted */
  async take(): Promise<void> {
    for (;;) {
      this.#signal.throwIfAborted();
      if (this.#open > 0) break;
      this.#changed = Promise.withResolvers();
      await this.#changed.promise;
    }
    this.#open -= 1;
  }
}

type FileOutcome = Extract<HandlerOutcome, { kind: 'file' }>;

/** At most one chunk waits here for a pull; leaving the loop early closes the handler's stream. */
async function postFile(port: MessagePort, { contentType, body }: FileOutcome, pulls: Pulls): Promise<void> {
  post(port, { kind: 'file', contentType });
  try {
    for await (const bytes of chunksOf(body)) {
      await pulls.take();
      port.postMessage({ kind: 'chunk', bytes } satisfies FromThread, [bytes.buffer]);
    }
    post(port, { kind: 'end', error: null });
  } catch (error) {
    post(port, { kind: 'end', error: toPosted(error) });
  }
}

/** Copies, since a chunk's memory is moved to the parent and may be a part of something that the handler keeps. */
async function* chunksOf(body: AsyncIterable<unknown>): AsyncGenerator<Uint8Array<ArrayBuffer>> {
  for await (const part of body) {
    if (!types.isUint8Array(part)) {
      throw new NonRetryableError(`The stream of a FileResult should yield bytes (Uint8Array), not ${typeof part}.`);
    }
    for (let start = 0; start < part.length; start += CHUNK_BYTES) {
      yield new Uint8Array(part.subarray(start, start + CHUNK_BYTES));
    }
  }
}
