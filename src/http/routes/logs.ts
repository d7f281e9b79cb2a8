import { createRoute, OpenAPIHono, z } from '@hono/zod-openapi';
import type { JobLogs, LogRecord } from '#jobs/read/job-log.ts';
import type { Env } from '../env.ts';
import { jsonText } from '../json-text.ts';
import { problem } from '../problem.ts';
import { idSchema, json, problems } from '../schemas/common.ts';
import { logQuery, logSchema } from '../schemas/log.ts';
import { onInvalid } from '../validation.ts';

export interface LogRoutesDeps {
  readonly logs: JobLogs;
}

export function logRoutes({ logs }: LogRoutesDeps) {
  const read = createRoute({
    method: 'get',
    path: '/v1/jobs/{id}/logs',
    summary: 'What the work has said',
    description:
      'In order, from `after` on. Asking again with the `next_after` of the last answer gives what was said since: no line ' +
      'is missed, none comes twice. Once the job shows as done, every line can be read.',
    request: { params: z.object({ id: idSchema('job') }), query: logQuery },
    responses: { 200: json(logSchema, 'Lines, oldest first.'), ...problems(400, 404, 410) },
  });
  return new OpenAPIHono<Env>({ defaultHook: onInvalid }).openapi(read, async (c) => {
    const query = c.req.valid('query');
    const lines = await logs.read(c.get('apiKey').accountId, c.req.valid('param').id, query);
    if (!lines.ok) return problem(c, lines);
    const nextAfter = lines.value.at(-1)?.position ?? query.after;
    return jsonText(c, `{"items":[${lines.value.map(lineJson).join(',')}],"next_after":${nextAfter}}`);
  });
}

function lineJson({ position, runId, level, message, fieldsText, createdAt }: LogRecord): string {
  const view = JSON.stringify({ position, run_id: runId, level, message, created_at: createdAt });
  return fieldsText === null ? view : `${view.slice(0, -1)},"fields":${fieldsText}}`;
}
