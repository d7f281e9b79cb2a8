import { createRoute, OpenAPIHono, z } from '@hono/zod-openapi';
import type { MiddlewareHandler } from 'hono';
import type { Completions } from '#jobs/backend/completions.ts';
import type { Env } from '../env.ts';
import { incomingResult, readAway } from '../incoming-result.ts';
import { receivedMember } from '../json-text.ts';
import { jsonBody } from '../middleware/json-body.ts';
import { problem } from '../problem.ts';
import { toFailure, toProgress } from '../reports.ts';
import { problems } from '../schemas/common.ts';
import { anyBody, completionSchema, progressSchema } from '../schemas/worker.ts';
import { onInvalid } from '../validation.ts';
import { OUTPUT_FACTOR } from './worker-runs.ts';

export interface CompletionRoutesDeps {
  readonly completions: Completions;
  readonly maxBodyBytes: number;
  readonly maxResultBytes: number;
}

const params = z.object({ token: z.string().openapi({ description: 'Was passed along with the call.' }) });
const responses = { 204: { description: 'Done.' }, ...problems(400, 404, 409, 413, 415, 422) };

/** Where back ends tell how their runs end. No key is needed: the token in the path is the authority. */
export function completionRoutes({ completions, maxBodyBytes, maxResultBytes }: CompletionRoutesDeps) {
  const app = new OpenAPIHono<Env>({ defaultHook: onInvalid });
  const { reports } = completions;
  const withToken = findCompletion(completions);

  const complete = createRoute({
    method: 'post',
    path: '/v1/completions/{token}',
    summary: 'Tell the end of a run',
    security: [],
    middleware: [withToken, jsonBody(maxBodyBytes * OUTPUT_FACTOR)] as const,
    request: { params, body: { required: true, content: { 'application/json': { schema: completionSchema } } } },
    responses,
  });
  app.openapi(complete, async (c) => {
    const told = c.req.valid('json');
    const run = c.get('completion');
    const ended =
      told.status === 'succeeded'
        ? await reports.complete(run, await receivedMember(c, 'output', told.output), c.req.raw.signal)
        : await reports.fail(run, toFailure(told));
    return ended.ok ? c.body(null, 204) : problem(c, ended);
  });

  const progress = createRoute({
    method: 'post',
    path: '/v1/completions/{token}/progress',
    summary: 'Show how far a run is',
    security: [],
    middleware: [withToken, jsonBody(maxBodyBytes)] as const,
    request: { params, body: { required: true, content: { 'application/json': { schema: progressSchema } } } },
    responses,
  });
  app.openapi(progress, async (c) => {
    const shown = await reports.progress(c.get('completion'), toProgress(c.req.valid('json')));
    return shown.ok ? c.body(null, 204) : problem(c, shown);
  });

  const result = createRoute({
    method: 'put',
    path: '/v1/completions/{token}/result',
    summary: 'End a run well, with a result of any size and content type',
    description: 'As the PUT of a remote worker.',
    security: [],
    middleware: [withToken] as const,
    request: { params, body: anyBody },
    responses,
  });
  app.openapi(result, async (c) => {
    const { raw } = c.req;
    const incoming = incomingResult(raw);
    const stored = incoming.ok ? await reports.upload(c.get('completion'), incoming.value, raw.signal) : incoming;
    await readAway(c, stored, maxResultBytes);
    return stored.ok ? c.body(null, 204) : problem(c, stored);
  });
  return app;
}

/** Before anything of the body is read. */
function findCompletion(completions: Completions): MiddlewareHandler<Env> {
  return async function findByToken(c, next) {
    const found = await completions.find(c.req.param('token') ?? '');
    if (!found.ok) return problem(c, found);
    c.set('completion', found.value);
    return next();
  };
}
