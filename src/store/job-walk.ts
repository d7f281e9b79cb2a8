import { type AccountId, type EventId, idBound } from '#domain/ids.ts';
import type { Database } from './database.ts';
import { jobColumns } from './job-columns.ts';
import type { JobMatch } from './job-lists.ts';
import type { JobRecord } from './jobs.ts';

/**
 * The order of changes: events by the transaction that wrote them. Once no transaction below a transaction id is under way,
 * nothing can appear below it any more: that is the horizon, and a walk reads up to it. See docs/decisions/0010 and 0022.
 */

/** After that event, which need not exist. */
export interface WalkPlace {
  /** A position in the feed, xid8 in decimal: a transaction id with the database's generation in its upper bits. */
  readonly xid: string;
  readonly eventId: EventId | '';
}

export interface WalkStart {
  readonly xid: string;
  /** The first transaction id that was not given out yet. */
  readonly nextXid: string;
}

/** What the clocks of the processes may differ by, and the time from an event's making to its transaction. */
const SLACK_MS = 60_000;
/** Events to either side: runs that ended while the database was away are written later than they say. */
const NEIGHBOURS = 1000;

/**
 * Where a walk from a time begins: no event made after it has a lower transaction id, short of clocks that are more than
 * SLACK_MS apart. Nor will one that cannot be seen yet: it is above the horizon. Two probes of `events_pkey`, in the
 * partitions of that time.
 */
export async function findWalkStart({ sql }: Database, accountId: AccountId, after: Date): Promise<WalkStart> {
  const since = new Date(Math.max(0, after.getTime() - SLACK_MS));
  const bound = idBound('evt', since.getTime());
  const [start] = await sql<[WalkStart]>`
    SELECT ringback.feed_position(pg_snapshot_xmax(pg_current_snapshot())) AS "nextXid", xid FROM (
      (SELECT ringback.feed_position(pg_snapshot_xmin(pg_current_snapshot())) AS xid)
      UNION ALL
      (SELECT xid FROM ringback.events
        WHERE account_id = ${accountId} AND id < ${bound}
          AND created_at < ${since} AND created_at >= ${since}::timestamptz - interval '7 days'
        ORDER BY id DESC LIMIT ${NEIGHBOURS})
      UNION ALL
      (SELECT xid FROM ringback.events
        WHERE account_id = ${accountId} AND id >= ${bound} AND created_at >= ${since}
        ORDER BY id LIMIT ${NEIGHBOURS})) AS near
    ORDER BY xid LIMIT 1`;
  return start;
}

export interface Walk extends WalkPlace {
  /** Events made up to then are passed over, unless their transaction id is `anyFrom` or higher. */
  readonly after: Date;
  readonly anyFrom: string;
  readonly limit: number;
  /** Events to look at, at most. */
  readonly look: number;
}

export interface Walked {
  /** In the order of their latest changes. */
  readonly jobs: readonly JobRecord[];
  /** Where the walk goes on; undefined when everything below the horizon was seen. */
  readonly stoppedAt: WalkPlace | undefined;
  readonly horizon: string;
}

type WalkRow = { horizon: string; stopXid: string | null; stopId: EventId | null } & (
  | (JobRecord & { eventXid: string; eventId: EventId })
  | { id: null; eventXid: null; eventId: null }
);

/**
 * The jobs whose latest event is among the next ones, by `events_feed` in every partition: clocks decide which partition an
 * event is in, and a walk trusts no clock. A job that went on since has another event further on.
 */
export async function walkJobs({ sql }: Database, accountId: AccountId, match: JobMatch, walk: Walk): Promise<Walked> {
  const { types, statuses, from, below } = match;
  const { xid, eventId, limit, look } = walk;
  const rows = await sql<WalkRow[]>`
    WITH page AS MATERIALIZED (
      SELECT event.xid AS event_xid, event.id AS event_id, job.* FROM (
        SELECT xid, id, job_id, sequence, created_at FROM ringback.events
        WHERE account_id || '' = ${accountId} AND (xid, id) > (${xid}::xid8, ${eventId})
          AND xid < (SELECT ringback.feed_position(pg_snapshot_xmin(pg_current_snapshot())))
        ORDER BY xid, id LIMIT ${look}) AS event
      CROSS JOIN LATERAL (
        SELECT * FROM ringback.jobs WHERE account_id = ${accountId} AND id = event.job_id LIMIT 1) AS job -- ONE_BY_ONE
      WHERE job.sequence = event.sequence AND (event.created_at > ${walk.after} OR event.xid >= ${walk.anyFrom}::xid8)
        AND job.id < ${below} AND job.id >= ${from}
        AND (${types}::text[] IS NULL OR type = ANY (${types}::text[]))
        AND (${statuses}::text[] IS NULL OR status = ANY (${statuses}::text[]))
        AND metadata @> ${JSON.stringify(match.metadata)}::text::jsonb
      ORDER BY event.xid, event.id LIMIT ${limit}
    )
    SELECT seen.horizon, stop.xid AS "stopXid", stop.id AS "stopId",
      page.event_xid AS "eventXid", page.event_id AS "eventId", ${jobColumns(sql)}
    FROM (SELECT ringback.feed_position(pg_snapshot_xmin(pg_current_snapshot())) AS horizon) AS seen
    LEFT JOIN (
      SELECT xid, id FROM ringback.events
      WHERE account_id || '' = ${accountId} AND (xid, id) > (${xid}::xid8, ${eventId})
        AND xid < (SELECT ringback.feed_position(pg_snapshot_xmin(pg_current_snapshot())))
      ORDER BY xid, id OFFSET ${look - 1} LIMIT 1) AS stop ON (SELECT count(*) FROM page) < ${limit}
    LEFT JOIN page ON true
    ORDER BY page.event_xid, page.event_id`;
  const [first] = rows;
  if (first === undefined) throw new Error('a walk answers one row at least');
  const last = rows.at(-1)!;
  const jobs = rows.flatMap(({ horizon: _h, stopXid: _x, stopId: _s, eventXid: _e, eventId: _i, ...job }) =>
    job.id === null ? [] : [job],
  );
  return { jobs, stoppedAt: stopOf(jobs.length === limit, first, last), horizon: first.horizon };
}

function stopOf(isFull: boolean, { stopXid, stopId }: WalkRow, last: WalkRow): WalkPlace | undefined {
  if (isFull && last.eventXid !== null) return { xid: last.eventXid, eventId: last.eventId };
  return stopXid === null || stopId === null ? undefined : { xid: stopXid, eventId: stopId };
}
