import type { Context } from 'hono';
import { HTTPException } from 'hono/http-exception';
import { databaseUnavailable, outcomeUnknown } from '#domain/outage.ts';
import { type ProblemCode, PROBLEMS, type Refusal, refuse } from '#domain/problem.ts';
import type { Logger } from '#log.ts';

/** `type` is a URN, so that it stays the same wherever the service runs; `docs/errors.md` explains each. */
export function problemType(code: ProblemCode): string {
  return `urn:ringback:problem:${code}`;
}

/** A refusal as problem+json (RFC 9457): the one place where codes become responses. */
export function problemBody({ code, detail, faults, extra }: Refusal) {
  const { status, title } = PROBLEMS[code];
  return { ...extra, type: problemType(code), title, status, code, detail, ...(faults && { errors: faults }) };
}

/**
 * Answers with a problem, and leaves its code to the request's log line. Typed as `never`, so that a route's type is
 * that of its successes, which the compiler then holds against the schema; every route may answer with problems.
 */
export function problem(c: Context, refusal: Refusal, headers: Record<string, string> = {}): never {
  c.set('problem', refusal.code);
  const response = c.body(JSON.stringify(problemBody(refusal)), PROBLEMS[refusal.code].status, {
    'content-type': 'application/problem+json',
    ...(refusal.retryAfter !== undefined && { 'retry-after': String(refusal.retryAfter) }),
    ...(refusal.code === 'unauthenticated' && { 'www-authenticate': 'Bearer realm="ringback"' }),
    ...headers,
  });
  return response as never;
}

/** Tells what befell the database from faults of ours. */
export interface ErrorJudge {
  /** It cannot be reached, or does not take the statement now. */
  readonly isUnavailable: (error: unknown) => boolean;
  /** What was sent may have been committed. */
  readonly isOutcomeUnknown: (error: unknown) => boolean;
}

/**
 * What a thrown error means to the client: a refusal of the framework, an unreachable database, or our own fault.
 * @param isRead the request changes nothing, so that it makes no difference whether it was carried out
 */
export function refusalOf(error: unknown, judge: ErrorJudge, isRead: boolean): Refusal {
  if (error instanceof HTTPException && error.status === 400) {
    return refuse('malformed_json', 'The body could not be parsed as JSON.');
  }
  if (error instanceof HTTPException && error.status === 415) return unsupportedMediaType();
  if (!isRead && judge.isOutcomeUnknown(error)) return outcomeUnknown();
  if (judge.isUnavailable(error)) return databaseUnavailable();
  return refuse('internal_error', 'The request failed for a reason of ours. The log has it under the request id.');
}

export function unsupportedMediaType(): Refusal {
  return refuse('unsupported_media_type', 'Send the body as JSON, with Content-Type: application/json.');
}

export function onError(log: Logger, judge: ErrorJudge) {
  return (error: Error, c: Context): Response => {
    const { method } = c.req;
    const refusal = refusalOf(error, judge, method === 'GET' || method === 'HEAD');
    logFault(log, c, refusal, error);
    return problem(c, refusal);
  };
}

/** What the client is told nothing about, the log has under the id of its request. */
export function logFault(log: Logger, c: Context, { code }: Refusal, error: unknown): void {
  if (code === 'internal_error') log.error({ err: error, request_id: c.get('requestId') as string }, 'request failed');
}
