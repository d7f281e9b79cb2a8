import { z } from '@hono/zod-openapi';
import { ENDED_RUN_STATUSES, JOB_STATUSES, LOG_LEVELS } from '#domain/job.ts';
import { timestamp } from './common.ts';

const leaseSeconds = z.number().min(5).max(300).default(30);

export const claimSchema = z
  .strictObject({
    types: z.array(z.string().min(1).max(100)).min(1).max(100).openapi({ description: 'Job types of remote workers.' }),
    max: z.int().min(1).max(100).default(1).openapi({ description: 'Runs at most; what you can start now.' }),
    wait_s: z.number().min(0).max(30).default(0).openapi({ description: 'How long to wait when there is none.' }),
    lease_s: leaseSeconds.openapi({ description: 'How long the runs are yours without a heartbeat.' }),
    worker: z
      .string()
      .regex(/^[\x21-\x7e]{1,100}$/, 'must be 1 to 100 printable ASCII characters without blanks')
      .openapi({ description: 'What the worker calls itself; on record with its runs.', example: 'csv-1.example' }),
  })
  .openapi('Claim');

const claimedRunSchema = z
  .object({
    handle: z.string().openapi({ description: 'Names the run in the paths of all calls about it.' }),
    run_id: z.string(),
    number: z.int().openapi({ description: 'Of this try; counts from 1.' }),
    job: z.object({
      id: z.string(),
      type: z.string(),
      account_id: z.string(),
      metadata: z.record(z.string(), z.string()),
      priority: z.int(),
      created_at: timestamp(),
    }),
    input: z
      .unknown()
      .openapi({ description: 'As it was submitted, character by character; it fits the schema of its type.' }),
    timeout_ms: z.int(),
    lease_expires_at: timestamp(),
    deadline_at: timestamp().openapi({ description: 'The run times out then, whatever its lease.' }),
    heartbeat_after_s: z.number().openapi({ description: 'Send the first heartbeat then: a third of the lease.' }),
  })
  .openapi('ClaimedRun');

export const claimedSchema = z.object({ runs: z.array(claimedRunSchema) });

const LONGEST_TEXT = 10_000;

export const progressSchema = z
  .strictObject({
    percent: z.number().min(0).max(100),
    message: z.string().max(LONGEST_TEXT).optional().openapi({ description: 'Cut after 500 characters.' }),
  })
  .openapi('Progress');

export const heartbeatSchema = z
  .strictObject({ lease_s: leaseSeconds, progress: progressSchema.optional() })
  .openapi('Heartbeat');

export const leaseSchema = z
  .object({
    lease_expires_at: timestamp(),
    cancel_requested: z
      .boolean()
      .openapi({ description: 'The job was called off: stop, and fail or release the run.' }),
    heartbeat_after_s: z.number(),
  })
  .openapi('Lease');

export const logSchema = z
  .strictObject({
    lines: z
      .array(
        z.strictObject({
          level: z.enum(LOG_LEVELS),
          message: z.string().openapi({ description: 'Cut after 4,000 characters.' }),
          fields: z
            .record(z.string(), z.unknown())
            .optional()
            .openapi({ description: 'Up to 16 KiB as JSON; more is not kept.' }),
        }),
      )
      .min(1)
      .max(100),
  })
  .openapi('LogLines');

export const keptLinesSchema = z.object({
  kept: z.int().openapi({ description: 'Of these lines: 10,000 a run are.' }),
});

const output = z
  .unknown()
  .openapi({ description: 'Any JSON; checked against the output schema of the type, and kept as it is sent.' });

export const outputSchema = z.strictObject({ output }).openapi('Output');

const error = z.strictObject({
  code: z
    .string()
    .regex(/^[a-z][a-z0-9_]{0,63}$/, 'must be lower snake case, 64 characters at most')
    .default('handler_error')
    .openapi({ description: 'Stable; your own, or one of docs/errors.md.' }),
  message: z.string().min(1).max(LONGEST_TEXT).openapi({ description: 'Cut after 2,000 characters.' }),
});

const failure = {
  error,
  retryable: z.boolean().default(true).openapi({ description: 'False: the job fails now, whatever runs are left.' }),
  retry_after_s: z.number().min(0).max(86_400).optional().openapi({ description: 'The next run is not sooner.' }),
};

export const failureSchema = z.strictObject(failure).openapi('Failure');

export const endedRunSchema = z
  .object({
    run_id: z.string(),
    run_status: z.enum(ENDED_RUN_STATUSES),
    job_status: z.enum(JOB_STATUSES).openapi({ description: '`in_progress` when another run follows.' }),
  })
  .openapi('EndedRun');

export const completionSchema = z
  .discriminatedUnion('status', [
    z.strictObject({ status: z.literal('succeeded'), output }),
    z.strictObject({ status: z.literal('failed'), ...failure }),
  ])
  .openapi('Completion');

/** It is not parsed here. */
export const anyBody = {
  required: true,
  content: { '*/*': { schema: z.any().openapi({ type: 'string', format: 'binary' }) } },
};

export const handleParams = z.object({
  handle: z.string().openapi({ description: 'The `handle` of a claimed run.' }),
});
