import { z } from '@hono/zod-openapi';
import { JOB_STATUSES } from '#domain/job.ts';
import type { JobListQuery } from '#jobs/read/job-lists.ts';
import { moment, pageOf } from './common.ts';
import { jobSchema } from './job.ts';

/** One value or several: `status=failed&status=canceled` or `status=failed,canceled`. */
export function several<T extends string>(item: z.ZodType<T, string>, most: number) {
  return z
    .union([z.string(), z.array(z.string())])
    .transform((given) => [given].flat().flatMap((text) => text.split(',')))
    .pipe(z.array(item).max(most));
}

const status = z.enum(JOB_STATUSES, `must be one of ${JOB_STATUSES.join(', ')}`);
const typeName = z
  .string()
  .min(1)
  .max(100)
  .regex(/^[\x21-\x7e]+$/, 'must be the name of a job type');

/** Before 1970 is as good as 1970: no job is older. */
const sinceThen = moment.transform((at) => new Date(Math.max(0, at.getTime())));

export const time = (description: string) =>
  sinceThen.optional().openapi({ type: 'string', format: 'date-time', description });

const known = z.looseObject({
  type: several(typeName, 50)
    .optional()
    .openapi({ type: 'array', items: { type: 'string' }, description: 'Any of these job types.' }),
  status: several(status, 50)
    .optional()
    .openapi({ type: 'array', items: { type: 'string', enum: [...JOB_STATUSES] }, description: 'Any of these.' }),
  created_after: time('Not included.'),
  created_before: time('Not included.'),
  updated_after: time('Lists in the order of changes, from that time on: see the description.'),
  limit: z.coerce.number().int().min(1).max(200).default(50).openapi({ description: 'Items of one page.' }),
  cursor: z.string().max(1000).optional().openapi({ description: 'The `next_cursor` of the page before.' }),
});

const METADATA = 'metadata.';
const MOST_METADATA = 10;
const metadataText = z
  .string('may be given once')
  .max(500)
  .refine((text) => !text.includes('\0') && text.isWellFormed(), 'must not hold U+0000 or an unpaired surrogate');

/** What is not among the known parameters names a member of the metadata, or nothing. */
function faultOf(name: string, value: unknown): string | undefined {
  if (!name.startsWith(METADATA) || name === METADATA) return 'there is no such parameter';
  const checked = [name, value].map((text) => metadataText.safeParse(text));
  return checked.find(({ success }) => !success)?.error?.issues[0]?.message;
}

const withMetadata = known.superRefine(
  (given, context) => {
    const others = Object.entries(given).filter(([name]) => !Object.hasOwn(known.shape, name));
    for (const [name, value] of others) {
      const message = faultOf(name, value);
      if (message !== undefined) context.addIssue({ code: 'custom', path: [name], message });
    }
    if (others.length > MOST_METADATA)
      context.addIssue({ code: 'custom', message: `asks for more than ${MOST_METADATA} members of the metadata` });
  },
  // Whatever else is wrong: all faults are told at once.
  { when: () => true },
);

export const jobListQuery = withMetadata.transform((given): JobListQuery => {
  const {
    type: types,
    status: statuses,
    created_after,
    created_before,
    updated_after,
    limit,
    cursor,
    ...others
  } = given;
  const metadata = Object.entries(others).map(([name, value]) => [name.slice(METADATA.length), String(value)]);
  const filter = {
    types,
    statuses,
    metadata: Object.fromEntries(metadata) as Record<string, string>,
    createdAfter: created_after,
    createdBefore: created_before,
  };
  return { filter, updatedAfter: updated_after, limit, cursor };
});

/** What zod cannot say: names that begin alike. In OpenAPI a form that is exploded, each of its members a parameter. */
export const metadataParameter = {
  name: 'metadata.*',
  in: 'query',
  style: 'form',
  explode: true,
  description: '`metadata.order=4711` lists the jobs whose metadata has that member. Several must all be there.',
  schema: {
    type: 'object',
    additionalProperties: { type: 'string' },
    propertyNames: { type: 'string', pattern: '^metadata\\.' },
  },
} as const;

export const jobListSchema = pageOf(jobSchema).extend({
  has_more: z.boolean().openapi({ description: 'Whether to ask for the next page at once.' }),
});
