import { z } from '@hono/zod-openapi';
import type { DeliveryListQuery } from '#callbacks/delivery-lists.ts';
import { DELIVERY_STATUSES } from '#domain/delivery.ts';
import { DELIVERED_TYPE_FILTERS } from '#domain/endpoint-policy.ts';
import { deliveredType, deliverySchema } from './callback.ts';
import { idSchema, pageOf } from './common.ts';
import { several, time } from './job-list.ts';

const status = z.enum(DELIVERY_STATUSES, `must be one of ${DELIVERY_STATUSES.join(', ')}`);

export const deliveryListQuery = z
  .strictObject({
    status: several(status, 50)
      .optional()
      .openapi({
        type: 'array',
        items: { type: 'string', enum: [...DELIVERY_STATUSES] },
        description: 'Any of these.',
      }),
    event_type: several(deliveredType, 50)
      .optional()
      .openapi({
        type: 'array',
        items: { type: 'string', enum: [...DELIVERED_TYPE_FILTERS] },
        description: 'Any of these types or families of types.',
      }),
    endpoint_id: idSchema('ep').optional(),
    job_id: idSchema('job').optional(),
    created_after: time('Not included.'),
    created_before: time('Not included.'),
    limit: z.coerce.number().int().min(1).max(200).default(50).openapi({ description: 'Items of one page.' }),
    cursor: z.string().max(1000).optional().openapi({ description: 'The `next_cursor` of the page before.' }),
  })
  .transform((given): DeliveryListQuery => {
    const { status: statuses, event_type: eventTypes, endpoint_id: endpointId, job_id: jobId, limit, cursor } = given;
    const { created_after: createdAfter, created_before: createdBefore } = given;
    return { filter: { statuses, eventTypes, endpointId, jobId, createdAfter, createdBefore }, limit, cursor };
  });

export const deliveryListSchema = pageOf(deliverySchema).extend({
  has_more: z.boolean().openapi({ description: 'Whether to ask for the next page at once.' }),
});
