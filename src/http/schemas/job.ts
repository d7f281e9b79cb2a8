import { z } from '@hono/zod-openapi';
import { CALLBACK_EVENT_TYPES, JOB_STATUSES, RUN_STATUSES } from '#domain/job.ts';
import { idSchema, moment, problemSchema, storable, timestamp, UNSTORABLE } from './common.ts';

/** A record of zod's leaves `__proto__` out without a word. */
const PROTO = '__proto__';
const refuseProto = (value: unknown, context: z.RefinementCtx) => {
  if (typeof value === 'object' && value !== null && Object.hasOwn(value, PROTO))
    context.addIssue({ code: 'custom', path: [PROTO], message: 'is a name that cannot be used' });
  return value;
};

const names = z
  .record(z.string().min(1).max(64).refine(storable, UNSTORABLE), z.string().max(500).refine(storable, UNSTORABLE))
  .refine((value) => Object.keys(value).length <= 50, 'must have 50 keys at most');

const metadata = z.preprocess(refuseProto, names).openapi({
  type: 'object',
  additionalProperties: { type: 'string', maxLength: 500 },
  description: 'Yours: comes back with the job and in callbacks, in no order.',
  example: { order: '4711' },
});

const events = z
  .array(z.enum(CALLBACK_EVENT_TYPES))
  .min(1)
  .openapi({ description: 'Which events of the job to be told of. Left out: each of its ends.' });

const callback = z
  .union([
    z.strictObject({ url: z.string().min(1).max(4000), events: events.optional() }),
    z.strictObject({ endpoint_id: idSchema('ep'), events: events.optional() }),
  ])
  .openapi({ description: 'Where to POST the result: a URL, or an endpoint registered before.' });

const retrySchema = z
  .strictObject({
    max_runs: z.int().min(1).max(100).optional().openapi({ description: 'Runs in all before the job fails.' }),
    min_delay_ms: z.int().min(0).max(86_400_000).optional(),
    factor: z.number().min(1).max(100).optional(),
    max_delay_ms: z.int().min(0).max(86_400_000).optional(),
    jitter: z.number().min(0).max(1).optional(),
  })
  .openapi('Retry');

/** The same with our own names. */
const retry = retrySchema.transform((given) => ({
  ...(given.max_runs !== undefined && { maxRuns: given.max_runs }),
  ...(given.min_delay_ms !== undefined && { minDelayMs: given.min_delay_ms }),
  ...(given.factor !== undefined && { factor: given.factor }),
  ...(given.max_delay_ms !== undefined && { maxDelayMs: given.max_delay_ms }),
  ...(given.jitter !== undefined && { jitter: given.jitter }),
}));

export const submissionSchema = z
  .strictObject({
    type: z.string().min(1).max(100).openapi({ example: 'ringback.echo' }),
    input: z
      .unknown()
      .optional()
      .openapi({
        description:
          "Checked against the job type's schema, and kept as it was sent. For a handler in JavaScript, a number that would become " +
          'another one is refused: see docs/guides/json.md.',
      }),
    callback: callback.optional(),
    metadata: metadata.optional(),
    priority: z
      .int()
      .min(-100)
      .max(100)
      .optional()
      .openapi({ description: 'Among the jobs of the account: higher runs first. 0 when left out.' }),
    timeout_ms: z
      .int()
      .min(1)
      .max(86_400_000)
      .optional()
      .openapi({ description: 'For one run; no more than its type has.' }),
    retry: retry.optional().openapi({ description: 'What is left out is as the job type says.' }),
    run_at: moment.optional().openapi({ type: 'string', format: 'date-time', description: 'Not to be run before.' }),
    expires_at: moment
      .optional()
      .openapi({ type: 'string', format: 'date-time', description: 'Not started by then, the job expires.' }),
  })
  .openapi('Submission');

/** One of a batch. */
export const batchItemSchema = submissionSchema
  .extend({
    idempotency_key: z
      .string()
      .regex(/^[\x20-\x7e]{1,255}$/, 'must be 1 to 255 printable ASCII characters')
      .optional()
      .openapi({ description: 'As the header of a single submission. Recommended: see there.' }),
  })
  .openapi('BatchItem');

