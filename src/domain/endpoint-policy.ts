import { ENDPOINT_EVENT_TYPES } from './endpoint-event.ts';
import { filtersOf } from './event-type.ts';
import { FINAL_JOB_EVENT_TYPES } from './job.ts';

/** `paused` waits for its owner; `disabled` was given up on, and what is for it is held. */
export const ENDPOINT_STATUSES = ['enabled', 'paused', 'disabled'] as const;

/** Why an endpoint is disabled: it answered 410, or nothing has succeeded for days. */
export const DISABLED_REASONS = ['gone', 'failing'] as const;
export type DisabledReason = (typeof DISABLED_REASONS)[number];

/**
 * In which order deliveries reach an endpoint: `job` keeps the events of one job in order, `endpoint` all of them, one at a
 * time, `none` sends what is due.
 */
export const DELIVERY_ORDERS = ['none', 'job', 'endpoint'] as const;
export type DeliveryOrder = (typeof DELIVERY_ORDERS)[number];

/** What an endpoint can be told of. */
export const SUBSCRIBABLE_EVENT_TYPES = [...FINAL_JOB_EVENT_TYPES, ...ENDPOINT_EVENT_TYPES] as const;
export type SubscribableEventType = (typeof SUBSCRIBABLE_EVENT_TYPES)[number];

/** What it can subscribe to: these, `job.*` and the like, or `*`. A ping goes to the endpoint that it is for, unasked. */
export const EVENT_FILTERS: readonly string[] = [
  '*',
  ...filtersOf(SUBSCRIBABLE_EVENT_TYPES.filter((type) => type !== 'endpoint.ping')),
];
