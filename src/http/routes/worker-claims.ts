import { createRoute, OpenAPIHono } from '@hono/zod-openapi';
import { runHandle } from '#domain/run-handle.ts';
import type { ClaimedJob, RemoteWorkers } from '#jobs/remote/remote-workers.ts';
import type { Env } from '../env.ts';
import { jsonBody } from '../middleware/json-body.ts';
import { jsonText } from '../json-text.ts';
import { problem } from '../problem.ts';
import { json, problems } from '../schemas/common.ts';
import { claimedSchema, claimSchema } from '../schemas/worker.ts';
import { onInvalid } from '../validation.ts';

export interface ClaimRoutesDeps {
  readonly remoteWorkers: RemoteWorkers;
  readonly maxBodyBytes: number;
}

export function claimRoutes({ remoteWorkers, maxBodyBytes }: ClaimRoutesDeps) {
  const claim = createRoute({
    method: 'post',
    path: '/v1/worker/claims',
    summary: 'Claim runs',
    description: 'Waits up to `wait_s` when there is none. What is claimed for a client that hung up is given back.',
    middleware: [jsonBody(maxBodyBytes)] as const,
    request: { body: { required: true, content: { 'application/json': { schema: claimSchema } } } },
    responses: { 200: json(claimedSchema, 'The runs; maybe none.'), ...problems(400, 404, 413, 415, 422) },
  });

  return new OpenAPIHono<Env>({ defaultHook: onInvalid }).openapi(claim, async (c) => {
    const { wait_s: waitS, lease_s: leaseS, ...wanted } = c.req.valid('json');
    const request = { ...wanted, waitMs: waitS * 1000, leaseMs: leaseS * 1000 };
    const claimed = await remoteWorkers.claim(request, c.req.raw.signal);
    if (!claimed.ok) return problem(c, claimed);
    return jsonText(c, `{"runs":[${claimed.value.map((job) => claimedJson(job, leaseS)).join(',')}]}`);
  });
}

/** With the input as it was submitted. */
function claimedJson(job: ClaimedJob, leaseS: number): string {
  const { accountId, id: jobId, runId } = job;
  const view = {
    handle: runHandle({ accountId, jobId, runId }),
    run_id: runId,
    number: job.runCount,
    job: {
      id: jobId,
      type: job.type,
      account_id: accountId,
      metadata: job.metadata,
      priority: job.priority,
      created_at: job.createdAt,
    },
    timeout_ms: job.runTimeoutMs,
    lease_expires_at: job.leaseExpiresAt,
    deadline_at: job.deadlineAt,
    heartbeat_after_s: heartbeatAfter(leaseS),
  };
  return `${JSON.stringify(view).slice(0, -1)},"input":${job.inputText}}`;
}

/** Early enough for two more to be lost. */
export function heartbeatAfter(leaseS: number): number {
  return Math.round(leaseS * 333) / 1000;
}
