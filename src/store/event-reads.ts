import type { AccountId, EventId, JobId } from '#domain/ids.ts';
import type { JobEventType } from '#domain/job.ts';
import type { Database } from './database.ts';

/** A fact about a job, without the callback's bytes. */
export interface JobEventRecord {
  readonly id: EventId;
  readonly type: JobEventType;
  /** Counts from 1 within the job. */
  readonly sequence: number;
  readonly createdAt: Date;
}

export interface EventsWanted {
  readonly accountId: AccountId;
  readonly jobId: JobId;
  /** The sequence of the last one that is known; 0 for none. */
  readonly after: number;
  /** When the job was made: older partitions hold none of its events. */
  readonly since: Date;
}

/**
 * Pages of events, by whatever names the caller gives them: each in its order, of `limit` events at most, missing when it is
 * empty. One statement; `events_of_job` serves it.
 */
export async function listEvents(
  { sql }: Database,
  pages: ReadonlyMap<string, EventsWanted>,
  limit: number,
): Promise<ReadonlyMap<string, readonly JobEventRecord[]>> {
  const wanted = JSON.stringify(Array.from(pages, ([page, events]) => ({ page, ...events })));
  const events = await sql<Array<JobEventRecord & { page: string }>>`
    SELECT wanted.page, event.id, event.type, event.sequence, event.created_at AS "createdAt"
    FROM json_to_recordset(${wanted}::text::json) AS wanted (
      page text, "accountId" text, "jobId" text, after int, since timestamptz)
    CROSS JOIN LATERAL (
      SELECT account_id, id, type, sequence, created_at FROM ringback.events
      WHERE job_id = wanted."jobId" AND sequence > wanted.after
        -- Its maker's clock may have been ahead of the one that wrote the event.
        AND created_at >= wanted.since - interval '1 day'
      ORDER BY sequence LIMIT ${limit}) AS event
    WHERE wanted."jobId" LIKE 'job\\_%' -- FEW_ROWS: see database.ts
      -- Asked for in there, the account would have its whole index read, to be combined with the job's.
      AND event.account_id = wanted."accountId"
    ORDER BY event.sequence`;
  return Map.groupBy(events, ({ page }) => page);
}
