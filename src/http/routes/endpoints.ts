import type { Clock } from '#domain/clock.ts';
import { createRoute, OpenAPIHono, z } from '@hono/zod-openapi';
import type { Endpoints } from '#callbacks/endpoints.ts';
import type { Pings } from '#callbacks/ping.ts';
import { RECOVERABLE, RECOVERY_JOB, type Redelivery } from '#callbacks/redelivery.ts';
import type { EndpointSettings, Registration } from '#callbacks/registration.ts';
import type { Submitter } from '#jobs/submit/submit.ts';
import type { Env } from '../env.ts';
import { jsonBody } from '../middleware/json-body.ts';
import { problem } from '../problem.ts';
import { attemptSchema } from '../schemas/callback.ts';
import { encodeCursor, idSchema, json, pageOf, pageQuery, problems } from '../schemas/common.ts';
import { jobSchema } from '../schemas/job.ts';
import { endpointChangesSchema, endpointSchema, newEndpointSchema, recoverySchema } from '../schemas/endpoint.ts';
import { onInvalid } from '../validation.ts';
import { viewAttempt, viewEndpoint, viewSaved } from '../views.ts';

const endpointById = { params: z.object({ id: idSchema('ep') }) };

export interface EndpointRoutesDeps {
  readonly clock: Clock;
  readonly endpoints: Endpoints;
  readonly registration: Registration;
  readonly pings: Pings;
  readonly redelivery: Pick<Redelivery, 'checkRecovery'>;
  readonly submitter: Submitter;
  readonly maxBodyBytes: number;
}

