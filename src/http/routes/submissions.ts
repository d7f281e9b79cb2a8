import { createRoute, OpenAPIHono, z } from '@hono/zod-openapi';
import type { Clock } from '#domain/clock.ts';
import type { AccountId } from '#domain/ids.ts';
import { elementTexts, memberText, replaceMember } from '#domain/json-text.ts';
import { isFinal, type JobStatus } from '#domain/job.ts';
import { type Refusal, type Result, refuse } from '#domain/problem.ts';
import type { Admission } from '#jobs/submit/admission.ts';
import type { IdempotentRequest } from '#jobs/submit/idempotency.ts';
import type { JobWatch } from '#jobs/wait/job-watch.ts';
import type { PollEstimate } from '#jobs/wait/poll-estimate.ts';
import type { Submission } from '#jobs/submit/submission.ts';
import type { Accepted, Submitter } from '#jobs/submit/submit.ts';
import type { Logger } from '#log.ts';
import type { Env } from '../env.ts';
import { fingerprintOf, parseIdempotencyKey } from '../idempotency-key.ts';
import type { RenderJob } from '../job-representation.ts';
import { jsonBody } from '../middleware/json-body.ts';
import { preferredWait } from '../prefer.ts';
import { type ErrorJudge, logFault, problem, problemBody, refusalOf } from '../problem.ts';
import { headerParameter, json, preferParameter, problems } from '../schemas/common.ts';
import { tellLimits } from '../rate-limit.ts';
import { batchItemSchema, batchResultSchema, batchSchema, jobSchema, submissionSchema } from '../schemas/job.ts';
import { onInvalid, refusalOfIssues } from '../validation.ts';

export interface SubmissionRoutesDeps {
  readonly clock: Clock;
  readonly submitter: Submitter;
  readonly admission: Pick<Admission, 'rateLimit'>;
  readonly maxBodyBytes: number;
  readonly watch: JobWatch;
  readonly polls: Pick<PollEstimate, 'after'>;
  readonly renderJob: RenderJob;
  readonly judge: ErrorJudge;
  readonly log: Logger;
}

/** A batch may be this many times as large as one submission. */
const BATCH_FACTOR = 16;

const idempotencyKey = headerParameter(
  'Idempotency-Key',
  'Submissions under one key make one job, and get one answer, for 24 hours.',
);

const acceptedHeaders = z.object({
  Location: z.string(),
  'Preference-Applied': z.string().optional().openapi({ example: 'wait=10' }),
  'Idempotency-Replayed': z.string().optional().openapi({ description: '`true` for an answer told again.' }),
});
const retryAfter = z.object({ 'Retry-After': z.string().openapi({ description: 'Seconds, estimated.' }) });

