import { createRoute, OpenAPIHono, z } from '@hono/zod-openapi';
import type { Context } from 'hono';
import { type ByteRange, parseByteRange } from '#domain/byte-range.ts';
import { refuse } from '#domain/problem.ts';
import type { JobQueries } from '#jobs/read/job-queries.ts';
import type { JobResult } from '#jobs/read/job-results.ts';
import type { Logger } from '#log.ts';
import { isIfRange, isNoneMatch } from '../entity-tag.ts';
import type { Env } from '../env.ts';
import { problem } from '../problem.ts';
import { idSchema, problems } from '../schemas/common.ts';
import { streamBody } from '../stream-body.ts';
import { onInvalid } from '../validation.ts';

export interface ResultRoutesDeps {
  readonly jobs: JobQueries;
  readonly log: Logger;
}

const bytes = z.string().openapi({ format: 'binary' });
const content = { 'application/json': { schema: z.unknown() }, '*/*': { schema: bytes } };
const headers = z.object({
  ETag: z.string(),
  'Accept-Ranges': z.string(),
  'Repr-Digest': z.string().openapi({ description: 'SHA-256 of the whole result (RFC 9530).' }),
});
const partHeaders = headers.extend({ 'Content-Range': z.string() });

const route = createRoute({
  method: 'get',
  path: '/v1/jobs/{id}/result',
  summary: 'The result itself',
  description: 'Whatever its size and type, streamed. One range may be asked for; `If-Range` takes the ETag.',
  request: {
    params: z.object({ id: idSchema('job') }),
    headers: z.object({
      range: z.string().optional().openapi({ example: 'bytes=0-1023' }),
      'if-range': z.string().optional(),
      'if-none-match': z.string().optional(),
    }),
  },
  responses: {
    200: { description: 'The bytes, in the content type of the result.', content, headers },
    206: { description: 'The range asked for.', content, headers: partHeaders },
    304: { description: 'The client has it already.', headers: headers.pick({ ETag: true }) },
    ...problems(400, 404, 409, 410, 416),
  },
});

export function resultRoutes({ jobs, log }: ResultRoutesDeps) {
  return new OpenAPIHono<Env>({ defaultHook: onInvalid }).openapi(route, async (c) => {
    const { id } = c.req.valid('param');
    const found = await jobs.result(c.get('apiKey').accountId, id);
    if (!found.ok) return problem(c, found);
    const onFailure = (error: unknown) =>
      log.error({ err: error, job_id: id, request_id: c.get('requestId') }, 'result cut off');
    return answer(c, found.value, onFailure);
  });
}

function answer(c: Context<Env>, result: JobResult, onFailure: (error: unknown) => void): Response {
  const about = describe(result);
  const { etag } = about;
  if (isNoneMatch(c.req.header('if-none-match'), etag)) return c.body(null, 304, about);
  const range = rangeOf(c, etag, result.bytes);
  if (range === 'none') {
    const detail = `The result has ${result.bytes} bytes: ask for some of those, or leave the Range header out.`;
    const refusal = refuse('range_not_satisfiable', detail, { extra: { bytes: result.bytes } });
    return problem(c, refusal, { 'accept-ranges': 'bytes', 'content-range': `bytes */${result.bytes}` });
  }
  const part = range === 'whole' ? { first: 0, last: result.bytes - 1 } : range;
  const status = range === 'whole' ? 200 : 206;
  const described = {
    ...about,
    ...(range !== 'whole' && { 'content-range': `bytes ${part.first}-${part.last}/${result.bytes}` }),
    'content-type': result.contentType,
    'content-length': String(part.last - part.first + 1),
    ...HARMLESS,
  };
  if (c.req.method === 'HEAD') return c.body(null, status, described);
  return c.body(streamBody(c, result.read(part), onFailure), status, described);
}

/** Somebody else's bytes under our name: a browser must neither guess what they are nor run them. */
const HARMLESS = {
  'x-content-type-options': 'nosniff',
  'content-security-policy': "default-src 'none'; sandbox",
  'content-disposition': 'attachment',
};

/** What is true of every part of it. A result never changes: it can only be gone. */
function describe({ sha256 }: JobResult) {
  return {
    etag: `"${Buffer.from(sha256).toString('hex')}"`,
    'repr-digest': `sha-256=:${Buffer.from(sha256).toString('base64')}:`,
    'accept-ranges': 'bytes',
    'cache-control': 'private, no-cache',
  };
}

/** Only GET has ranges (RFC 9110, 14.2). */
function rangeOf(c: Context<Env>, etag: string, length: number): ByteRange | 'whole' | 'none' {
  if (c.req.method !== 'GET' || !isIfRange(c.req.header('if-range'), etag)) return 'whole';
  return parseByteRange(c.req.header('range'), length);
}
