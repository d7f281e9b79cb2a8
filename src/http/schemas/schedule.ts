import { z } from '@hono/zod-openapi';
import { MISFIRE_POLICIES, OVERLAP_POLICIES } from '#domain/schedule.ts';
import { idSchema, storable, timestamp, UNSTORABLE } from './common.ts';
import { jobSchema, submissionSchema } from './job.ts';

const cron = z.string().openapi({
  description: 'minute, hour, day of month, month, day of week; or @hourly, @daily, @weekly, @monthly, @yearly.',
  example: '30 8 * * MON-FRI',
});
const timeZone = z.string().openapi({ description: 'IANA name. UTC when left out.', example: 'Europe/Berlin' });
const overlap = z
  .enum(OVERLAP_POLICIES)
  .openapi({ description: '`skip` leaves a time out while a job of the schedule has not ended. `allow` if left out.' });
const misfire = z.enum(MISFIRE_POLICIES).openapi({
  description:
    'What to do about times that passed more than a minute ago: nothing, one job for all, or one job for each, a hundred ' +
    'at most. `fire_once` if left out.',
});

const { shape } = submissionSchema;
const members = submissionSchema.pick({ input: true, metadata: true, priority: true });

export const newScheduleSchema = z
  .strictObject({
    name: z
      .string()
      .max(100)
      .regex(/\S/, 'must not be blank')
      .refine(storable, UNSTORABLE)
      .openapi({ description: 'No two schedules of an account have the same.', example: 'nightly report' }),
    cron,
    time_zone: timeZone.optional(),
    job: submissionSchema.omit({ run_at: true, expires_at: true }).openapi('ScheduledJob'),
    overlap: overlap.optional(),
    misfire: misfire.optional(),
    paused: z.boolean().optional().openapi({ description: 'Made, but not to fire before it is resumed.' }),
  })
  .openapi('NewSchedule');

/** Null takes away; the type and the name stay as they are. */
export const scheduleChangesSchema = z
  .strictObject({
    cron: cron.optional(),
    time_zone: timeZone.optional(),
    job: members
      .extend({
        callback: shape.callback.unwrap().nullable().optional(),
        timeout_ms: shape.timeout_ms.unwrap().nullable().optional(),
        retry: shape.retry.unwrap().nullable().optional(),
      })
      .optional(),
    overlap: overlap.optional(),
    misfire: misfire.optional(),
  })
  .openapi('ScheduleChanges');

const shown = jobSchema.shape;

export const scheduleSchema = z
  .object({
    id: idSchema('sch'),
    name: z.string(),
    cron: z.string(),
    time_zone: z.string(),
    overlap: z.enum(OVERLAP_POLICIES),
    misfire: z.enum(MISFIRE_POLICIES),
    paused: z.boolean(),
    job: z.object({
      type: z.string(),
      input: z.unknown().optional().openapi({ description: 'Not in a list.' }),
      metadata: shown.metadata,
      priority: z.int(),
      timeout_ms: shown.timeout_ms,
      retry: shown.retry,
      callback: shown.callback,
    }),
    next_fire_at: timestamp()
      .nullable()
      .openapi({ description: 'None while it is paused. In the past while no process can fire it: see last_error.' }),
    next_times: z.array(timestamp()).optional().openapi({ description: 'The next five. Not in a list.' }),
    last_fire_at: timestamp()
      .nullable()
      .openapi({ description: 'When it last submitted a job, by the clock or by hand.' }),
    last_job_id: z.string().nullable(),
    overlap_skips: z.int().openapi({ description: 'Times left out because a job of it had not ended.' }),
    last_error: z
      .object({ code: z.string(), message: z.string(), scheduled_for: timestamp() })
      .optional()
      .openapi({ description: 'Why its last time made no job, or why it is overdue; gone once a job is made.' }),
    created_at: timestamp(),
    updated_at: timestamp().openapi({ description: 'When a client last changed it; firing does not count.' }),
  })
  .openapi('Schedule');
