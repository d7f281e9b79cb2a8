/**
 * Every error a client can meet, in one table (RFC 9457). `docs/errors.md` explains each code; a test keeps the two
 * equal. Codes are stable: they are never renamed, and never change their meaning.
 */
export const PROBLEMS = {
  malformed_request: { status: 400, title: 'The request is not valid HTTP' },
  malformed_json: { status: 400, title: 'The body is not valid JSON' },
  invalid_id: { status: 400, title: 'The id is not well formed' },
  invalid_query: { status: 400, title: 'A query parameter is not valid' },
  invalid_idempotency_key: { status: 400, title: 'The Idempotency-Key is not well formed' },
  invalid_last_event_id: { status: 400, title: 'The Last-Event-ID is not one of this stream' },
  unauthenticated: { status: 401, title: 'A valid API key is needed' },
  insufficient_scope: { status: 403, title: 'The API key may not do this' },
  route_not_found: { status: 404, title: 'There is no such route' },
  unknown_job_type: { status: 404, title: 'There is no such job type' },
  job_not_found: { status: 404, title: 'There is no such job' },
  endpoint_not_found: { status: 404, title: 'There is no such endpoint' },
  run_not_found: { status: 404, title: 'There is no such run' },
  schedule_not_found: { status: 404, title: 'There is no such schedule' },
  completion_not_found: { status: 404, title: 'There is no such completion URL' },
  delivery_not_found: { status: 404, title: 'There is no such delivery' },
  method_not_allowed: { status: 405, title: 'The route does not support this method' },
  job_not_finished: { status: 409, title: 'The job has not finished yet' },
  idempotency_in_flight: { status: 409, title: 'The first request under this key is still being answered' },
  run_over: { status: 409, title: 'The run has ended already' },
  run_superseded: { status: 409, title: 'The run is not the job’s own any more' },
  endpoint_url_taken: { status: 409, title: 'Another endpoint has that URL' },
  endpoint_disabled: { status: 409, title: 'The endpoint is disabled' },
  endpoint_unverified: { status: 409, title: 'The endpoint has not been verified' },
  too_many_signing_secrets: { status: 409, title: 'Too many secrets sign for the endpoint' },
  delivery_pending: { status: 409, title: 'The delivery is queued already' },
  delivery_unrepeatable: { status: 409, title: 'The delivery cannot be sent again' },
  schedule_name_taken: { status: 409, title: 'Another schedule has that name' },
  no_result: { status: 409, title: 'The job ended without a result' },
  job_expired: { status: 410, title: 'The job is no longer kept' },
  body_too_large: { status: 413, title: 'The body is too large' },
  input_too_large: { status: 413, title: 'The input is too large for the job type' },
  result_too_large: { status: 413, title: 'The result is too large' },
  unsupported_media_type: { status: 415, title: 'The body must be JSON in UTF-8, and not encoded' },
  range_not_satisfiable: { status: 416, title: 'The range is not in the result' },
  expectation_failed: { status: 417, title: 'The Expect header cannot be met' },
  invalid_body: { status: 422, title: 'The body does not have the right shape' },
  invalid_input: { status: 422, title: 'The input does not fit the job type' },
  invalid_output: { status: 422, title: 'The output does not fit the job type' },
  endpoint_not_registered: { status: 422, title: 'The endpoint is not registered' },
  invalid_callback_url: { status: 422, title: 'The callback URL cannot be used' },
  invalid_signing_secret: { status: 422, title: 'The signing secret cannot be used' },
  invalid_tls: { status: 422, title: 'The TLS settings cannot be used' },
  invalid_schedule: { status: 422, title: 'The schedule cannot be used' },
  idempotency_key_reused: { status: 422, title: 'The key was used for another payload' },
  too_many_submissions: { status: 429, title: 'The account submits too fast' },
  too_many_jobs: { status: 429, title: 'The account has too many jobs that have not ended' },
  headers_too_large: { status: 431, title: 'The request header is too large' },
  internal_error: { status: 500, title: 'Something went wrong on our side' },
  starting: { status: 503, title: 'The service is starting' },
  queue_full: { status: 503, title: 'Too much work is waiting' },
  outcome_unknown: { status: 503, title: 'Whether it was stored is not known' },
  database_unavailable: { status: 503, title: 'The database cannot be reached' },
} as const satisfies Record<string, { status: number; title: string }>;

export type ProblemCode = keyof typeof PROBLEMS;

/** One fault in a body, where it is: `path` is a JSON Pointer (RFC 6901). */
export interface Fault {
  readonly path: string;
  readonly message: string;
}

/** An expected "no", as data: use cases return it, `http/problem.ts` alone turns it into a response. */
export interface Refusal {
  readonly ok: false;
  readonly code: ProblemCode;
  /** What is wrong with this very request, and what to do. */
  readonly detail: string;
  readonly faults?: readonly Fault[];
  /** Further members of the problem document, and what the client should wait, in seconds. */
  readonly extra?: Readonly<Record<string, unknown>>;
  readonly retryAfter?: number;
}

export type Result<T> = { readonly ok: true; readonly value: T } | Refusal;

export function refuse(code: ProblemCode, detail: string, more: Omit<Refusal, 'ok' | 'code' | 'detail'> = {}): Refusal {
  return { ok: false, code, detail, ...more };
}

/** A JSON Pointer to the place a validation library names by a list of keys. */
export function toPointer(path: ReadonlyArray<PropertyKey | { readonly key: PropertyKey }> = []): string {
  return path
    .map((segment) => String(typeof segment === 'object' ? segment.key : segment))
    .map((key) => `/${key.replaceAll('~', '~0').replaceAll('/', '~1')}`)
    .join('');
}
