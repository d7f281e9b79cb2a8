import type { EventType } from '#domain/event-type.ts';
import type { AccountId, EventId, JobId } from '#domain/ids.ts';
import type { Database } from './database.ts';
import type { WalkPlace } from './job-walk.ts';

/**
 * The events of an account in the order (transaction id, id), up to the horizon: see docs/decisions/0010. Below it nothing
 * can appear any more, so that whoever reads on from the last event, or from the horizon, misses nothing.
 */

export interface FeedEvent {
  readonly id: EventId;
  readonly type: EventType;
  /** Null for what is no job's event, as is its number within the job. */
  readonly jobId: JobId | null;
  readonly sequence: number | null;
  readonly createdAt: Date;
  /** The callback's bytes; null when nobody was to be told. */
  readonly body: Uint8Array | null;
  /** With the id its place in the feed. */
  readonly xid: string;
}

export interface FeedMatch {
  /** Types, and families such as `job.*`; null lets every event pass. */
  readonly types: readonly string[] | null;
  /** Events made up to then are passed over, unless their transaction id is `anyFrom` or higher. */
  readonly after: Date;
  readonly anyFrom: string;
}

export interface FeedStep extends WalkPlace {
  readonly limit: number;
  /** Of bodies: the event that goes beyond is the last one. */
  readonly maxBytes: number;
}

export interface FeedRead {
  readonly events: readonly FeedEvent[];
  /** Where to read on at once; undefined when everything below the horizon was seen. */
  readonly stoppedAt: WalkPlace | undefined;
  readonly horizon: string;
  /** There are events above the horizon, whose turn comes when an older transaction has ended. */
  readonly isHeldBack: boolean;
}

type FeedRow = {
  horizon: string;
  found: number;
  stopXid: string | null;
  stopId: EventId | null;
  heldId: string | null;
} & (FeedEvent | { id: null });

/**
 * The next events, by `events_feed` in every partition: clocks decide which partition an event is in, and the feed trusts no
 * clock. `look` events are looked at, at most, however few of them match.
 */
export async function readFeed(
  { sql }: Database,
  accountId: AccountId,
  match: FeedMatch,
  { xid, eventId, limit, maxBytes, look }: FeedStep & { readonly look: number },
): Promise<FeedRead> {
  const rows = await sql<FeedRow[]>`
    WITH page AS MATERIALIZED (
      SELECT event.*, sum(octet_length(body)) OVER (
        ORDER BY xid, id ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS bytes_before
      FROM (
        SELECT * FROM (
          SELECT xid, id, type, job_id, sequence, body, created_at FROM ringback.events
          WHERE account_id || '' = ${accountId} AND (xid, id) > (${xid}::xid8, ${eventId})
            AND xid < (SELECT ringback.feed_position(pg_snapshot_xmin(pg_current_snapshot())))
          ORDER BY xid, id LIMIT ${look}) AS looked_at
        WHERE (created_at > ${match.after} OR xid >= ${match.anyFrom}::xid8)
          AND (${match.types}::text[] IS NULL OR type = ANY (${match.types}::text[])
            OR split_part(type, '.', 1) || '.*' = ANY (${match.types}::text[]))
        ORDER BY xid, id LIMIT ${limit}) AS event
    )
    SELECT seen.horizon, (SELECT count(*)::int FROM page) AS found, stop.xid AS "stopXid", stop.id AS "stopId",
      held.id AS "heldId", page.id, page.type, page.job_id AS "jobId", page.sequence, page.created_at AS "createdAt",
      page.body, page.xid
    FROM (SELECT ringback.feed_position(pg_snapshot_xmin(pg_current_snapshot())) AS horizon) AS seen
    LEFT JOIN (
      SELECT xid, id FROM ringback.events
      WHERE account_id || '' = ${accountId} AND (xid, id) > (${xid}::xid8, ${eventId})
        AND xid < (SELECT ringback.feed_position(pg_snapshot_xmin(pg_current_snapshot())))
      ORDER BY xid, id OFFSET ${look - 1} LIMIT 1) AS stop ON (SELECT count(*) FROM page) < ${limit}
    LEFT JOIN (
      SELECT id FROM ringback.events
      WHERE account_id || '' = ${accountId} AND xid >= (SELECT ringback.feed_position(pg_snapshot_xmin(pg_current_snapshot())))
      ORDER BY xid, id LIMIT 1) AS held ON (SELECT count(*) FROM page) < ${limit}
    LEFT JOIN page ON coalesce(page.bytes_before, 0) < ${maxBytes}
    ORDER BY page.xid, page.id`;
  return readOf(rows, limit);
}

