import { isDeepStrictEqual, types } from 'node:util';
import type { JobError } from '#domain/job.ts';
import { type StorableJson, toCleanText, toKeptJson, toStorableJson } from '#domain/json.ts';
import { restoreNumbers } from '#domain/json-number.ts';
import {
  type AnyJobDefinition,
  FileResult,
  type JobContext,
  NonRetryableError,
  RetryAfterError,
} from '../type/define.ts';
import type { Fault } from '#domain/problem.ts';
import { validate } from '../type/validate.ts';

/** What a job type made of an input, wherever it ran. */
export type HandlerOutcome =
  /** JSON text, checked against the output schema. */
  | { readonly kind: 'value'; readonly text: string }
  | {
      readonly kind: 'file';
      readonly contentType: string;
      /** To be read once, to its end. */
      readonly body: AsyncIterable<Uint8Array>;
    }
  /** A back end answered 202: it tells the end later, with the token it was given. */
  | { readonly kind: 'deferred' }
  | HandlerFailure;

export interface HandlerFailure {
  readonly kind: 'failed';
  readonly error: JobError;
  readonly retryable: boolean;
  /** The next run should not start sooner; null leaves it to the retry policy. */
  readonly retryAfterMs: number | null;
  /** Where an output does not fit its schema. */
  readonly faults?: readonly Fault[];
  /** Of what the handler threw, for operators: never shown to clients. */
  readonly stack?: string;
}

export type HandlerContext = Omit<JobContext<unknown>, 'input' | 'signal'>;

type Handled = Pick<AnyJobDefinition, 'input' | 'output' | 'run'>;

/** Checks the input, calls the handler, checks what it returns. Never throws; runs on the event loop it is called on. */
export async function callHandler(
  jobType: Handled,
  given: unknown,
  context: HandlerContext,
  signal: AbortSignal,
): Promise<HandlerOutcome> {
  const input = await checkInput(jobType, given);
  if (signal.aborted) return failed('handler_error', 'It was stopped before it started.', true);
  if (input.kind === 'failed') return input;
  try {
    const output = await jobType.run?.({ ...context, input: input.value, signal } as never);
    return output instanceof FileResult ? checkFile(output) : await checkValue(jobType, output);
  } catch (error) {
    return failureOf(error);
  }
}

/** The input as the schema parses it. It was checked when it was submitted, but the schema may have changed since. */
export async function checkInput(
  { input: schema }: Pick<Handled, 'input'>,
  given: unknown,
): Promise<{ readonly kind: 'checked'; readonly value: unknown } | HandlerFailure> {
  const input = await validate(schema, given).catch(thrown);
  if (input instanceof Thrown) return failed('invalid_input', `The input's schema threw: ${input.message}`, false);
  if (input.ok) return { kind: 'checked', value: input.value };
  return misfit(input.faults[0]);
}

export function misfit(fault: Fault | undefined): HandlerFailure {
  const message = `The input no longer fits the type: ${fault?.path ?? ''} ${fault?.message ?? ''}`;
  return failed('invalid_input', message, false);
}

type CheckedValue = Extract<HandlerOutcome, { readonly kind: 'value' | 'failed' }>;

/** A value that cannot be stored, or is not what the type promised, will not be so the next time: no retry. */
export async function checkValue(jobType: Pick<Handled, 'output'>, value: unknown): Promise<CheckedValue> {
  const checked = await checkOutput(jobType, value);
  return checked.kind === 'failed' ? checked : asText(toStorableJson(checked.value));
}

/** JSON from elsewhere, with what JavaScript makes of it; undefined where there was none. */
export interface ReceivedJson {
  readonly text: string;
  readonly value: unknown;
}

/**
 * The same of an output that came as JSON: it is kept as it was sent. What a schema changes is not, but the numbers that are
 * still there are, for a schema has only seen what JavaScript makes of them.
 */
export async function checkJson(
  jobType: Pick<Handled, 'output'>,
  { text, value }: ReceivedJson,
): Promise<CheckedValue> {
  const checked = await checkOutput(jobType, value);
  if (checked.kind === 'failed') return checked;
  const kept = toKeptJson(text, value);
  if (!kept.ok || isDeepStrictEqual(checked.value, value)) return asText(kept);
  const changed = asText(toStorableJson(checked.value));
  return changed.kind === 'failed' ? changed : { kind: 'value', text: restoreNumbers(changed.text, kept.text) };
}

function asText(json: StorableJson): CheckedValue {
  if (!json.ok) return failed('invalid_output', `The result cannot be stored: ${json.reason}.`, false);
  return { kind: 'value', text: json.text };
}

