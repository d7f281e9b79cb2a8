import { createRoute, OpenAPIHono, z } from '@hono/zod-openapi';
import type { DeliveryQueries } from '#callbacks/delivery-queries.ts';
import type { Endpoints } from '#callbacks/endpoints.ts';
import type { Env } from '../env.ts';
import { jsonBody } from '../middleware/json-body.ts';
import { problem } from '../problem.ts';
import {
  attemptSchema,
  deliverySchema,
  endpointSchema,
  newEndpointSchema,
  rotatedSecretSchema,
} from '../schemas/callback.ts';
import { encodeCursor, idSchema, json, pageOf, pageQuery, problems } from '../schemas/common.ts';
import { onInvalid } from '../validation.ts';
import { viewAttempt, viewDelivery, viewEndpoint } from '../views.ts';

const endpointById = { params: z.object({ id: idSchema('ep') }) };
const deliveryById = { params: z.object({ id: idSchema('dlv') }) };

export function endpointRoutes(deps: { endpoints: Endpoints; maxBodyBytes: number }) {
  const { endpoints } = deps;
  const register = createRoute({
    method: 'post',
    path: '/v1/endpoints',
    summary: 'Register a callback URL',
    description:
      'An account has one endpoint a URL: registering it again answers 200 with the same one, without its secret.',
    middleware: [jsonBody(deps.maxBodyBytes)] as const,
    request: { body: { required: true, content: { 'application/json': { schema: newEndpointSchema } } } },
    responses: {
      200: json(endpointSchema, 'It was there already.'),
      201: json(endpointSchema, 'Made; its signing secret is shown this once.'),
      ...problems(400, 413, 415, 422),
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
  const rotate = createRoute({
    method: 'post',
    path: '/v1/endpoints/{id}/rotate-secret',
    summary: 'Make a new signing secret',
    description: 'The old one signs beside it for 24 hours.',
    request: endpointById,
    responses: { 200: json(rotatedSecretSchema, 'The new secret, shown this once.'), ...problems(400, 404) },
  });

  return new OpenAPIHono<Env>({ defaultHook: onInvalid })
    .openapi(register, async (c) => {
      const registered = await endpoints.register(c.get('apiKey').accountId, c.req.valid('json').url);
      if (!registered.ok) return problem(c, registered);
      const { endpoint, signingSecret } = registered.value;
      const view = { ...viewEndpoint(endpoint), ...(signingSecret && { signing_secret: signingSecret }) };
      c.header('location', `/v1/endpoints/${endpoint.id}`);
      return c.json(view, signingSecret === undefined ? 200 : 201);
    })
    .openapi(list, async (c) => {
      const { limit, cursor } = c.req.valid('query');
      const page = await endpoints.list(c.get('apiKey').accountId, { after: cursor, limit });
      const last = page.length === limit ? page.at(-1) : undefined;
      const nextCursor = last === undefined ? null : encodeCursor(last.id);
      return c.json({ items: page.map(viewEndpoint), next_cursor: nextCursor }, 200);
    })
    .openapi(get, async (c) => {
      const found = await endpoints.find(c.get('apiKey').accountId, c.req.valid('param').id);
      return found.ok ? c.json(viewEndpoint(found.value), 200) : problem(c, found);
    })
    .openapi(rotate, async (c) => {
      const rotated = await endpoints.rotateSecret(c.get('apiKey').accountId, c.req.valid('param').id);
      if (!rotated.ok) return problem(c, rotated);
      const { signingSecret, graceEndsAt } = rotated.value;
      return c.json({ signing_secret: signingSecret, old_secrets_sign_until: graceEndsAt }, 200);
    });
}

export function deliveryRoutes(deliveries: DeliveryQueries) {
  const get = createRoute({
    method: 'get',
    path: '/v1/deliveries/{id}',
    summary: 'One delivery',
    request: deliveryById,
    responses: { 200: json(deliverySchema, 'The delivery as it is now.'), ...problems(400, 404) },
  });
  const attempts = createRoute({
    method: 'get',
    path: '/v1/deliveries/{id}/attempts',
    summary: 'Every request made for a delivery',
    request: deliveryById,
    responses: { 200: json(z.object({ items: z.array(attemptSchema) }), 'In their order.'), ...problems(400, 404) },
  });

  return new OpenAPIHono<Env>({ defaultHook: onInvalid })
    .openapi(get, async (c) => {
      const found = await deliveries.find(c.get('apiKey').accountId, c.req.valid('param').id);
      return found.ok ? c.json(viewDelivery(found.value), 200) : problem(c, found);
    })
    .openapi(attempts, async (c) => {
      const found = await deliveries.listAttempts(c.get('apiKey').accountId, c.req.valid('param').id);
      return found.ok ? c.json({ items: found.value.map(viewAttempt) }, 200) : problem(c, found);
    });
}
