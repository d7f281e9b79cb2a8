import { createRoute, OpenAPIHono, z } from '@hono/zod-openapi';
import type { Context } from 'hono';
import type { Clock } from '#domain/clock.ts';
import { memberText } from '#domain/json-text.ts';
import type { Result } from '#domain/problem.ts';
import { jobJson } from '#jobs/read/job-view.ts';
import type { Admission } from '#jobs/submit/admission.ts';
import type { PollEstimate } from '#jobs/wait/poll-estimate.ts';
import type { JobMembers } from '#jobs/schedule/schedule-request.ts';
import type { SavedSchedule, Schedules } from '#jobs/schedule/schedules.ts';
import type { Env } from '../env.ts';
import { jsonText } from '../json-text.ts';
import { jsonBody } from '../middleware/json-body.ts';
import { problem } from '../problem.ts';
import { tellLimits } from '../rate-limit.ts';
import { scheduleJson, viewListedSchedule } from '../schedule-view.ts';
import { encodeCursor, idSchema, json, pageOf, pageQuery, problems } from '../schemas/common.ts';
import { jobSchema } from '../schemas/job.ts';
import { newScheduleSchema, scheduleChangesSchema, scheduleSchema } from '../schemas/schedule.ts';
import { onInvalid } from '../validation.ts';

export interface ScheduleRoutesDeps {
  readonly clock: Clock;
  readonly schedules: Schedules;
  readonly admission: Pick<Admission, 'rateLimit'>;
  readonly polls: Pick<PollEstimate, 'after'>;
  readonly publicUrl: string;
  readonly maxBodyBytes: number;
}

const byId = { params: z.object({ id: idSchema('sch') }) };
const location = z.object({ Location: z.string() });

/** Jobs by the clock. */
export function scheduleRoutes(deps: ScheduleRoutesDeps) {
  const { clock, schedules, admission, polls, publicUrl } = deps;
  const { create, list, get, change, remove, pause, resume, trigger } = routesFor(deps.maxBodyBytes);
  const answer = (c: Context<Env>, saved: Result<SavedSchedule>, status: 200 | 201 = 200) => {
    if (!saved.ok) return problem(c, saved);
    const { schedule, signingSecret } = saved.value;
    if (status === 201) c.header('location', `/v1/schedules/${schedule.id}`);
    return jsonText(c, scheduleJson(schedule, schedules.upcoming(schedule), signingSecret), status);
  };

  return new OpenAPIHono<Env>({ defaultHook: onInvalid })
    .openapi(create, async (c) => {
      const request = await withInputText(c, c.req.valid('json'));
      return answer(c, await schedules.create(c.get('apiKey').accountId, request, clock.now()), 201);
    })
    .openapi(list, async (c) => {
      const { limit, cursor } = c.req.valid('query');
      const page = await schedules.list(c.get('apiKey').accountId, { after: cursor, limit });
      const last = page.length === limit ? page.at(-1) : undefined;
      const nextCursor = last === undefined ? null : encodeCursor(last.id);
      return c.json({ items: page.map(viewListedSchedule), next_cursor: nextCursor }, 200);
    })
    .openapi(get, async (c) => {
      const found = await schedules.find(c.get('apiKey').accountId, c.req.valid('param').id);
      return answer(c, found.ok ? { ok: true, value: { schedule: found.value, signingSecret: undefined } } : found);
    })
    .openapi(change, async (c) => {
      const { accountId } = c.get('apiKey');
      const changes = await withInputText(c, c.req.valid('json'));
      return answer(c, await schedules.change(accountId, c.req.valid('param').id, changes, clock.now()));
    })
    .openapi(remove, async (c) => {
      const removed = await schedules.remove(c.get('apiKey').accountId, c.req.valid('param').id);
      return removed.ok ? c.body(null, 204) : problem(c, removed);
    })
    .openapi(pause, async (c) => {
      return answer(c, await schedules.pause(c.get('apiKey').accountId, c.req.valid('param').id, clock.now()));
    })
    .openapi(resume, async (c) => {
      return answer(c, await schedules.resume(c.get('apiKey').accountId, c.req.valid('param').id, clock.now()));
    })
    .openapi(trigger, async (c) => {
      const now = clock.now();
      const { accountId } = c.get('apiKey');
      const triggered = await schedules.trigger(accountId, c.req.valid('param').id, now);
      tellLimits(c, admission.rateLimit(accountId));
      if (!triggered.ok) return problem(c, triggered);
      c.header('location', `/v1/jobs/${triggered.value.id}`);
      c.header('retry-after', String(polls.after(triggered.value, now)));
      return jsonText(c, jobJson(triggered.value, publicUrl), 202);
    });
}

