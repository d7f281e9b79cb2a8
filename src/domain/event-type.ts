import { ENDPOINT_EVENT_TYPES } from './endpoint-event.ts';
import { JOB_EVENT_TYPES } from './job.ts';

export const EVENT_TYPES = [...JOB_EVENT_TYPES, ...ENDPOINT_EVENT_TYPES] as const;
export type EventType = (typeof EVENT_TYPES)[number];

/** `job.*` of `job.started`. */
function familyOf(type: EventType): string {
  return `${type.slice(0, type.indexOf('.'))}.*`;
}

/** What may be asked for where these types occur: each of them, and each family. */
export function filtersOf(types: readonly EventType[]): string[] {
  return [...new Set(types.map(familyOf)), ...types];
}

/** What a reader of the feed may ask for. */
export const EVENT_TYPE_FILTERS: readonly string[] = filtersOf(EVENT_TYPES);

/** Whether the type, or the family of it, is among the filters. `store/event-feed.ts` says the same in SQL. */
export function matchesType(filters: readonly string[], type: EventType): boolean {
  return filters.includes(type) || filters.includes(familyOf(type));
}
