import type { AccountId, DeliveryId, EndpointId, EventId, JobId, RunId } from '#domain/ids.ts';
import type { EndedRunStatus, FinalJobEventType, FinalJobStatus, JobError, JobProgress } from '#domain/job.ts';
import { toCleanJson } from '#domain/json.ts';
import type { Connection } from './database.ts';
import { fanOut } from './fan-out.ts';
import type { EventBody } from './tell-runs.ts';

/** How one run ended, and what becomes of its job: over, or to be run again. Without a run: how a job ended while it waited. */
export interface RunEnd {
  readonly accountId: AccountId;
  readonly jobId: JobId;
  /** The fence; null when no run is under way, and none may be. */
  readonly runId: RunId | null;
  /** Without a run: the number that its event is to get. It is the fence, for a run may have come and gone meanwhile. */
  readonly sequence?: number;
  /** Null without a run. */
  readonly runStatus: EndedRunStatus | null;
  readonly runError: JobError | null;
  /** Of a handler that failed, bounded. */
  readonly stack?: string;
  readonly jobStatus: 'in_progress' | FinalJobStatus;
  readonly jobError: JobError | null;
  /** An inline result. */
  readonly outputText: string | null;
  /** A result whose chunks stand under the run's id. */
  readonly result: StoredResult | null;
  /** The last that was reported; null keeps what the job has. */
  readonly progress: JobProgress | null;
  /** Null for a job that goes on: it is ready now. */
  readonly nextRunAt: Date | null;
  /** Where a job that goes on waits, should its type have moved; null or left out: where it did. */
  readonly pool?: string | null;
  readonly endedAt: Date;
  readonly event: {
    readonly id: EventId;
    readonly type: 'job.retrying' | FinalJobEventType;
    readonly body: EventBody | null;
  };
  readonly delivery: { readonly id: DeliveryId; readonly endpointId: EndpointId } | null;
  /** What the run took, when it ended by itself. Not written with it: for the statistics of its type. */
  readonly ran?: { readonly type: string; readonly ms: number };
}

export interface StoredResult {
  readonly contentType: string;
  readonly bytes: number;
  /** Hex. */
  readonly sha256: string;
  /** The upload that stored it, where others could do so at the same time: only the latest one counts. */
  readonly uploadId?: string;
}

export interface Ended {
  /** Somebody is to be told of this or of another one. */
  readonly isToTell: boolean;
  /** Events of it were told before: what tells of this one follows them, see `advanceJobs`. */
  readonly isFollowing: boolean;
}

/**
 * Ends runs, or jobs that wait: queues, job, run, event and deliveries in one statement. Answers the jobs it ended. The fence
 * is the queue's row: a run that is no longer the job's own (its lease ran out, another worker took over) finds none and is
 * not among the answer. Nor is one that was called off and would be run again: whoever ends it looks at it anew. The queue's
 * row is locked before the job's, here as in a claim, so that the two cannot deadlock.
 */
