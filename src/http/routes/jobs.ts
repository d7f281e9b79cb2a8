import { createRoute, OpenAPIHono, z } from '@hono/zod-openapi';
import type { DeliveryQueries } from '#callbacks/delivery-queries.ts';
import type { CurrentRun, JobQueries, RunRecord } from '#jobs/read/job-queries.ts';
import { jobJson } from '#jobs/read/job-view.ts';
import type { Canceler } from '#jobs/run/cancel.ts';
import type { Env } from '../env.ts';
import { jsonText } from '../json-text.ts';
import { problem } from '../problem.ts';
import { idSchema, json, problems } from '../schemas/common.ts';
import { deliverySchema } from '../schemas/callback.ts';
import { jobSchema, runSchema } from '../schemas/job.ts';
import { onInvalid } from '../validation.ts';
import { viewDelivery } from '../views.ts';

export interface JobRoutesDeps {
  readonly jobs: JobQueries;
  readonly deliveries: DeliveryQueries;
  readonly publicUrl: string;
  readonly canceler: Canceler;
}

const byId = { params: z.object({ id: idSchema('job') }) };

export function jobRoutes(deps: JobRoutesDeps) {
  const { canceler, jobs, deliveries, publicUrl } = deps;
  const runs = createRoute({
    method: 'get',
    path: '/v1/jobs/{id}/runs',
    summary: 'The tries at executing a job',
    request: byId,
    responses: { 200: json(z.object({ items: z.array(runSchema) }), 'In their order.'), ...problems(400, 404, 410) },
  });
  const listDeliveries = createRoute({
    method: 'get',
    path: '/v1/jobs/{id}/deliveries',
    summary: 'The callbacks of a job',
    request: byId,
    responses: { 200: json(z.object({ items: z.array(deliverySchema) }), 'Oldest first.'), ...problems(400, 404, 410) },
  });

  const cancel = createRoute({
    method: 'post',
    path: '/v1/jobs/{id}/cancel',
    summary: 'Call a job off',
    description:
      'One that waits is canceled at once; one that runs is told to stop, and is canceled within a grace. One that is over ' +
      'stays as it is. May be asked again.',
    request: byId,
    responses: { 200: json(jobSchema, 'The job as it is then.'), ...problems(400, 404, 410) },
  });

  return new OpenAPIHono<Env>({ defaultHook: onInvalid })
    .openapi(runs, async (c) => {
      const found = await jobs.runs(c.get('apiKey').accountId, c.req.valid('param').id);
      if (!found.ok) return problem(c, found);
      const { ended, current } = found.value;
      return c.json({ items: [...ended.map(viewRun), ...(current ? [viewCurrentRun(current)] : [])] }, 200);
    })
    .openapi(cancel, async (c) => {
      const canceled = await canceler.cancel(c.get('apiKey').accountId, c.req.valid('param').id);
      return canceled.ok ? jsonText(c, jobJson(canceled.value, publicUrl)) : problem(c, canceled);
    })
    .openapi(listDeliveries, async (c) => {
      const { accountId } = c.get('apiKey');
      const job = await jobs.find(accountId, c.req.valid('param').id);
      if (!job.ok) return problem(c, job);
      const items = await deliveries.listOfJob(accountId, job.value.id);
      return c.json({ items: items.map(viewDelivery) }, 200);
    });
}

function viewRun(run: RunRecord) {
  return {
    id: run.id,
    number: run.number,
    status: run.status,
    worker_id: run.workerId,
    started_at: run.startedAt,
    finished_at: run.finishedAt,
    duration_ms: run.finishedAt.getTime() - run.startedAt.getTime(),
    error: run.error,
  };
}

function viewCurrentRun(run: CurrentRun) {
  return {
    id: run.id,
    number: run.number,
    status: 'in_progress' as const,
    worker_id: run.workerId,
    started_at: run.startedAt,
    finished_at: null,
    duration_ms: null,
    error: null,
  };
}
