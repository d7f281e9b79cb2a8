import type { AccountId, DeliveryId, EndpointId, EventId, JobId, RunId } from '#domain/ids.ts';
import type { CallbackEventType } from '#domain/job.ts';
import { toCleanJson } from '#domain/json.ts';
import type { Connection } from './database.ts';
import { fanOut } from './fan-out.ts';

/** What a callback says of a job, on both sides of the event's number: that is known where the event is written. */
export type EventBody = readonly [before: string, after: string];

/** An event of a run under way that somebody is to be told of. */
export interface RunTelling {
  readonly accountId: AccountId;
  readonly jobId: JobId;
  /** The fence. */
  readonly runId: RunId;
  readonly event: {
    readonly id: EventId;
    readonly type: Extract<CallbackEventType, 'job.started' | 'job.progress'>;
    readonly body: EventBody;
  };
  /** Where the job itself says. */
  readonly delivery: { readonly id: DeliveryId; readonly endpointId: EndpointId } | null;
  readonly toldAt: Date;
  /** Progress is told when it was not for so many milliseconds before `toldAt`. */
  readonly progressEveryMs: number;
}

/**
 * Records events of runs, with their deliveries. Answers the jobs whose event was written: not when the run is over, when the
 * start was told before, or progress a short while ago. What follows at an endpoint that keeps the order is `behind`: see
 * `advanceJobs`.
 */
export async function tellRuns(sql: Connection, tellings: readonly RunTelling[]): Promise<ReadonlySet<JobId>> {
  const rows = tellings.map(({ event, delivery, ...telling }) => ({
    ...telling,
    eventId: event.id,
    eventType: event.type,
    before: event.body[0],
    after: event.body[1],
    deliveryId: delivery?.id,
    endpointId: delivery?.endpointId,
  }));
  const told = await sql<{ jobId: JobId }[]>`
    WITH r AS MATERIALIZED (
      SELECT * FROM json_to_recordset(${toCleanJson(rows)}::text::json) AS r (
        "accountId" text, "jobId" text, "runId" text, "eventId" text, "eventType" text, before text, after text,
        "deliveryId" text, "endpointId" text, "toldAt" timestamptz, "progressEveryMs" int)
      WHERE "jobId" LIKE 'job\\_%' -- FEW_ROWS
      ORDER BY "jobId" COLLATE "C" -- who tells of runs and who ends them wait for each other in one direction only
    ), told AS MATERIALIZED (
      UPDATE ringback.jobs AS job SET
        sequence = job.sequence + 1,
        is_start_untold = false,
        is_told = true,
        progress_told_at = CASE WHEN r."eventType" = 'job.progress' THEN r."toldAt" ELSE job.progress_told_at END
      FROM r
      WHERE job.account_id = r."accountId" AND job.id = r."jobId" AND job.run_id = r."runId"
        AND CASE r."eventType" WHEN 'job.started' THEN is_start_untold
          ELSE progress_told_at IS NULL OR progress_told_at <= r."toldAt" - r."progressEveryMs" * interval '1 ms' END
      RETURNING job.account_id, job.id AS job_id, job.sequence, r."eventId" AS event_id, r."eventType" AS event_type,
        r.before, r.after, r."toldAt" AS told_at, r."deliveryId" AS delivery_id, r."endpointId" AS endpoint_id, true AS is_told
    ), event AS (
      INSERT INTO ringback.events (account_id, id, type, job_id, sequence, body, created_at)
      SELECT account_id, event_id, event_type, job_id, sequence, convert_to(before || sequence || after, 'UTF8'), told_at
      FROM told
    ), ${fanOut(sql)}
    SELECT job_id AS "jobId" FROM told`;
  return new Set(told.map(({ jobId }) => jobId));
}
