import { z } from '@hono/zod-openapi';
import { type IdPrefix, parseId } from '#domain/ids.ts';

/** PostgreSQL's text and jsonb hold neither. */
export const storable = (text: string) => !text.includes('\0') && text.isWellFormed();
export const UNSTORABLE = 'must not hold U+0000 or an unpaired surrogate';

/** An id in a path or a body: `job_01h455vb4pex5vsknk084sn02q`. */
export function idSchema<P extends IdPrefix>(prefix: P) {
  return z
    .string()
    .transform((text, context) => {
      const id = parseId(prefix, text);
      if (id === undefined) {
        const message = `must look like ${prefix}_01h455vb4pex5vsknk084sn02q`;
        context.addIssue({ code: 'custom', message });
        return z.NEVER;
      }
      return id;
    })
    .openapi({ type: 'string', example: `${prefix}_01h455vb4pex5vsknk084sn02q` });
}

/**
 * A header that a route reads by itself. Documented, and not validated by the schema: that would copy every header of every
 * request.
 */
export function headerParameter(name: string, description: string, example?: string) {
  return {
    name,
    in: 'header' as const,
    required: false,
    description,
    schema: { type: 'string' as const, ...(example !== undefined && { example }) },
  };
}

export const preferParameter = headerParameter('Prefer', '`wait=N` (RFC 7240): N seconds, up to 60.', 'wait=10');

export const timestamp = () => z.iso.datetime();

const END_OF_TIMES = Date.UTC(10_000, 0);
const NO_MOMENT = 'must be a time such as 2026-01-31T12:00:00Z';

/** A point in time, with its zone. An offset may carry it beyond the year 9999, which JSON and PostgreSQL write in two ways. */
export const moment = z.iso
  .datetime({ offset: true, error: NO_MOMENT })
  .transform((text) => new Date(text))
  .refine((at) => at.getTime() < END_OF_TIMES, NO_MOMENT);

/** Where the next page starts. Opaque: made from the last id of a page, read back only here. */
export function encodeCursor(id: string): string {
  return Buffer.from(id).toString('base64url');
}

export function pageQuery<P extends IdPrefix>(prefix: P) {
  return z.strictObject({
    limit: z.coerce.number().int().min(1).max(200).default(50).openapi({ description: 'Items of one page.' }),
    cursor: z
      .string()
      .transform((text, context) => {
        const id = parseId(prefix, Buffer.from(text, 'base64url').toString());
        if (id === undefined) {
          context.addIssue({ code: 'custom', message: 'must be the next_cursor of an earlier page' });
          return z.NEVER;
        }
        return id;
      })
      .optional()
      .openapi({ type: 'string', description: 'The `next_cursor` of the page before.' }),
  });
}

export function pageOf<T extends z.ZodType>(item: T) {
  return z.object({ items: z.array(item), next_cursor: z.string().nullable() });
}

export const problemSchema = z
  .looseObject({
    type: z.string().openapi({ example: 'urn:ringback:problem:unknown_job_type' }),
    title: z.string(),
    status: z.int(),
    code: z.string().openapi({ example: 'unknown_job_type' }),
    detail: z.string(),
    errors: z.array(z.object({ path: z.string(), message: z.string() })).optional(),
  })
  .openapi('Problem');

const problemContent = { content: { 'application/problem+json': { schema: problemSchema } } };

/** The error responses that any route under /v1 may give, and those named. */
export function problems(...statuses: readonly (400 | 404 | 409 | 410 | 413 | 415 | 416 | 422 | 429)[]) {
  const all = [401, 403, ...statuses, 500, 503];
  return Object.fromEntries(all.map((status) => [status, { description: 'See docs/errors.md', ...problemContent }]));
}

/** Those that a route may give which needs no key. */
export function openProblems(...statuses: readonly 400[]) {
  const all = [...statuses, 500, 503];
  return Object.fromEntries(all.map((status) => [status, { description: 'See docs/errors.md', ...problemContent }]));
}

export function json<T extends z.ZodType>(schema: T, description: string) {
  return { description, content: { 'application/json': { schema } } };
}
