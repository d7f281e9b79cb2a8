import { z } from '@hono/zod-openapi';
import { FINAL_JOB_EVENT_TYPES, JOB_STATUSES, RUN_STATUSES } from '#domain/job.ts';
import { idSchema, timestamp } from './common.ts';

// PostgreSQL's jsonb holds neither.
const storable = (text: string) => !text.includes('\0') && text.isWellFormed();
const UNSTORABLE = 'must not hold U+0000 or an unpaired surrogate';

const metadata = z
  .record(z.string().min(1).max(64).refine(storable, UNSTORABLE), z.string().max(500).refine(storable, UNSTORABLE))
  .refine((value) => Object.keys(value).length <= 50, 'must have 50 keys at most')
  .openapi({ description: 'Yours: comes back with the job and in callbacks.', example: { order: '4711' } });

const events = z
  .array(z.enum(FINAL_JOB_EVENT_TYPES))
  .min(1)
  .openapi({ description: 'Which ends of the job to be told of. Left out: every one.' });

const callback = z
  .union([
    z.strictObject({ url: z.string().min(1).max(4000), events: events.optional() }),
    z.strictObject({ endpoint_id: idSchema('ep'), events: events.optional() }),
  ])
  .openapi({ description: 'Where to POST the result: a URL, or an endpoint registered before.' });

export const submissionSchema = z
  .strictObject({
    type: z.string().min(1).max(100).openapi({ example: 'ringback.echo' }),
    input: z.unknown().optional().openapi({ description: "Checked against the job type's schema." }),
    callback: callback.optional(),
    metadata: metadata.optional(),
  })
  .openapi('Submission');

const jobErrorSchema = z.object({ code: z.string(), message: z.string() }).openapi('JobError');

export const jobSchema = z
  .object({
    id: idSchema('job'),
    type: z.string(),
    status: z.enum(JOB_STATUSES),
    done: z.boolean(),
    progress: z.object({ percent: z.number(), message: z.string().optional() }).optional(),
    output: z.unknown().optional().openapi({ description: 'Once succeeded.' }),
    error: jobErrorSchema.optional().openapi({ description: 'Once ended otherwise.' }),
    runs: z.int().openapi({ description: 'Runs started so far.' }),
    metadata: z.record(z.string(), z.string()),
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
    started_at: timestamp().optional(),
    next_run_at: timestamp().optional().openapi({ description: 'While a failed run waits for the next.' }),
    finished_at: timestamp().optional(),
    status_url: z.string(),
  })
  .openapi('Job');

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
    timeout_ms: z.int(),
    max_runs: z.int(),
    input_schema: z.record(z.string(), z.unknown()).optional().openapi({ description: 'JSON Schema 2020-12.' }),
  })
  .openapi('JobType');
