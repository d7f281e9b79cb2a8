import { createRoute, OpenAPIHono, z } from '@hono/zod-openapi';
import { refuse } from '#domain/problem.ts';
import { inputJsonSchema, type JobType, type JobTypes } from '#jobs/type/job-types.ts';
import type { Env } from '../env.ts';
import { problem } from '../problem.ts';
import { json, problems, problemSchema } from '../schemas/common.ts';
import { jobTypeSchema } from '../schemas/job.ts';
import { onInvalid } from '../validation.ts';

export function jobTypeRoutes(types: JobTypes) {
  const list = createRoute({
    method: 'get',
    path: '/v1/job-types',
    summary: 'What can be submitted',
    responses: { 200: json(z.object({ items: z.array(jobTypeSchema) }), 'By name.'), ...problems() },
  });
  // The types do not change while the process runs.
  const items = types.list().map(viewJobType);
  return new OpenAPIHono<Env>({ defaultHook: onInvalid }).openapi(list, (c) => c.json({ items }, 200));
}

function viewJobType(type: JobType) {
  const inputSchema = inputJsonSchema(type);
  return {
    type: type.type,
    ...(type.description !== undefined && { description: type.description }),
    way: type.way,
    timeout_ms: type.timeoutMs,
    max_runs: type.retryPolicy.maxRuns,
    ...(inputSchema && { input_schema: inputSchema }),
  };
}

const status = z.object({ status: z.literal('ok') });

/** For load balancers and orchestrators; no key needed. */
export function healthRoutes(isReady: () => Promise<boolean>) {
  const healthz = createRoute({
    method: 'get',
    path: '/healthz',
    summary: 'The process is alive',
    security: [],
    responses: { 200: json(status, 'Alive.') },
  });
  const readyz = createRoute({
    method: 'get',
    path: '/readyz',
    summary: 'The process can do its work',
    security: [],
    responses: {
      200: json(status, 'The database answers.'),
      503: { description: 'It does not.', content: { 'application/problem+json': { schema: problemSchema } } },
    },
  });
  return new OpenAPIHono<Env>({ defaultHook: onInvalid })
    .openapi(healthz, (c) => c.json({ status: 'ok' as const }, 200))
    .openapi(readyz, async (c) => {
      if (await isReady()) return c.json({ status: 'ok' as const }, 200);
      return problem(c, refuse('database_unavailable', 'The database does not answer.', { retryAfter: 2 }));
    });
}