/** Its items are checked one by one, so that each gets an answer of its own. */
export const batchSchema = z
  .strictObject({
    items: z
      .array(z.unknown())
      .min(1)
      .max(1000)
      .openapi({ items: { type: 'object' } }),
  })
  .openapi('Batch');

const jobErrorSchema = z.object({ code: z.string(), message: z.string() }).openapi('JobError');

export const jobSchema = z
  .object({
    id: idSchema('job'),
    type: z.string(),
    status: z.enum(JOB_STATUSES),
    done: z.boolean(),
    progress: z.object({ percent: z.number(), message: z.string().optional() }).optional(),
    output: z
      .unknown()
      .optional()
      .openapi({ description: 'Once succeeded, unless it is large or not JSON. As it was handed in.' }),
    result_url: z.string().optional().openapi({ description: 'Once succeeded, instead of a large output.' }),
    result: z
      .object({ content_type: z.string(), bytes: z.int(), sha256: z.string() })
      .optional()
      .openapi({ description: 'What result_url gives.' }),
    error: jobErrorSchema.optional().openapi({ description: 'Once ended otherwise.' }),
    runs: z.int().openapi({ description: 'Runs started so far.' }),
    metadata: z.record(z.string(), z.string()),
    priority: z.int().optional(),
    timeout_ms: z.int().optional(),
    retry: retrySchema.optional(),
    schedule_id: z.string().optional().openapi({ description: 'The schedule that submitted it.' }),
    scheduled_for: timestamp()
      .optional()
      .openapi({ description: 'The time of the schedule that it was submitted for; none when triggered by hand.' }),
    callback: z
      .object({
        endpoint_id: z.string(),
        url: z.string(),
        events: z.array(z.string()),
        signing_secret: z
          .string()
          .optional()
          .openapi({ description: 'Only in the answer to the submission that made the endpoint. Keep it.' }),
      })
      .optional(),
    created_at: timestamp(),
    updated_at: timestamp(),
    run_at: timestamp().optional(),
    expires_at: timestamp().optional(),
    started_at: timestamp().optional(),
    cancel_requested_at: timestamp()
      .optional()
      .openapi({ description: 'Called off while it ran; it is being stopped.' }),
    next_run_at: timestamp().optional().openapi({ description: 'While a failed run waits for the next.' }),
    finished_at: timestamp().optional(),
    status_url: z.string(),
    cancel_url: z.string(),
  })
  .openapi('Job');

const refusedItemSchema = problemSchema
  .extend({
    retry_after: z.int().optional().openapi({ description: 'Seconds, as `Retry-After` would say.' }),
    job_id: z.string().optional().openapi({ description: 'With `outcome_unknown`: the job, if it was stored.' }),
  })
  .openapi('RefusedItem');

export const batchResultSchema = z
  .object({
    items: z.array(
      z.union([
        z.object({ status: z.literal(202), replayed: z.boolean().optional(), job: jobSchema }),
        refusedItemSchema,
      ]),
    ),
  })
  .openapi('BatchResult');

export const runSchema = z
  .object({
    id: z.string(),
    number: z.int(),
    status: z.enum(RUN_STATUSES),
    worker_id: z.string(),
    started_at: timestamp(),
    finished_at: timestamp().nullable(),
    duration_ms: z.number().nullable(),
    // A union, for a reference cannot be made nullable.
    error: z.union([jobErrorSchema, z.null()]),
  })
  .openapi('Run');

export const jobTypeSchema = z
  .object({
    type: z.string(),
    description: z.string().optional(),
    way: z
      .enum(['inline', 'thread', 'backend', 'remote'])
      .openapi({ description: 'Who does the work: the service itself, an HTTP back end, or remote workers.' }),
    timeout_ms: z.int(),
    max_runs: z.int(),
    input_schema: z.record(z.string(), z.unknown()).optional().openapi({ description: 'JSON Schema 2020-12.' }),
  })
  .openapi('JobType');
