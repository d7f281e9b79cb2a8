import { z } from 'zod';
import { type BackendCall, callBackend } from '#jobs/backend/backend.ts';
import type { Backend } from '#jobs/type/define.ts';
import type { HandlerFailure, HandlerOutcome } from '#jobs/run/handler.ts';
import { JobTypes } from '#jobs/type/job-types.ts';
import { makeClient, MIB, never } from '../egress/backends.ts';
import { listenHttp, type Receiver, urlOf } from '../egress/receivers.ts';

export const NOW = new Date('2026-01-31T12:00:00.000Z');

export interface CallOptions {
  readonly backend?: Partial<Backend>;
  readonly schema?: z.ZodType;
  readonly output?: z.ZodType;
  readonly call?: Partial<BackendCall>;
  readonly signal?: AbortSignal;
}

/** Calls a receiver as the back end of a job type that takes any input, unless told otherwise. */
export function callReceiver(receiver: Receiver | string, options: CallOptions = {}): Promise<HandlerOutcome> {
  const { backend, schema = z.unknown(), output, call, signal = never } = options;
  const url = typeof receiver === 'string' ? receiver : urlOf(receiver);
  const definition = { type: 'pdf.render', input: schema, ...(output && { output }), backend: { url, ...backend } };
  const jobType = new JobTypes([definition]).get('pdf.render')!;
  return callBackend(
    {
      jobType,
      inputText: '{"pages":3}',
      job: { id: 'job_1', type: 'pdf.render', accountId: 'acc_1' },
      run: { id: 'run_1', number: 2 },
      completionUrl: null,
      client: call?.client ?? makeClient(),
      maxResultBytes: 4 * MIB,
      now: () => NOW,
      ...call,
    },
    signal,
  );
}

/** A receiver that answers everything in the same way. */
export function answering(status: number, headers: Record<string, string> = {}, body: string | Uint8Array = '') {
  return listenHttp((_, response) => response.writeHead(status, headers).end(body));
}

/** The body of a file, read as the result store does. */
export async function bytesOf(outcome: HandlerOutcome): Promise<Buffer> {
  if (outcome.kind !== 'file') throw new Error(`not a file: ${JSON.stringify(outcome)}`);
  const chunks: Uint8Array[] = [];
  for await (const chunk of outcome.body) chunks.push(chunk);
  return Buffer.concat(chunks);
}

export function failure(
  code: string,
  retryable: boolean,
  message?: unknown,
  retryAfterMs: number | null = null,
): HandlerFailure {
  const error = message === undefined ? { code } : { code, message };
  return { kind: 'failed', error, retryable, retryAfterMs } as HandlerFailure;
}
