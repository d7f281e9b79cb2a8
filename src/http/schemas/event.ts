import { z } from '@hono/zod-openapi';
import { EVENT_TYPE_FILTERS, EVENT_TYPES } from '#domain/event-type.ts';
import { JOB_EVENT_TYPES } from '#domain/job.ts';
import { idSchema, pageOf, timestamp } from './common.ts';
import { jobSchema } from './job.ts';
import { several, time } from './job-list.ts';

const moment = {
  created_at: timestamp().openapi({ description: 'When it occurred.' }),
  timestamp: timestamp().openapi({
    description: 'The same time as `created_at`, by the name that it has in callbacks.',
  }),
};

export const jobEventSchema = z
  .object({
    id: z.string().openapi({ example: 'evt_01h455vb4pex5vsknk084sn02q' }),
    type: z.enum(JOB_EVENT_TYPES),
    sequence: z.int().openapi({ description: 'Counts the events of the job from 1.' }),
    ...moment,
  })
  .openapi('JobEvent');

/** The `data` of what a stream sends. */
export const streamedEventSchema = z
  .union([
    z.object({
      id: z.string(),
      type: z.enum(JOB_EVENT_TYPES),
      sequence: z.int(),
      ...moment,
      job: jobSchema,
    }),
    z.object({ type: z.literal('job.progress'), ...moment, job: jobSchema }),
  ])
  .openapi('StreamedEvent', {
    description: 'The event as it is on record, and the job as it is when the event is sent.',
  });

const typeFilter = z.enum(EVENT_TYPE_FILTERS, `must be an event type or one of ${families().join(', ')}`);

function families(): string[] {
  return EVENT_TYPE_FILTERS.filter((filter) => filter.endsWith('*'));
}

export const feedQuery = z.strictObject({
  type: several(typeFilter, 50)
    .optional()
    .openapi({
      type: 'array',
      items: { type: 'string', enum: [...EVENT_TYPE_FILTERS] },
      description: 'Any of these types or families of types.',
    }),
  job_id: idSchema('job').optional(),
  created_after: time('Where to begin without a cursor. Not included.'),
  limit: z.coerce
    .number()
    .int()
    .min(1)
    .max(200)
    .default(50)
    .openapi({ description: 'Items of one page. Of no meaning to a stream.' }),
  cursor: z.string().max(1000).optional().openapi({ description: 'The `next_cursor` of the page before.' }),
});

const feedEventSchema = z
  .object({
    id: z
      .string()
      .openapi({ example: 'evt_01h455vb4pex5vsknk084sn02q', description: 'The `webhook-id` of callbacks.' }),
    type: z.enum(EVENT_TYPES),
    job_id: z.string().optional(),
    sequence: z.int().optional().openapi({ description: 'Counts the events of the job from 1.' }),
    ...moment,
    data: z
      .record(z.string(), z.unknown())
      .nullable()
      .openapi({ description: 'What a callback says in `data`. Null when nobody was to be told of the event.' }),
  })
  .openapi('FeedEvent');

export const feedPageSchema = pageOf(feedEventSchema).extend({
  next_cursor: z.string().openapi({ description: 'Keep it, and ask with it again later: the feed has no end.' }),
  has_more: z.boolean().openapi({ description: 'Whether to ask for the next page at once.' }),
});
