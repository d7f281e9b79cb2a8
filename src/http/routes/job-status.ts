import { createRoute, OpenAPIHono, z } from '@hono/zod-openapi';
import type { Clock } from '#domain/clock.ts';
import { isFinal } from '#domain/job.ts';
import type { JobQueries } from '#jobs/read/job-queries.ts';
import type { JobRecord, JobWatch } from '#jobs/wait/job-watch.ts';
import type { PollEstimate } from '#jobs/wait/poll-estimate.ts';
import { isNoneMatch } from '../entity-tag.ts';
import type { Env } from '../env.ts';
import type { RenderJob } from '../job-representation.ts';
import { preferredWait } from '../prefer.ts';
import { problem } from '../problem.ts';
import { headerParameter, idSchema, json, preferParameter, problems } from '../schemas/common.ts';
import { jobSchema } from '../schemas/job.ts';
import { onInvalid } from '../validation.ts';

export interface JobStatusRoutesDeps {
  readonly clock: Clock;
  readonly jobs: JobQueries;
  readonly watch: JobWatch;
  readonly polls: Pick<PollEstimate, 'after'>;
  readonly renderJob: RenderJob;
}

const statusHeaders = z.object({
  ETag: z.string().openapi({ description: 'Of these very bytes: it changes with everything that can be seen.' }),
  'Cache-Control': z.string(),
  'Retry-After': z.string().optional().openapi({ description: 'Seconds, estimated; while pending.' }),
  'Preference-Applied': z.string().optional().openapi({ example: 'wait=10' }),
});

export function jobStatusRoutes({ clock, jobs, watch, polls, renderJob }: JobStatusRoutesDeps) {
  const get = createRoute({
    method: 'get',
    path: '/v1/jobs/{id}',
    summary: 'The status of a job',
    description:
      'With `Prefer: wait=N` (RFC 7240) a job that has not ended is answered once it has, or after N seconds as it is then; ' +
      'with `If-None-Match` as well, as soon as it is not as the tag says any more. See docs/guides/wait-for-a-job.md.',
    parameters: [preferParameter, headerParameter('If-None-Match', 'The `ETag` of an earlier answer.')],
    request: { params: z.object({ id: idSchema('job') }) },
    responses: {
      200: { ...json(jobSchema, 'The job as it is now.'), headers: statusHeaders },
      304: { description: 'It is still as the tag in If-None-Match says.', headers: statusHeaders },
      ...problems(400, 404, 410),
    },
  });

  /** Whether the client is to hear of it now: it is over, or not what the client has already. */
  const isNews = (job: JobRecord, ifNoneMatch: string | undefined) =>
    isFinal(job.status) || (ifNoneMatch !== undefined && !isNoneMatch(ifNoneMatch, renderJob(job).etag));

  return new OpenAPIHono<Env>({ defaultHook: onInvalid }).openapi(get, async (c) => {
    const { accountId } = c.get('apiKey');
    const { id } = c.req.valid('param');
    const wait = preferredWait(c.req.header('prefer'));
    const ifNoneMatch = c.req.header('if-none-match');
    let found = await jobs.find(accountId, id);
    if (found.ok && wait !== undefined) {
      const until = (job: JobRecord) => isNews(job, ifNoneMatch);
      const options = { known: found.value, until, timeoutMs: wait * 1000, signal: c.req.raw.signal };
      const job = await watch.wait(found.value, options);
      // Removed while we waited: then it is what it is for anybody who comes now.
      found = job === undefined ? await jobs.find(accountId, id) : { ok: true, value: job };
    }
    if (!found.ok) return problem(c, found);
    const job = found.value;
    const { body, etag } = renderJob(job);
    const headers = {
      etag,
      'cache-control': 'private, no-cache',
      ...(!isFinal(job.status) && { 'retry-after': String(polls.after(job, clock.now())) }),
      ...(wait !== undefined && { 'preference-applied': `wait=${wait}` }),
    };
    if (isNoneMatch(ifNoneMatch, etag)) return c.body(null, 304, headers);
    return c.body(body, 200, { ...headers, 'content-type': 'application/json' });
  });
}
