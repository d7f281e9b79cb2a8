import { openCursor, refuseCursor, sealCursor } from '#domain/cursor.ts';
import { type AccountId, parseId } from '#domain/ids.ts';
import type { Result } from '#domain/problem.ts';
import type { Database } from '#store/database.ts';
import { findEpoch } from '#store/database-epochs.ts';
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
  /** The token of the database's epoch in which the place was found; empty before there were epochs. */
  readonly epoch: string;
}

/** Events that one request looks at. */
const LOOK = 2000;
const FROM_ANOTHER_COPY =
  'is from a state of the database that is gone: it was restored to an earlier one; start anew with updated_after, from before the restored backup';
const LAST_XID = '18446744073709551615';

/** The place of a job that changed after that time, and of all that will change. */
export async function startWalk(db: Database, accountId: AccountId, after: Date, now: Date): Promise<Walking> {
  // Before the place: an epoch that begins in between makes the token an older one, which is honoured as well.
  const { token: epoch } = await findEpoch(db, '');
  const { xid, nextXid } = await findWalkStart(db, accountId, after);
  // What is written from now on changed after a time that has passed, whatever the clock of its writer says.
  return { xid, eventId: '', after, anyFrom: after <= now ? nextXid : LAST_XID, epoch };
}

/** The next jobs in the order of their changes, each where its latest change is. */
export async function walkOn(
  db: Database,
  accountId: AccountId,
  { filter, limit }: WalkQuery,
  place: Walking,
): Promise<Result<JobPage>> {
  const { token: epoch, isKnown } = await findEpoch(db, place.epoch);
  if (!isKnown) return refuseCursor(FROM_ANOTHER_COPY);
  const walked = await walkJobs(db, accountId, matchOf(filter), { ...place, limit, look: LOOK });
  const { jobs, stoppedAt, horizon } = walked;
  if (BigInt(place.xid) > BigInt(horizon)) return refuseCursor(FROM_ANOTHER_COPY);
  const next = { ...place, epoch, ...(stoppedAt ?? { xid: horizon, eventId: '' as const }) };
  const nextCursor = sealCursor(scopeOf('walk', accountId, filter), membersOf(next));
  return { ok: true, value: { items: jobs, nextCursor, hasMore: stoppedAt !== undefined } };
}

/** Undefined when the cursor is none of a walk with these filters. */
export function openWalk(accountId: AccountId, filter: JobFilter, cursor: string): Walking | undefined {
  return walkingOf(openCursor(scopeOf('walk', accountId, filter), cursor) ?? []);
}

/** What a cursor keeps of a place. */
export function membersOf({ xid, eventId, after, anyFrom, epoch }: Walking): readonly string[] {
  return [xid, eventId, String(after.getTime()), anyFrom, ...(epoch === '' ? [] : [epoch])];
}

/** The place that a cursor has kept, if it has kept one. */
export function walkingOf([xid = '', id = '', after = '', anyFrom = '', epoch = '']: readonly string[]):
  | Walking
  | undefined {
  const eventId = id === '' ? '' : parseId('evt', id);
  if (eventId === undefined || !isXid(xid) || !isXid(anyFrom) || !/^\d{1,15}$/.test(after)) return undefined;
  return { xid, eventId, after: new Date(Number(after)), anyFrom, epoch };
}

function isXid(text: string): boolean {
  return /^\d{1,20}$/.test(text) && BigInt(text) <= BigInt(LAST_XID);
}