async function checkOutput(
  { output }: Pick<Handled, 'output'>,
  value: unknown,
): Promise<{ readonly kind: 'checked'; readonly value: unknown } | HandlerFailure> {
  if (output !== undefined) {
    const result = await validate(output, value).catch(thrown);
    if (result instanceof Thrown)
      return failed('invalid_output', `The output's schema threw: ${result.message}`, false);
    if (!result.ok) {
      const faults = result.faults.slice(0, 5).map(({ path, message }) => `${path || '/'}: ${message}`);
      const failure = failed('invalid_output', `The result does not fit its schema. ${faults.join('; ')}`, false);
      return { ...failure, faults: result.faults };
    }
    return { kind: 'checked', value: result.value };
  }
  return { kind: 'checked', value };
}

/** RFC 9110, 8.3.1, without the parameters' own rules; no control character may reach a header. */
const CONTENT_TYPE = /^[\w!#$&^.+-]+\/[\w!#$&^.+-]+(?: *;[\t\x20-\x7e]*)?$/;

/** A content type that may stand in a response header. */
export function isContentType(text: string): boolean {
  return text.length <= 200 && CONTENT_TYPE.test(text);
}

function checkFile({ body, contentType }: FileResult): HandlerOutcome {
  if (typeof contentType !== 'string' || !isContentType(contentType))
    return failed('invalid_output', `${JSON.stringify(contentType)} is not a content type.`, false);
  if (body instanceof Uint8Array) return { kind: 'file', contentType, body: once(body) };
  if (typeof body?.[Symbol.asyncIterator] !== 'function')
    return failed('invalid_output', 'The body of a FileResult is neither bytes nor a stream of bytes.', false);
  return { kind: 'file', contentType, body };
}

async function* once(bytes: Uint8Array): AsyncIterable<Uint8Array> {
  yield bytes;
}

export function failed(
  code: JobError['code'],
  message: string,
  retryable: boolean,
  retryAfterMs: number | null = null,
): HandlerFailure {
  return { kind: 'failed', error: { code, message }, retryable, retryAfterMs };
}

/** Thrown by code of ours that knows already how a run has failed: `failureOf` takes it at its word. */
export class RunFailedError extends Error {
  override readonly name: string = 'RunFailedError';
  readonly failure: HandlerFailure;

  constructor(failure: HandlerFailure, options?: ErrorOptions) {
    super(failure.error.message, options);
    this.failure = failure;
  }
}

/** What a handler threw, or its stream. Looked at with care: it may be anything. */
export function failureOf(error: unknown): HandlerFailure {
  let retryable = true;
  let retryAfterMs: number | null = null;
  try {
    if (error instanceof RunFailedError) return error.failure;
    retryable = !(error instanceof NonRetryableError);
    // A BigInt would pass for a number here, and fail whoever reckons with it.
    const asked: unknown = error instanceof RetryAfterError ? error.retryAfterMs : null;
    if (typeof asked === 'number' && asked >= 0) retryAfterMs = asked;
  } catch {
    // It cannot even be asked what it is.
  }
  const stack = stackOf(error);
  return {
    ...failed('handler_error', messageOf(error), retryable, retryAfterMs),
    ...(stack !== undefined && { stack }),
  };
}

const MAX_STACK = 8192;

/** With the causes; undefined where there is none. */
function stackOf(error: unknown): string | undefined {
  const stacks: string[] = [];
  try {
    for (let cause = error; cause instanceof Error && stacks.length < 5; cause = cause.cause)
      if (typeof cause.stack === 'string') stacks.push(cause.stack.slice(0, MAX_STACK));
  } catch {
    // As in `failureOf`: it may be anything.
  }
  return stacks.length === 0 ? undefined : toCleanText(stacks.join('\nCaused by: '), MAX_STACK);
}

/** Marks what a schema threw, apart from what it answered. */
class Thrown {
  readonly message: string;
  constructor(message: string) {
    this.message = message;
  }
}

function thrown(error: unknown): Thrown {
  return new Thrown(messageOf(error));
}

const MAX_MESSAGE = 2000;

/** Handlers throw anything, even what cannot be looked at. */
export function messageOf(error: unknown): string {
  try {
    if (error instanceof Error || types.isNativeError(error)) {
      return toCleanText(`${error.name}: ${error.message}`, MAX_MESSAGE);
    }
  } catch {
    return 'The handler threw an error that cannot be read.';
  }
  const json = toStorableJson(error);
  const text = json.ok && error !== undefined ? json.text : typeof error;
  return toCleanText(`The handler threw ${text}, which is not an Error.`, MAX_MESSAGE);
}
