import { openCursor, refuseCursor, sealCursor } from '#domain/cursor.ts';
import { type AccountId, parseId } from '#domain/ids.ts';
import type { Result } from '#domain/problem.ts';
import type { Database } from '#store/database.ts';
import { findWalkStart, type WalkPlace, walkJobs } from '#store/job-walk.ts';
import { type JobFilter, type JobPage, matchOf, scopeOf } from './job-filter.ts';

export interface WalkQuery {
  readonly filter: JobFilter;
  readonly limit: number;
}

/** Where a walk is. Events made up to `after` are passed over, unless their transaction began after the walk did. */
export interface Walking extends WalkPlace {
  readonly after: Date;
  readonly anyFrom: string;
}

/** Events that one request looks at. */
const LOOK = 2000;
const LAST_XID = '18446744073709551615';

/** The place of a job that changed after that time, and of all that will change. */
export async function startWalk(db: Database, accountId: AccountId, after: Date, now: Date): Promise<Walking> {
  const { xid, nextXid } = await findWalkStart(db, accountId, after);
  // What is written from now on changed after a time that has passed, whatever the clock of its writer says.
  return { xid, eventId: '', after, anyFrom: after <= now ? nextXid : LAST_XID };
}

/** The next jobs in the order of their changes, each where its latest change is. */
export async function walkOn(
  db: Database,
  accountId: AccountId,
  { filter, limit }: WalkQuery,
  place: Walking,
): Promise<Result<JobPage>> {
  const walked = await walkJobs(db, accountId, matchOf(filter), { ...place, limit, look: LOOK });
  const { jobs, stoppedAt, horizon } = walked;
  // The horizon never goes back; only another cluster's is behind.
  if (BigInt(place.xid) > BigInt(horizon)) {
    return refuseCursor('is from before the database was restored; start anew with updated_after');
  }
  const next = { ...place, ...(stoppedAt ?? { xid: horizon, eventId: '' as const }) };
  const nextCursor = sealCursor(scopeOf('walk', accountId, filter), membersOf(next));
  return { ok: true, value: { items: jobs, nextCursor, hasMore: stoppedAt !== undefined } };
}

/** Undefined when the cursor is none of a walk with these filters. */
export function openWalk(accountId: AccountId, filter: JobFilter, cursor: string): Walking | undefined {
  return walkingOf(openCursor(scopeOf('walk', accountId, filter), cursor) ?? []);
}

/** What a cursor keeps of a place. */
export function membersOf({ xid, eventId, after, anyFrom }: Walking): readonly string[] {
  return [xid, eventId, String(after.getTime()), anyFrom];
}

/** The place that a cursor has kept, if it has kept one. */
export function walkingOf([xid = '', id = '', after = '', anyFrom = '']: readonly string[]): Walking | undefined {
  const eventId = id === '' ? '' : parseId('evt', id);
  if (eventId === undefined || !isXid(xid) || !isXid(anyFrom) || !/^\d{1,15}$/.test(after)) return undefined;
  return { xid, eventId, after: new Date(Number(after)), anyFrom };
}

function isXid(text: string): boolean {
  return /^\d{1,20}$/.test(text) && BigInt(text) <= BigInt(LAST_XID);
}