export async function endRuns(sql: Connection, ends: readonly RunEnd[]): Promise<ReadonlyMap<JobId, Ended>> {
  const rows = ends.map(({ event, delivery, result, ran: _ran, ...end }) => {
    const flat = {
      ...end,
      resultType: result?.contentType,
      resultBytes: result?.bytes,
      resultSha256: result?.sha256,
      uploadId: result?.uploadId,
      eventId: event.id,
      eventType: event.type,
      before: event.body?.[0],
      after: event.body?.[1],
      deliveryId: delivery?.id,
      endpointId: delivery?.endpointId,
    };
    return toCleanJson(flat);
  });
  const ended = await sql<({ id: JobId } & Ended)[]>`
    WITH r AS MATERIALIZED (
      SELECT * FROM json_to_recordset(${`[${rows.join(',')}]`}::text::json) AS r (
        "accountId" text, "jobId" text, "runId" text, sequence int, pool text, "runStatus" text, "runError" json, stack text, "jobStatus" text,
        "jobError" json, "outputText" text, "resultType" text, "resultBytes" bigint, "resultSha256" text,
        "uploadId" text, progress json, "nextRunAt" timestamptz, "endedAt" timestamptz, "eventId" text, "eventType" text,
        before text, after text, "deliveryId" text, "endpointId" text)
      WHERE "jobId" LIKE 'job\\_%' -- FEW_ROWS
    ), removed AS (
      DELETE FROM ringback.run_queue AS item USING r
      WHERE item.account_id = r."accountId" AND item.job_id = r."jobId" AND item.run_id IS NOT DISTINCT FROM r."runId"
        AND r."jobStatus" <> 'in_progress' AND (r."uploadId" IS NULL OR item.upload_id = r."uploadId")
        AND (r."runId" IS NOT NULL OR r.sequence IS NULL OR r.sequence = (
          SELECT job.sequence + 1 FROM ringback.jobs AS job WHERE job.account_id = item.account_id AND job.id = item.job_id))
      RETURNING r.* -- so that what follows need not be joined with r again, which would compare each with each
    ), requeued AS (
      UPDATE ringback.run_queue AS item SET
        state = CASE WHEN r."nextRunAt" IS NULL THEN 'ready' ELSE 'delayed' END,
        due_at = coalesce(r."nextRunAt", item.due_at),
        pool = coalesce(r.pool, item.pool),
        run_id = NULL, worker_id = NULL, held_by = NULL, lease_expires_at = NULL, deadline_at = NULL,
        completion_hash = NULL, upload_id = NULL
      FROM r
      WHERE item.account_id = r."accountId" AND item.job_id = r."jobId" AND item.run_id IS NOT DISTINCT FROM r."runId"
        AND r."jobStatus" = 'in_progress' AND item.cancel_requested_at IS NULL
      RETURNING r.*
    ), ended AS (
      UPDATE ringback.jobs AS job SET
        status = r."jobStatus",
        output = r."outputText"::json,
        result_run_id = CASE WHEN r."resultType" IS NOT NULL THEN r."runId" END,
        result_type = r."resultType",
        result_bytes = r."resultBytes",
        result_sha256 = decode(r."resultSha256", 'hex'),
        error = r."jobError",
        failure_count = failure_count + coalesce(r."runStatus" IN ('failed', 'timed_out', 'lost'), false)::int,
        sequence = job.sequence + 1,
        progress = coalesce(r.progress, job.progress),
        run_id = NULL,
        next_run_at = r."nextRunAt",
        updated_at = r."endedAt",
        finished_at = CASE WHEN r."jobStatus" <> 'in_progress' THEN r."endedAt" END
      -- In their order: see tellRuns.
      FROM (
        SELECT * FROM (SELECT * FROM removed UNION ALL SELECT * FROM requeued) AS r ORDER BY "jobId" COLLATE "C") AS r
      WHERE job.account_id = r."accountId" AND job.id = r."jobId" AND job.status IN ('queued', 'in_progress')
      RETURNING job.account_id, job.id, job.status, job.sequence AS event_sequence, job.run_count, job.run_started_at, job.worker_id,
        job.is_told,
        r.*
    ), run AS (
      INSERT INTO ringback.job_runs (account_id, id, job_id, number, status, worker_id, error, stack, started_at, finished_at)
      SELECT account_id, "runId", id, run_count, "runStatus", worker_id, "runError", stack, run_started_at, "endedAt"
      FROM ended WHERE "runId" IS NOT NULL
    ), event AS (
      INSERT INTO ringback.events (account_id, id, type, job_id, sequence, body, created_at)
      SELECT account_id, "eventId", "eventType", id, event_sequence, convert_to(before || event_sequence || after, 'UTF8'),
        "endedAt"
      FROM ended
    ), told AS MATERIALIZED (
      SELECT account_id, id AS job_id, "eventId" AS event_id, "eventType" AS event_type, "endedAt" AS told_at,
        "deliveryId" AS delivery_id, "endpointId" AS endpoint_id, is_told
      FROM ended WHERE status <> 'in_progress'
    ), ${fanOut(sql)}
    SELECT id, is_told AS "isFollowing", EXISTS (SELECT FROM target WHERE is_due) AS "isToTell" FROM ended`;
  return new Map(ended.map(({ id, ...end }) => [id, end]));
}
