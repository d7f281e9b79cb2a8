import { openCursor, sealCursor } from '#domain/cursor.ts';
import { matchesType } from '#domain/event-type.ts';
import type { AccountId, JobId } from '#domain/ids.ts';
import type { FeedEvent } from '#store/event-feed.ts';
import type { WalkPlace } from '#store/job-walk.ts';
import { membersOf, type Walking, walkingOf } from '../read/job-walk.ts';

/** Which events of the account; what is undefined lets every event pass. */
export interface FeedFilter {
  /** Types, and families such as `job.*`. */
  readonly types: readonly string[] | undefined;
  readonly jobId: JobId | undefined;
}

/** Before the first event there can be. */
export const BEGINNING: Walking = { xid: '0', eventId: '', after: new Date(0), anyFrom: '0', epoch: '' };

export function sealPlace(accountId: AccountId, filter: FeedFilter, place: Walking): string {
  return sealCursor(scopeOf(accountId, filter), membersOf(place));
}

/** Undefined when the cursor is none of this account's feed with these filters. */
export function openPlace(accountId: AccountId, filter: FeedFilter, cursor: string): Walking | undefined {
  return walkingOf(openCursor(scopeOf(accountId, filter), cursor) ?? []);
}

/** What a cursor is good for. Filters that mean the same are the same. */
function scopeOf(accountId: AccountId, { types, jobId }: FeedFilter): readonly unknown[] {
  return ['feed', accountId, types && [...new Set(types)].sort(), jobId];
}

export function isSamePlace(one: WalkPlace, other: WalkPlace): boolean {
  return one.xid === other.xid && one.eventId === other.eventId;
}

export function isBefore(one: WalkPlace, other: WalkPlace): boolean {
  const [xid, otherXid] = [BigInt(one.xid), BigInt(other.xid)];
  return xid < otherXid || (xid === otherXid && one.eventId < other.eventId);
}

export function placeOf({ xid, id: eventId }: FeedEvent): WalkPlace {
  return { xid, eventId };
}

/** Whether somebody at that place is still to be told of the event. The same as `readFeed` asks for. */
export function isWanted(event: FeedEvent, { types, jobId }: FeedFilter, place: Walking): boolean {
  if (!isBefore(place, placeOf(event))) return false;
  if (event.createdAt <= place.after && BigInt(event.xid) < BigInt(place.anyFrom)) return false;
  return (jobId === undefined || event.jobId === jobId) && (types === undefined || matchesType(types, event.type));
}