export function endpointRoutes(deps: EndpointRoutesDeps) {
  const { endpoints, registration, pings, redelivery, submitter } = deps;
  const register = createRoute({
    method: 'post',
    path: '/v1/endpoints',
    summary: 'Register a callback URL',
    description:
      'An account has one endpoint a URL: registering it again answers 200 with the same one, without its secret. Under the ' +
      'callback policy `verified` it is sent a challenge at once, which it has to echo before anything else is sent.',
    middleware: [jsonBody(deps.maxBodyBytes)] as const,
    request: { body: { required: true, content: { 'application/json': { schema: newEndpointSchema } } } },
    responses: {
      200: json(endpointSchema, 'It was there already.'),
      201: json(endpointSchema, 'Made; its signing secret is shown this once.'),
      ...problems(400, 404, 409, 413, 415, 422), // 404: deleted while it was challenged
    },
  });
  const list = createRoute({
    method: 'get',
    path: '/v1/endpoints',
    summary: 'List endpoints, oldest first',
    request: { query: pageQuery('ep') },
    responses: { 200: json(pageOf(endpointSchema), 'A page of endpoints.'), ...problems(400) },
  });
  const get = createRoute({
    method: 'get',
    path: '/v1/endpoints/{id}',
    summary: 'One endpoint',
    request: endpointById,
    responses: { 200: json(endpointSchema, 'The endpoint.'), ...problems(400, 404) },
  });

  const path = '/v1/endpoints/{id}';
  const endpoint = (description: string) => json(endpointSchema, description);
  const change = createRoute({
    method: 'patch',
    path,
    summary: 'Change an endpoint',
    description:
      'Changes what is given, and nothing when any of it is wrong. Null leaves a limit to the configuration.',
    middleware: [jsonBody(deps.maxBodyBytes)] as const,
    request: {
      ...endpointById,
      body: { required: true, content: { 'application/json': { schema: endpointChangesSchema } } },
    },
    responses: { 200: endpoint('The endpoint as it is now.'), ...problems(400, 404, 409, 413, 415, 422) },
  });
  const remove = createRoute({
    method: 'delete',
    path,
    summary: 'Delete an endpoint',
    description: 'What is for it ends as `discarded`, on record.',
    request: endpointById,
    responses: { 204: { description: 'Gone.' }, ...problems(400, 404) },
  });
  const verify = createRoute({
    method: 'post',
    path: `${path}/verify`,
    summary: 'Have an endpoint prove whose it is',
    description:
      'Sends an unverified endpoint an `endpoint.challenge`, which it has to echo: the challenge, or `{"challenge": "..."}`, ' +
      'and nothing else. `verification` is the attempt. Of any other endpoint nothing is asked.',
    request: endpointById,
    responses: { 200: endpoint('The endpoint as it is now.'), ...problems(400, 404) },
  });
  const pause = createRoute({
    method: 'post',
    path: `${path}/pause`,
    summary: 'Send nothing more for now',
    description: 'What is for it waits. May be asked again.',
    request: endpointById,
    responses: { 200: endpoint('Paused.'), ...problems(400, 404, 409) },
  });
  const enable = createRoute({
    method: 'post',
    path: `${path}/enable`,
    summary: 'Take an endpoint up again',
    description:
      'Paused or disabled, as if it had never failed. What waited for a paused one is sent; what was held for a disabled ' +
      'one waits for `recover`. May be asked again.',
    request: endpointById,
    responses: { 200: endpoint('Enabled.'), ...problems(400, 404, 409) },
  });
  const ping = createRoute({
    method: 'post',
    path: `${path}/ping`,
    summary: 'Send a signed test event now',
    description: 'Also to a paused or disabled endpoint. Answers with the attempt, the response in it.',
    request: endpointById,
    responses: { 200: json(attemptSchema, 'The attempt that was made.'), ...problems(400, 404, 409) },
  });
  const recover = createRoute({
    method: 'post',
    path: `${path}/recover`,
    summary: 'Send again what it has missed',
    description:
      'What was held or exhausted in that time, each with a fresh schedule, in order; as a job, with progress and cancel. With ' +
      '`endpoint_id` another endpoint gets the events, also those of an endpoint that is deleted.',
    middleware: [jsonBody(deps.maxBodyBytes)] as const,
    request: { ...endpointById, body: { required: true, content: { 'application/json': { schema: recoverySchema } } } },
    responses: { 202: json(jobSchema, 'The job that does it.'), ...problems(400, 404, 409, 413, 415, 422, 429) },
  });

  return new OpenAPIHono<Env>({ defaultHook: onInvalid })
    .openapi(register, async (c) => {
      const { url, scheme, signing_secret: secret, ...settings } = c.req.valid('json');
      const registered = await registration.register(c.get('apiKey').accountId, url, toSettings(settings), {
        scheme,
        secret,
      });
      if (!registered.ok) return problem(c, registered);
      const { created, signingSecret, ...saved } = registered.value;
      const view = { ...viewSaved(saved), ...(signingSecret && { signing_secret: signingSecret }) };
      c.header('location', `/v1/endpoints/${saved.endpoint.id}`);
      return c.json(view, created ? 201 : 200);
    })
    .openapi(list, async (c) => {
      const { limit, cursor } = c.req.valid('query');
      const page = await endpoints.list(c.get('apiKey').accountId, { ...(cursor && { after: cursor }), limit });
      const last = page.length === limit ? page.at(-1) : undefined;
      const nextCursor = last === undefined ? null : encodeCursor(last.id);
      return c.json({ items: page.map(viewEndpoint), next_cursor: nextCursor }, 200);
    })
    .openapi(get, async (c) => {
      const found = await endpoints.find(c.get('apiKey').accountId, c.req.valid('param').id);
      return found.ok ? c.json(viewEndpoint(found.value), 200) : problem(c, found);
    })
    .openapi(change, async (c) => {
      const { accountId } = c.get('apiKey');
      const changed = await registration.change(accountId, c.req.valid('param').id, toSettings(c.req.valid('json')));
      return changed.ok ? c.json(viewSaved(changed.value), 200) : problem(c, changed);
    })
    .openapi(remove, async (c) => {
      const removed = await endpoints.remove(c.get('apiKey').accountId, c.req.valid('param').id);
      return removed.ok ? c.body(null, 204) : problem(c, removed);
    })
    .openapi(verify, async (c) => {
      const verified = await registration.verify(c.get('apiKey').accountId, c.req.valid('param').id);
      return verified.ok ? c.json(viewSaved(verified.value), 200) : problem(c, verified);
    })
    .openapi(pause, async (c) => {
      const paused = await endpoints.pause(c.get('apiKey').accountId, c.req.valid('param').id);
      return paused.ok ? c.json(viewEndpoint(paused.value), 200) : problem(c, paused);
    })
    .openapi(enable, async (c) => {
      const enabled = await endpoints.enable(c.get('apiKey').accountId, c.req.valid('param').id);
      return enabled.ok ? c.json(viewEndpoint(enabled.value), 200) : problem(c, enabled);
    })
    .openapi(ping, async (c) => {
      const pinged = await pings.ping(c.get('apiKey').accountId, c.req.valid('param').id);
      return pinged.ok ? c.json(viewAttempt(pinged.value), 200) : problem(c, pinged);
    })
    .openapi(recover, async (c) => {
      const { accountId } = c.get('apiKey');
      const { id } = c.req.valid('param');
      const {
        endpoint_id: to = null,
        until = deps.clock.now(),
        statuses = RECOVERABLE,
        ...wanted
      } = c.req.valid('json');
      const checked = await redelivery.checkRecovery(accountId, { endpointId: id, to });
      if (!checked.ok) return problem(c, checked);
      const input = { endpoint_id: id, to_endpoint_id: to, until, statuses, ...wanted };
      const submission = { type: RECOVERY_JOB, input: JSON.parse(JSON.stringify(input)) as unknown };
      const accepted = await submitter.submit(accountId, submission, undefined);
      if (!accepted.ok) return problem(c, accepted);
      const { id: jobId, body } = accepted.value;
      const headers = { 'content-type': 'application/json', location: `/v1/jobs/${jobId}` };
      return c.body(body, 202, headers) as never;
    });
}

function toSettings(given: Partial<z.infer<typeof endpointChangesSchema>>): EndpointSettings {
  const {
    event_types: eventTypes,
    timeout_ms: timeoutMs,
    rate_per_second: ratePerSecond,
    retry_schedule_ms: retrySchedule,
    ...same
  } = given;
  const changes = { ...same, eventTypes, timeoutMs, ratePerSecond, retrySchedule };
  return Object.fromEntries(Object.entries(changes).filter(([, value]) => value !== undefined));
}
