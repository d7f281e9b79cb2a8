import { createRoute, OpenAPIHono, z } from '@hono/zod-openapi';
import type { Context } from 'hono';
import { parseRunHandle, type RunIds } from '#domain/run-handle.ts';
import { elementTexts, memberText } from '#domain/json-text.ts';
import { type Result, refuse } from '#domain/problem.ts';
import type { EndedRun } from '#jobs/remote/run-record.ts';
import type { RunReports } from '#jobs/remote/run-reports.ts';
import type { Env } from '../env.ts';
import { incomingResult, readAway } from '../incoming-result.ts';
import { receivedMember } from '../json-text.ts';
import { jsonBody } from '../middleware/json-body.ts';
import { problem } from '../problem.ts';
import { toFailure, toProgress } from '../reports.ts';
import { json, problems } from '../schemas/common.ts';
import * as schemas from '../schemas/worker.ts';
import { onInvalid } from '../validation.ts';
import { heartbeatAfter } from './worker-claims.ts';

export interface RunRoutesDeps {
  readonly workerReports: RunReports;
  readonly maxBodyBytes: number;
  readonly maxResultBytes: number;
}

/** An output may be this many times as large as a submission; larger ones are uploaded. */
export const OUTPUT_FACTOR = 16;

const PATH = '/v1/worker/runs/{handle}';
const refusals = problems(400, 404, 409, 413, 415, 422);
const nothing = { 204: { description: 'Done.' } };
const ended = { 200: json(schemas.endedRunSchema, 'Done; or it was done before, and this is what became of it.') };

export function runRoutes({ workerReports: reports, maxBodyBytes, maxResultBytes }: RunRoutesDeps) {
  const app = new OpenAPIHono<Env>({ defaultHook: onInvalid });

  const heartbeat = createRoute({
    method: 'post',
    path: `${PATH}/heartbeat`,
    summary: 'Keep a run',
    ...about(schemas.heartbeatSchema, maxBodyBytes),
    responses: { 200: json(schemas.leaseSchema, 'It is yours until then.'), ...refusals },
  });
  app.openapi(heartbeat, async (c) => {
    const { lease_s: leaseS, progress } = c.req.valid('json');
    const lease = await named(c, async (run) => {
      const renewed = await reports.heartbeat(run, leaseS * 1000);
      if (renewed.ok && progress) await reports.progress(run, toProgress(progress));
      return renewed;
    });
    if (!lease.ok) return problem(c, lease);
    const { leaseExpiresAt, cancelRequested } = lease.value;
    const heartbeat_after_s = heartbeatAfter(leaseS);
    return c.json({ lease_expires_at: leaseExpiresAt, cancel_requested: cancelRequested, heartbeat_after_s }, 200);
  });

  const progress = createRoute({
    method: 'post',
    path: `${PATH}/progress`,
    summary: 'Show how far a run is',
    ...about(schemas.progressSchema, maxBodyBytes),
    responses: { ...nothing, ...refusals },
  });
  app.openapi(progress, async (c) => {
    const shown = await named(c, (run) => reports.progress(run, toProgress(c.req.valid('json'))));
    return shown.ok ? c.body(null, 204) : problem(c, shown);
  });

  const log = createRoute({
    method: 'post',
    path: `${PATH}/log`,
    summary: "Add lines to a job's log",
    ...about(schemas.logSchema, maxBodyBytes),
    responses: { 200: json(schemas.keptLinesSchema, 'How many of them were kept.'), ...refusals },
  });
  app.openapi(log, async (c) => {
    const texts = elementTexts(memberText(await c.req.text(), 'lines') ?? '');
    const lines = c.req.valid('json').lines.map((line, index) => {
      return { ...line, fieldsText: memberText(texts[index]!, 'fields') };
    });
    const kept = await named(c, (run) => reports.log(run, lines));
    return kept.ok ? c.json(kept.value, 200) : problem(c, kept);
  });

  return app.route('/', endRoutes({ workerReports: reports, maxBodyBytes, maxResultBytes }));
}

function endRoutes({ workerReports: reports, maxBodyBytes, maxResultBytes }: RunRoutesDeps) {
  const app = new OpenAPIHono<Env>({ defaultHook: onInvalid });

  const complete = createRoute({
    method: 'post',
    path: `${PATH}/complete`,
    summary: 'End a run well, with its output',
    description: 'An output that does not fit the output schema of the job type fails the run, and the job with it.',
    ...about(schemas.outputSchema, maxBodyBytes * OUTPUT_FACTOR),
    responses: { ...ended, ...refusals },
  });
  app.openapi(complete, async (c) => {
    const output = await receivedMember(c, 'output', c.req.valid('json').output);
    return answer(c, await named(c, (run) => reports.complete(run, output, c.req.raw.signal)));
  });

  const fail = createRoute({
    method: 'post',
    path: `${PATH}/fail`,
    summary: 'End a run badly',
    description: 'It is tried again as the retry policy says. After a cancel request the job is canceled instead.',
    ...about(schemas.failureSchema, maxBodyBytes),
    responses: { ...ended, ...refusals },
  });
  app.openapi(fail, async (c) => {
    return answer(c, await named(c, (run) => reports.fail(run, toFailure(c.req.valid('json')))));
  });

  const release = createRoute({
    method: 'post',
    path: `${PATH}/release`,
    summary: 'Give a run back, as if it had not been claimed',
    ...about(z.strictObject({}), maxBodyBytes),
    responses: { ...ended, ...refusals },
  });
  app.openapi(release, async (c) => answer(c, await named(c, (run) => reports.release(run))));

  const result = createRoute({
    method: 'put',
    path: `${PATH}/result`,
    summary: 'End a run well, with a result of any size and content type',
    description:
      'The upload is the completion. Its Content-Type is kept. A sha-256 in Content-Digest or Repr-Digest (RFC 9530) is ' +
      'checked. One that is refused for its size or its digest, or breaks off, leaves the run under way.',
    request: { params: schemas.handleParams, body: schemas.anyBody },
    responses: { ...ended, ...refusals },
  });
  app.openapi(result, async (c) => {
    const { raw } = c.req;
    const incoming = incomingResult(raw);
    const stored = incoming.ok ? await named(c, (run) => reports.upload(run, incoming.value, raw.signal)) : incoming;
    await readAway(c, stored, maxResultBytes);
    return answer(c, stored);
  });
  return app;
}

/** What a POST about a run has besides its path. */
function about<Body extends z.ZodType>(body: Body, maxBytes: number) {
  return {
    middleware: jsonBody(maxBytes),
    request: {
      params: schemas.handleParams,
      body: { required: true, content: { 'application/json': { schema: body } } },
    },
  };
}

async function named<T>(c: Context<Env>, call: (run: RunIds) => Promise<Result<T>>): Promise<Result<T>> {
  const run = parseRunHandle(c.req.param('handle') ?? '');
  return run === undefined ? refuse('run_not_found', 'This is not the handle of a run.') : call(run);
}

function answer(c: Context<Env>, result: Result<EndedRun>) {
  if (!result.ok) return problem(c, result);
  const { runId, runStatus, jobStatus } = result.value;
  return c.json({ run_id: runId, run_status: runStatus, job_status: jobStatus }, 200);
}