/**
 * The next events of one job, by `events_of_job` in every partition: what they cost depends on how many the job has, not on
 * the account's.
 */
export async function readFeedOfJob(
  { sql }: Database,
  accountId: AccountId,
  jobId: JobId,
  match: FeedMatch,
  { xid, eventId, limit, maxBytes }: FeedStep,
): Promise<FeedRead> {
  const rows = await sql<FeedRow[]>`
    WITH job_event AS MATERIALIZED (
      -- By itself: asked for the account or the place as well, PostgreSQL would read the account's part of another index.
      SELECT account_id, xid, id, type, job_id, sequence, body, created_at FROM ringback.events WHERE job_id = ${jobId}
    ), page AS MATERIALIZED (
      SELECT event.*, sum(octet_length(body)) OVER (
        ORDER BY xid, id ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS bytes_before
      FROM (
        SELECT * FROM job_event
        WHERE account_id = ${accountId} AND (xid, id) > (${xid}::xid8, ${eventId})
          AND xid < (SELECT ringback.feed_position(pg_snapshot_xmin(pg_current_snapshot())))
          AND (created_at > ${match.after} OR xid >= ${match.anyFrom}::xid8)
          AND (${match.types}::text[] IS NULL OR type = ANY (${match.types}::text[])
            OR split_part(type, '.', 1) || '.*' = ANY (${match.types}::text[]))
        ORDER BY xid, id LIMIT ${limit}) AS event
    )
    SELECT seen.horizon, (SELECT count(*)::int FROM page) AS found, NULL AS "stopXid", NULL AS "stopId",
      held.id AS "heldId", page.id, page.type, page.job_id AS "jobId", page.sequence, page.created_at AS "createdAt",
      page.body, page.xid
    FROM (SELECT ringback.feed_position(pg_snapshot_xmin(pg_current_snapshot())) AS horizon) AS seen
    LEFT JOIN (
      SELECT max(id) AS id FROM job_event
      WHERE account_id = ${accountId} AND xid >= (SELECT ringback.feed_position(pg_snapshot_xmin(pg_current_snapshot())))) AS held ON true
    LEFT JOIN page ON coalesce(page.bytes_before, 0) < ${maxBytes}
    ORDER BY page.xid, page.id`;
  return readOf(rows, limit);
}

function readOf(rows: readonly FeedRow[], limit: number): FeedRead {
  const [first] = rows;
  if (first === undefined) throw new Error('a read of the feed answers one row at least');
  const { horizon, found, stopXid, stopId, heldId } = first;
  const events = rows.flatMap((row) => (row.id === null ? [] : [eventOf(row)]));
  const last = events.at(-1);
  const isCut = last !== undefined && (events.length === limit || events.length < found);
  const stop = stopXid === null || stopId === null ? undefined : { xid: stopXid, eventId: stopId };
  const stoppedAt = isCut ? { xid: last.xid, eventId: last.id } : stop;
  return { events, stoppedAt, horizon, isHeldBack: heldId !== null };
}

function eventOf({ id, type, jobId, sequence, createdAt, body, xid }: FeedEvent): FeedEvent {
  return { id, type, jobId, sequence, createdAt, body, xid };
}

export interface KnownPlace extends WalkPlace {
  readonly accountId: AccountId;
}

/** The accounts that have events beyond those places, above the horizon too. One statement; `events_feed` serves it. */
export async function findNews({ sql }: Database, places: readonly KnownPlace[]): Promise<AccountId[]> {
  const news = await sql<{ accountId: AccountId }[]>`
    SELECT known."accountId" FROM json_to_recordset(${JSON.stringify(places)}::text::json) AS known (
      "accountId" text, xid text, "eventId" text)
    CROSS JOIN LATERAL (
      SELECT id FROM ringback.events
      WHERE account_id || '' = known."accountId" AND (xid, id) > (known.xid::xid8, known."eventId")
      ORDER BY xid, id LIMIT 1) AS event
    WHERE known."accountId" LIKE 'acc\\_%' -- FEW_ROWS: see database.ts`;
  return news.map(({ accountId }) => accountId);
}
