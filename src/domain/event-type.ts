import { ENDPOINT_EVENT_TYPES } from './endpoint-event.ts';
import { JOB_EVENT_TYPES } from './job.ts';

export const EVENT_TYPES = [...JOB_EVENT_TYPES, ...ENDPOINT_EVENT_TYPES] as const;
export type EventType = (typeof EVENT_TYPES)[number];

/** `job.*` of `job.started`. */
function familyOf(type: EventType): string {
  return `${type.slice(0, type.indexOf('.'))}.*`;
}

/** What a reader may ask for: every type, and every family of them. */
export const EVENT_TYPE_FILTERS: readonly string[] = [...new Set(EVENT_TYPES.map(familyOf)), ...EVENT_TYPES];

/** Whether the type, or the family of it, is among the filters. `store/event-feed.ts` says the same in SQL. */
export function matchesType(filters: readonly string[], type: EventType): boolean {
  return filters.includes(type) || filters.includes(familyOf(type));
}
