import { ENDPOINT_EVENT_TYPES } from './endpoint-event.ts';
import { filtersOf, matchesType } from './event-type.ts';
import { CALLBACK_EVENT_TYPES } from './job.ts';

/** `unverified` has yet to echo a challenge; `paused` waits for its owner; `disabled` was given up on, and what is for it is held. */
export const ENDPOINT_STATUSES = ['unverified', 'enabled', 'paused', 'disabled'] as const;
export type EndpointStatus = (typeof ENDPOINT_STATUSES)[number];

/** Where jobs of an account may be called back: anywhere, at registered endpoints, at those of them that have proved to be its own. */
export const CALLBACK_POLICIES = ['any', 'registered', 'verified'] as const;
export type CallbackPolicy = (typeof CALLBACK_POLICIES)[number];

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
export const SUBSCRIBABLE_EVENT_TYPES = [...CALLBACK_EVENT_TYPES, ...ENDPOINT_EVENT_TYPES] as const;
export type SubscribableEventType = (typeof SUBSCRIBABLE_EVENT_TYPES)[number];

/** What may be asked for where deliveries are: every type that is delivered, and each family. */
export const DELIVERED_TYPE_FILTERS: readonly string[] = filtersOf(SUBSCRIBABLE_EVENT_TYPES);

/** The types that are among the filters, or of a family that is. */
export function typesOf(filters: readonly string[]): SubscribableEventType[] {
  return SUBSCRIBABLE_EVENT_TYPES.filter((type) => matchesType(filters, type));
}

/** These go to the endpoint that they are for, unasked. */
const UNASKED: ReadonlySet<SubscribableEventType> = new Set(['endpoint.ping', 'endpoint.challenge']);

/** What it can subscribe to: these, `job.*` and the like, or `*`. */
export const EVENT_FILTERS: readonly string[] = [
  '*',
  ...filtersOf(SUBSCRIBABLE_EVENT_TYPES.filter((type) => !UNASKED.has(type))),
];
