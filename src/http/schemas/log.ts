import { z } from '@hono/zod-openapi';
import { LOG_LEVELS } from '#domain/job.ts';
import { timestamp } from './common.ts';

export const logQuery = z.strictObject({
  after: z.coerce
    .number()
    .int()
    .min(0)
    .max(Number.MAX_SAFE_INTEGER)
    .default(0)
    .openapi({ description: 'The `next_after` of an earlier answer: only what was said since.' }),
  limit: z.coerce.number().int().min(1).max(1000).default(100).openapi({ description: 'Lines of one answer.' }),
  level: z.enum(LOG_LEVELS).default('debug').openapi({ description: 'The least level; left out: every line.' }),
});

const logLineSchema = z
  .object({
    position: z.int().openapi({ description: 'Grows within the job, from one run to the next, too; not by one.' }),
    run_id: z.string(),
    level: z.enum(LOG_LEVELS),
    message: z.string(),
    fields: z.record(z.string(), z.unknown()).optional(),
    created_at: timestamp(),
  })
  .openapi('LogLine');

export const logSchema = z.object({
  items: z.array(logLineSchema),
  next_after: z.int().openapi({ description: 'Where to read on. Always there: more may be said later.' }),
});
