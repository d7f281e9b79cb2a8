import { isUtf8 } from 'node:buffer';
import { toCleanText } from '#domain/json.ts';
import { parseRetryAfter } from '#domain/retry.ts';
import { firstInvalidUtf8 } from '#domain/utf8.ts';
import type { BackendResponse } from '#egress/backend-exchange.ts';
import { BackendBody } from './backend-body.ts';
import {
  checkJson,
  checkValue,
  failed,
  type HandlerFailure,
  type HandlerOutcome,
  isContentType,
  type ReceivedJson,
} from '../run/handler.ts';
import type { JobType } from '../type/job-types.ts';
import { ResultTooLargeError } from '../run/result-too-large.ts';

export interface AnswerRules {
  readonly jobType: Pick<JobType, 'output'>;
  /** Whether the back end was told where it may tell the end later. */
  readonly mayDefer: boolean;
  readonly maxResultBytes: number;
  /** JSON up to here becomes a value even when no schema asks for it. */
  readonly inlineMaxBytes: number;
  readonly now: () => Date;
}

/**
 * What a response means for the run.
 * @throws RunFailedError when the body ends before it is known
 */
export async function outcomeOf(response: BackendResponse, rules: AnswerRules): Promise<HandlerOutcome> {
  const body = new BackendBody(response.body, rules.maxResultBytes);
  let outcome: HandlerOutcome | undefined;
  try {
    outcome = await judge(response, body, rules);
    return outcome;
  } finally {
    if (outcome?.kind !== 'file') body.discard();
  }
}

async function judge(response: BackendResponse, body: BackendBody, rules: AnswerRules): Promise<HandlerOutcome> {
  const { status } = response;
  if (status >= 300) return refusal(response, body, rules.now());
  if (status === 202) {
    await body.readStart(START_BYTES, PATIENCE_MS);
    if (rules.mayDefer) return { kind: 'deferred' };
    return failed('backend_invalid', 'The back end answered 202, but was given no URL to tell the end later.', false);
  }
  if (status === 204 || status === 205) {
    await body.readStart(START_BYTES, PATIENCE_MS);
    return checkValue(rules.jobType, null);
  }
  return result(response, body, rules);
}

/** RFC 9110, 15.5 and 15.6, RFC 8470: the same request may be answered otherwise later. All of 5xx may be, too. */
const TRANSIENT = new Set([408, 425, 429]);

async function refusal(response: BackendResponse, body: BackendBody, now: Date): Promise<HandlerOutcome> {
  const { status, header } = response;
  if (status < 400) {
    const message = `The back end answered ${status}; redirects are not followed: configure the final URL.`;
    return failed('backend_rejected', message, false);
  }
  const message = `The back end answered ${status}${await readExcerpt(response, body)}`;
  if (status < 500 && !TRANSIENT.has(status)) return failed('backend_rejected', message, false);
  return failed('backend_unavailable', message, true, parseRetryAfter(header('retry-after'), now));
}

/** Of a body that is only looked into: 500 characters of four bytes each. */
const START_BYTES = 2000;
const EXCERPT_CHARACTERS = 500;
/** The status is known by then, and may ask for a retry: its text is not worth the rest of the run's time. */
const PATIENCE_MS = 1000;

async function readExcerpt(response: BackendResponse, body: BackendBody): Promise<string> {
  const start = await body.readStart(START_BYTES, PATIENCE_MS);
  const isText = isJson(response) || essenceOf(response).startsWith('text/');
  if (!isText || !isIdentity(response)) return '.';
  const text = new TextDecoder().decode(start).trim();
  return text === '' ? '.' : `: ${toCleanText(text, EXCERPT_CHARACTERS)}`;
}

async function result(response: BackendResponse, body: BackendBody, rules: AnswerRules): Promise<HandlerOutcome> {
  const { header, contentLength = 0 } = response;
  if (!isIdentity(response)) {
    const message = `The back end's answer is encoded although it was asked for without (accept-encoding: identity).`;
    return failed('backend_invalid', message, false);
  }
  if (contentLength > rules.maxResultBytes) return new ResultTooLargeError(rules.maxResultBytes).failure;
  if (isJson(response)) return json(response, body, rules);
  if (rules.jobType.output !== undefined) {
    const message = "The back end's answer is not JSON, and the job type has a schema for its output.";
    return failed('invalid_output', message, false);
  }
  const contentType = header('content-type') ?? '';
  return { kind: 'file', contentType: isContentType(contentType) ? contentType : 'application/octet-stream', body };
}

/** What is parsed at once, on the event loop: takes about 0.1 s. */
const MAX_CHECKED_BYTES = 8 * 1024 * 1024;

async function json(response: BackendResponse, body: BackendBody, rules: AnswerRules): Promise<HandlerOutcome> {
  const { jobType, maxResultBytes, inlineMaxBytes } = rules;
  const isChecked = jobType.output !== undefined;
  const most = Math.min(isChecked ? MAX_CHECKED_BYTES : inlineMaxBytes, maxResultBytes);
  const isLong = (response.contentLength ?? 0) > most;
  const bytes = isLong ? null : await body.readWhole(most);
  if (bytes === null) {
    if (!isChecked) return { kind: 'file', contentType: response.header('content-type') ?? '', body };
    if (most === maxResultBytes) return new ResultTooLargeError(maxResultBytes).failure;
    const message = `The back end's answer is larger than ${most} bytes, the most that is checked against a schema.`;
    return failed('invalid_output', message, false);
  }
  const received = parse(bytes);
  return received.kind === 'failed' ? received : checkJson(jobType, received);
}

function parse(bytes: Buffer): ({ readonly kind: 'parsed' } & ReceivedJson) | HandlerFailure {
  if (!isUtf8(bytes)) {
    const where = `its first wrong byte is at offset ${firstInvalidUtf8(bytes)}`;
    return failed('backend_invalid', `The back end answered with JSON that is not UTF-8: ${where}.`, true);
  }
  // Without a byte order mark, should there be one.
  const text = new TextDecoder().decode(bytes);
  try {
    return { kind: 'parsed', text, value: JSON.parse(text) };
  } catch {
    return failed('backend_invalid', 'The back end answered with JSON as its content type, but not with JSON.', true);
  }
}

function essenceOf({ header }: BackendResponse): string {
  const contentType = header('content-type') ?? '';
  return isContentType(contentType) ? contentType.split(';', 1)[0]!.trim().toLowerCase() : '';
}

function isJson(response: BackendResponse): boolean {
  return /^application\/(?:.+\+)?json$/.test(essenceOf(response));
}

function isIdentity({ header }: BackendResponse): boolean {
  return (header('content-encoding') ?? 'identity').toLowerCase() === 'identity';
}