/** The job's input as it was sent, beside what was made of it. */
async function withInputText<Request extends { readonly job?: JobMembers | undefined }>(
  c: Context<Env>,
  request: Request,
): Promise<Request> {
  if (request.job?.input === undefined) return request;
  const inputText = memberText(memberText(await c.req.text(), 'job') ?? '', 'input');
  return { ...request, job: { ...request.job, inputText } };
}

function routesFor(maxBodyBytes: number) {
  const schedule = (description: string) => json(scheduleSchema, description);
  const path = '/v1/schedules/{id}';
  const body = <T extends z.ZodType>(schema: T) => ({ required: true, content: { 'application/json': { schema } } });
  return {
    create: createRoute({
      method: 'post',
      path: '/v1/schedules',
      summary: 'Submit a job by the clock',
      description: 'The job is checked as a submission is, now and at each of its times.',
      middleware: [jsonBody(maxBodyBytes)] as const,
      request: { body: body(newScheduleSchema) },
      responses: {
        201: { ...schedule('Made. A new callback URL’s signing secret is shown this once.'), headers: location },
        ...problems(400, 404, 409, 413, 415, 422),
      },
    }),
    list: createRoute({
      method: 'get',
      path: '/v1/schedules',
      summary: 'List schedules, oldest first',
      request: { query: pageQuery('sch') },
      responses: { 200: json(pageOf(scheduleSchema), 'A page of schedules.'), ...problems(400) },
    }),
    get: createRoute({
      method: 'get',
      path,
      summary: 'One schedule, and its next times',
      request: byId,
      responses: { 200: schedule('The schedule as it is now.'), ...problems(400, 404) },
    }),
    change: createRoute({
      method: 'patch',
      path,
      summary: 'Change a schedule',
      description: 'What is left out stays. A new expression or time zone counts from now.',
      middleware: [jsonBody(maxBodyBytes)] as const,
      request: { ...byId, body: body(scheduleChangesSchema) },
      responses: { 200: schedule('As it is now.'), ...problems(400, 404, 413, 415, 422) },
    }),
    remove: createRoute({
      method: 'delete',
      path,
      summary: 'Delete a schedule',
      description: 'The jobs that it has submitted stay.',
      request: byId,
      responses: { 204: { description: 'Gone.' }, ...problems(400, 404) },
    }),
    pause: createRoute({
      method: 'post',
      path: `${path}/pause`,
      summary: 'Let a schedule rest',
      description: 'May be asked again.',
      request: byId,
      responses: { 200: schedule('Paused.'), ...problems(400, 404) },
    }),
    resume: createRoute({
      method: 'post',
      path: `${path}/resume`,
      summary: 'Let a schedule go on',
      description:
        'With its first time after now: those that passed meanwhile are not made up for. May be asked again.',
      request: byId,
      responses: { 200: schedule('Not paused.'), ...problems(400, 404, 422) },
    }),
    trigger: createRoute({
      method: 'post',
      path: `${path}/trigger`,
      summary: 'Submit a job of a schedule now',
      description: 'Beside its times: the next one stays. Works while it is paused, and whatever else of it runs.',
      request: byId,
      responses: {
        202: {
          ...json(jobSchema, 'Accepted, as any submission.'),
          headers: location.extend({ 'Retry-After': z.string().openapi({ description: 'Seconds, estimated.' }) }),
        },
        ...problems(400, 404, 413, 422, 429),
      },
    }),
  };
}
