import { createRoute, OpenAPIHono, z } from '@hono/zod-openapi';
import type { DeliveryLists } from '#callbacks/delivery-lists.ts';
import type { DeliveryQueries } from '#callbacks/delivery-queries.ts';
import type { Redelivery } from '#callbacks/redelivery.ts';
import { refuseUnknown } from '#domain/callback-target.ts';
import { parseId } from '#domain/ids.ts';
import type { Env } from '../env.ts';
import { jsonBody } from '../middleware/json-body.ts';
import { problem } from '../problem.ts';
import { attemptSchema, deliverySchema } from '../schemas/callback.ts';
import { idSchema, json, problems } from '../schemas/common.ts';
import { deliveryListQuery, deliveryListSchema } from '../schemas/delivery-list.ts';
import { redeliverySchema } from '../schemas/endpoint.ts';
import { onInvalid } from '../validation.ts';
import { viewAttempt, viewDelivery } from '../views.ts';

const deliveryById = { params: z.object({ id: idSchema('dlv') }) };

export interface DeliveryRoutesDeps {
  readonly deliveries: DeliveryQueries;
  readonly deliveryLists: DeliveryLists;
  readonly redelivery: Pick<Redelivery, 'redeliver'>;
  readonly maxBodyBytes: number;
}

const listDescription = `\
Newest first. A page may hold fewer deliveries than \`limit\`, or none, though more follow: one request looks at a bounded number \
of deliveries, so that it takes the same time however rare what it asks for. Only \`next_cursor: null\` ends the list.

A cursor goes with the filters of the page it came with. \`limit\` may change from page to page.`;

export function deliveryRoutes({ deliveries, deliveryLists, redelivery, maxBodyBytes }: DeliveryRoutesDeps) {
  const list = createRoute({
    method: 'get',
    path: '/v1/deliveries',
    summary: 'List deliveries, newest first',
    description: listDescription,
    request: { query: deliveryListQuery },
    responses: { 200: json(deliveryListSchema, 'A page of deliveries.'), ...problems(400) },
  });
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

  const redeliver = createRoute({
    method: 'post',
    path: '/v1/deliveries/{id}/redeliver',
    summary: 'Send a delivery again',
    description:
      'Whatever became of it: with a fresh schedule, or once. With `endpoint_id` its event goes to another endpoint. The ' +
      'attempts made before stay on record.',
    middleware: [jsonBody(maxBodyBytes)] as const,
    request: {
      ...deliveryById,
      body: { required: true, content: { 'application/json': { schema: redeliverySchema } } },
    },
    responses: {
      202: json(deliverySchema, 'Queued; the delivery as it is now.'),
      ...problems(400, 404, 409, 413, 415, 422),
    },
  });

  return new OpenAPIHono<Env>({ defaultHook: onInvalid })
    .openapi(redeliver, async (c) => {
      const { retry = true, endpoint_id: to } = c.req.valid('json');
      const endpointId = to === undefined ? undefined : parseId('ep', to);
      if (to !== undefined && endpointId === undefined) return problem(c, refuseUnknown(to));
      const { accountId } = c.get('apiKey');
      const sent = await redelivery.redeliver(accountId, c.req.valid('param').id, { retry, endpointId });
      return sent.ok ? c.json(viewDelivery(sent.value), 202) : problem(c, sent);
    })
    .openapi(list, async (c) => {
      const page = await deliveryLists.page(c.get('apiKey').accountId, c.req.valid('query'));
      if (!page.ok) return problem(c, page);
      const { items, nextCursor, hasMore } = page.value;
      return c.json({ items: items.map(viewDelivery), next_cursor: nextCursor, has_more: hasMore }, 200);
    })
    .openapi(get, async (c) => {
      const found = await deliveries.find(c.get('apiKey').accountId, c.req.valid('param').id);
      return found.ok ? c.json(viewDelivery(found.value), 200) : problem(c, found);
    })
    .openapi(attempts, async (c) => {
      const found = await deliveries.listAttempts(c.get('apiKey').accountId, c.req.valid('param').id);
      return found.ok ? c.json({ items: found.value.map(viewAttempt) }, 200) : problem(c, found);
    });
}
