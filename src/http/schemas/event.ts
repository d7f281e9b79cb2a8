import { z } from '@hono/zod-openapi';
import { JOB_EVENT_TYPES } from '#domain/job.ts';
import { timestamp } from './common.ts';
import { jobSchema } from './job.ts';

export const jobEventSchema = z
  .object({
    id: z.string().openapi({ example: 'evt_01h455vb4pex5vsknk084sn02q' }),
    type: z.enum(JOB_EVENT_TYPES),
    sequence: z.int().openapi({ description: 'Counts the events of the job from 1.' }),
    created_at: timestamp(),
  })
  .openapi('JobEvent');

/** The `data` of what a stream sends. */
export const streamedEventSchema = z
  .union([
    z.object({
      id: z.string(),
      type: z.enum(JOB_EVENT_TYPES),
      sequence: z.int(),
      timestamp: timestamp().openapi({ description: 'When it occurred.' }),
      job: jobSchema,
    }),
    z.object({ type: z.literal('job.progress'), timestamp: timestamp(), job: jobSchema }),
  ])
  .openapi('StreamedEvent', {
    description: 'The event as it is on record, and the job as it is when the event is sent.',
  });
