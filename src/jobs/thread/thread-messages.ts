import type { MessagePort } from 'node:worker_threads';
import { type LogLevel, NonRetryableError, RetryAfterError } from '../type/define.ts';
import { failureOf, type HandlerContext, type HandlerOutcome, messageOf } from '../run/handler.ts';

/** Given to a thread when it starts. */
export interface ThreadSettings {
  readonly configFile: string;
  readonly diagnostics: boolean;
}

/** A call, as it is posted to a thread; the port carries everything that is said about it. */
export interface ThreadTask extends Pick<HandlerContext, 'job' | 'run'> {
  readonly type: string;
  readonly input: unknown;
  readonly port: MessagePort;
  /** One number, in shared memory: how many reports of this call have been taken. */
  readonly taken: Int32Array;
}

export type ToThread =
  /** The signal aborts, with a reason of this name and message. */
  | { readonly kind: 'abort'; readonly name: string; readonly message: string }
  /** One more chunk of the file, please. */
  | { readonly kind: 'pull' };

/** What a handler says while it works. */
export type Report =
  | { readonly kind: 'progress'; readonly percent: unknown; readonly message: unknown }
  /** The fields are JSON text. */
  | { readonly kind: 'log'; readonly level: LogLevel; readonly message: string; readonly fields: string | undefined };

export type FromThread =
  | Report
  | { readonly kind: 'outcome'; readonly outcome: Exclude<HandlerOutcome, { kind: 'file' }> }
  /** The outcome is a file; its chunks follow, one for each pull, and then its end. */
  | { readonly kind: 'file'; readonly contentType: string }
  | { readonly kind: 'chunk'; readonly bytes: Uint8Array }
  | { readonly kind: 'end'; readonly error: PostedError | null };

/**
 * Reports that may be under way at once. A handler that reports in a loop waits for the parent, which would else queue
 * them without bound: nobody reads its event loop's mail while the handler has not returned to its own.
 */
export const MAX_REPORTS = 1000;

/** Largest chunk of a file, and so, times those under way, what a file takes of the parent's memory. */
export const CHUNK_BYTES = 256 * 1024;

/** An error between two threads: structured cloning would keep neither its class nor what the class says. */
export interface PostedError {
  readonly name: string;
  readonly message: string;
  readonly retryable: boolean;
  readonly retryAfterMs: number | null;
  readonly stack: string | undefined;
}

export function toPosted(error: unknown): PostedError {
  const { retryable, retryAfterMs, stack } = failureOf(error);
  try {
    const said: Record<'name' | 'message', unknown> = error instanceof Error ? error : new Error(messageOf(error));
    return { name: String(said.name), message: String(said.message), retryable, retryAfterMs, stack };
  } catch {
    return { name: 'Error', message: messageOf(error), retryable, retryAfterMs, stack };
  }
}

/** An error of the same name and message, and of the same kind for `failureOf`. */
export function toError({ name, message, retryable, retryAfterMs, stack }: PostedError): Error {
  return Object.assign(errorOfKind(message, retryable, retryAfterMs), { name, ...(stack !== undefined && { stack }) });
}

function errorOfKind(message: string, retryable: boolean, retryAfterMs: number | null): Error {
  if (!retryable) return new NonRetryableError(message);
  return retryAfterMs === null ? new Error(message) : new RetryAfterError(message, retryAfterMs);
}