export function submissionRoutes({
  clock,
  submitter,
  admission,
  maxBodyBytes,
  watch,
  polls,
  renderJob,
  judge,
  log,
}: SubmissionRoutesDeps) {
  const submit = createRoute({
    method: 'post',
    path: '/v1/jobs',
    summary: 'Submit a job',
    description:
      'Answers as soon as the job is stored and queued. A callback may arrive before this answer is read. With `Prefer: ' +
      'wait=N` (RFC 7240) the answer is held until the job has ended, N seconds at most, and shows it as it is then.',
    middleware: [jsonBody(maxBodyBytes)] as const,
    parameters: [idempotencyKey, preferParameter],
    request: {
      body: { required: true, content: { 'application/json': { schema: submissionSchema } } },
    },
    responses: {
      200: { ...json(jobSchema, 'Accepted, and over while we waited.'), headers: acceptedHeaders },
      202: {
        ...json(jobSchema, 'Accepted: it cannot be lost any more.'),
        headers: acceptedHeaders.extend(retryAfter.shape),
      },
      ...problems(400, 404, 409, 413, 415, 422, 429),
    },
  });
  const submitBatch = createRoute({
    method: 'post',
    path: '/v1/jobs/batch',
    summary: 'Submit up to 1,000 jobs',
    description:
      'Each stands for itself: some may be accepted and others refused. In the order of the request. The response is 207 also ' +
      'when every item was refused, or the database could be reached for some of them only: `database_unavailable` was not ' +
      'stored, `outcome_unknown` may have been. Give each item an `idempotency_key`: then the whole batch can be sent again, ' +
      'also when no response came, and nothing is made twice.',
    middleware: [jsonBody(maxBodyBytes * BATCH_FACTOR)] as const,
    request: { body: { required: true, content: { 'application/json': { schema: batchSchema } } } },
    responses: { 207: json(batchResultSchema, 'What became of each.'), ...problems(400, 413, 415, 422, 429) },
  });

  return new OpenAPIHono<Env>({ defaultHook: onInvalid })
    .openapi(submit, async (c) => {
      const submission = withInputText(c.req.valid('json'), await c.req.text());
      const request = idempotentRequest(c.req.header('idempotency-key'), submission);
      if (!request.ok) return problem(c, request);
      const { accountId } = c.get('apiKey');
      const accepted = await submitter.submit(accountId, submission, request.value);
      tellLimits(c, admission.rateLimit(accountId));
      if (!accepted.ok) return problem(c, accepted);
      const { id, type, body, replayed } = accepted.value;
      const wait = preferredWait(c.req.header('prefer'));
      const job =
        wait === undefined
          ? undefined
          : await watch.wait({ accountId, id }, { until: isOver, timeoutMs: wait * 1000, signal: c.req.raw.signal });
      const now = clock.now();
      const pending = job ?? { ...NOT_STARTED, accountId, type, createdAt: now, runAt: submission.run_at ?? null };
      return c.body(job === undefined ? body : withSecret(renderJob(job).body, body), isOver(pending) ? 200 : 202, {
        'content-type': 'application/json',
        'cache-control': 'no-store',
        location: `/v1/jobs/${id}`,
        ...(!isOver(pending) && { 'retry-after': String(polls.after(pending, now)) }),
        ...(wait !== undefined && { 'preference-applied': `wait=${wait}` }),
        ...(replayed && { 'idempotency-replayed': 'true' }),
      }) as never;
    })
    .openapi(submitBatch, async (c) => {
      const { accountId } = c.get('apiKey');
      const { items } = c.req.valid('json');
      const texts = elementTexts(memberText(await c.req.text(), 'items') ?? '');
      const failures: unknown[] = [];
      const judged = (error: unknown): Refusal => {
        failures.push(error);
        return refusalOf(error, judge, false);
      };
      // One that fails must not take along what is known of the others.
      const results = await Promise.all(
        items.map((item, index) => submitItem(submitter, accountId, item, texts[index]!).catch(judged)),
      );
      if (failures.length > 0) logFault(log, c, refusalOf(failures[0], judge, false), failures[0]);
      tellLimits(c, admission.rateLimit(accountId));
      return c.body(`{"items":[${results.map(renderItem).join(',')}]}`, 207, {
        'content-type': 'application/json',
      }) as never;
    });
}

const NOT_STARTED = { status: 'queued', nextRunAt: null, runId: null, runStartedAt: null } as const;

const isOver = ({ status }: { readonly status: JobStatus }) => isFinal(status);

/** The job as it is by now, with what only the first answer shows: the signing secret of an endpoint that it made. */
function withSecret(body: string, first: string): string {
  if (!first.includes('"signing_secret"')) return body;
  const callback = memberText(first, 'callback');
  return callback === undefined ? body : replaceMember(body, 'callback', callback);
}

function idempotentRequest(header: string | undefined, submission: Submission): Result<IdempotentRequest | undefined> {
  if (header === undefined) return { ok: true, value: undefined };
  const key = parseIdempotencyKey(header);
  if (key !== undefined) return underKey(key, submission);
  const detail = 'An Idempotency-Key has 1 to 255 printable ASCII characters, best a UUID, bare or in double quotes.';
  return refuse('invalid_idempotency_key', detail);
}

function underKey(key: string, submission: Submission): Result<IdempotentRequest> {
  const fingerprint = fingerprintOf(submission);
  return fingerprint.ok ? { ok: true, value: { key, fingerprint: fingerprint.value } } : fingerprint;
}

/** @param text the submission as it was sent */
function withInputText(submission: Submission, text: string): Submission {
  return submission.input === undefined ? submission : { ...submission, inputText: memberText(text, 'input') };
}

/** An item of a batch, checked by itself: a bad one must not keep the others out. */
async function submitItem(
  submitter: Submitter,
  accountId: AccountId,
  item: unknown,
  text: string,
): Promise<Result<Accepted>> {
  const checked = batchItemSchema.safeParse(item);
  if (!checked.success) return refusalOfIssues(checked.error.issues, 'invalid_body');
  const { idempotency_key: key, ...given } = checked.data;
  const submission = withInputText(given, text);
  const request = key === undefined ? undefined : underKey(key, submission);
  if (request?.ok === false) return request;
  return submitter.submit(accountId, submission, request?.value);
}

/** An item has no header of its own to say it in. */
function retryAfterOf({ retryAfter: seconds }: Refusal) {
  return seconds === undefined ? {} : { retry_after: seconds };
}

function renderItem(result: Result<Accepted>): string {
  if (!result.ok) return JSON.stringify({ ...problemBody(result), ...retryAfterOf(result) });
  const { body, replayed } = result.value;
  return `{"status":202,${replayed ? '"replayed":true,' : ''}"job":${body}}`;
}
