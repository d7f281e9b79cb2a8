import type { AccountId, DeliveryId, EndpointId, EventId, JobId, RunId, ScheduleId } from '#domain/ids.ts';
import type { EndedRunStatus, FinalJobEventType, FinalJobStatus, JobError, JobProgress } from '#domain/job.ts';
import { toCleanJson } from '#domain/json.ts';
import type { RetryPolicy } from '#domain/retry.ts';
import type { Connection } from './database.ts';
import type { jobs } from './schema/jobs.ts';

/** A job as its row has it, without the input: clients have that already, and it may be large. */
export type JobRecord = Readonly<Omit<typeof jobs.$inferSelect, 'input'>>;

export interface NewJob {
  readonly accountId: AccountId;
  readonly id: JobId;
  readonly eventId: EventId;
  readonly type: string;
  readonly pool: string;
  readonly inputText: string;
  readonly metadata: Readonly<Record<string, string>>;
  readonly priority: number;
  /** As submitted; null leaves it to the type. */
  readonly timeoutMs: number | null;
  /** For one run: what type and submission make of it. */
  readonly runTimeoutMs: number;
  readonly retry: Partial<RetryPolicy> | null;
  readonly runAt: Date | null;
  readonly expiresAt: Date | null;
  readonly scheduleId: ScheduleId | null;
  readonly scheduledFor: Date | null;
  readonly callbackEndpointId: EndpointId | null;
  readonly callbackUrl: string | null;
  readonly callbackEvents: readonly FinalJobEventType[] | null;
  readonly createdAt: Date;
  readonly idempotency: NewIdempotencyKey | null;
}

/** An `Idempotency-Key` with the answer that a second submission under it gets. */
export interface NewIdempotencyKey {
  readonly key: string;
  /** Hex. */
  readonly fingerprint: string;
  /** Base64. */
  readonly response: string;
  readonly responseKeyId: string | null;
  readonly expiresAt: Date;
}

/**
 * Inserts jobs, each with its first event and its place in the queue. Answers those it inserted: one whose idempotency
 * key is taken is left out, and nothing of it is written. Two under one key at once: the second waits at the primary
 * key's index for the first to commit. Here as below, rows travel as one JSON text a statement, whatever their number:
 * one parameter, one prepared statement. The cast goes through text because postgres.js would quote a parameter of type
 * json a second time.
 */
export async function insertJobs(sql: Connection, jobs: readonly NewJob[]): Promise<ReadonlySet<JobId>> {
  // Inputs are JSON text already: spliced in as they are, they keep their numbers and key order.
  const rows = jobs.map(({ inputText, idempotency, ...job }) => {
    const flat = { ...job, idempotencyKey: idempotency?.key, ...idempotency, keyExpiresAt: idempotency?.expiresAt };
    return `${JSON.stringify({ ...flat, expiresAt: job.expiresAt }).slice(0, -1)},"input":${inputText}}`;
  });
  const inserted = await sql<{ id: JobId }[]>`
    WITH given AS MATERIALIZED (
      SELECT * FROM json_to_recordset(${`[${rows.join(',')}]`}::text::json) AS given (
        "accountId" text, id text, "eventId" text, type text, pool text, input json, metadata jsonb, priority smallint,
        "timeoutMs" int, "runTimeoutMs" int, retry json, "runAt" timestamptz, "expiresAt" timestamptz, "scheduleId" text,
        "scheduledFor" timestamptz, "callbackEndpointId" text, "callbackUrl" text, "callbackEvents" text[],
        "createdAt" timestamptz, "idempotencyKey" text, fingerprint text, response text, "responseKeyId" text, "keyExpiresAt" timestamptz)
    ), key AS (
      INSERT INTO ringback.idempotency_keys (
        account_id, key, fingerprint, job_id, response, response_key_id, created_at, expires_at)
      SELECT "accountId", "idempotencyKey", decode(fingerprint, 'hex'), id, decode(response, 'base64'), "responseKeyId",
        "createdAt", "keyExpiresAt"
      FROM given WHERE "idempotencyKey" IS NOT NULL
      ORDER BY "accountId", "idempotencyKey" -- groups of two processes wait for each other in one direction only
      ON CONFLICT (account_id, key) DO UPDATE SET
        fingerprint = excluded.fingerprint, job_id = excluded.job_id, response = excluded.response,
        response_key_id = excluded.response_key_id, created_at = excluded.created_at, expires_at = excluded.expires_at
      WHERE idempotency_keys.expires_at <= excluded.created_at
      RETURNING job_id
    ), job AS MATERIALIZED (
      SELECT * FROM given WHERE "idempotencyKey" IS NULL OR id IN (SELECT job_id FROM key)
    ), inserted AS (
      INSERT INTO ringback.jobs (
        account_id, id, type, status, input, metadata, priority, timeout_ms, retry, run_at, expires_at, schedule_id,
        scheduled_for, callback_endpoint_id, callback_url, callback_events, run_count, failure_count, sequence,
        created_at, updated_at)
      SELECT
        "accountId", id, type, 'queued', coalesce(input, 'null'), metadata, priority, "timeoutMs", retry, "runAt",
        "expiresAt", "scheduleId", "scheduledFor", "callbackEndpointId", "callbackUrl", "callbackEvents", 0, 0, 1,
        "createdAt", "createdAt"
      FROM job
    ), queued AS (
      INSERT INTO ringback.run_queue (
        account_id, job_id, type, pool, state, priority, timeout_ms, schedule_id, due_at, expires_at)
      SELECT "accountId", id, type, pool, CASE WHEN "runAt" IS NULL THEN 'ready' ELSE 'delayed' END, priority,
        "runTimeoutMs", "scheduleId", coalesce("runAt", "createdAt"), "expiresAt"
      FROM job
    ), event AS (
      INSERT INTO ringback.events (account_id, id, type, job_id, sequence, created_at)
      SELECT "accountId", "eventId", 'job.queued', id, 1, "createdAt" FROM job
    )
    SELECT id FROM job`;
  return new Set(inserted.map(({ id }) => id));
}

/** How one run ended, and what becomes of its job: over, or to be run again. Without a run: how a job ended while it waited. */
export interface RunEnd {
  readonly accountId: AccountId;
  readonly jobId: JobId;
  /** The fence; null when no run is under way, and none may be. */
  readonly runId: RunId | null;
  /** The event's number, as its body says it. Without a run it is the fence: a run may have come and gone meanwhile. */
  readonly sequence?: number;
  /** Null without a run. */
  readonly runStatus: EndedRunStatus | null;
  readonly runError: JobError | null;
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
    readonly body: string | null;
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

/**
 * Ends runs, or jobs that wait: queues, job, run, event and delivery in one statement. Answers the jobs it ended, and whether anybody
 * is to be told of any. The fence
 * is the queue's row: a run that is no longer the job's own (its lease ran out, another worker took over) finds none and is
 * not among the answer. Nor is one that was called off and would be run again: whoever ends it looks at it anew. The queue's
 * row is locked before the job's, here as in a claim, so that the two cannot deadlock.
 */
export async function endRuns(sql: Connection, ends: readonly RunEnd[]): Promise<ReadonlyMap<JobId, boolean>> {
  const rows = ends.map(({ outputText, event, delivery, result, ran: _ran, ...end }) => {
    const flat = {
      ...end,
      resultType: result?.contentType,
      resultBytes: result?.bytes,
      resultSha256: result?.sha256,
      uploadId: result?.uploadId,
      eventId: event.id,
      eventType: event.type,
      eventBody: event.body,
      deliveryId: delivery?.id,
      endpointId: delivery?.endpointId,
    };
    return `${toCleanJson(flat).slice(0, -1)},"output":${outputText ?? 'null'},"inline":${outputText !== null}}`;
  });
  const ended = await sql<{ id: JobId; isToTell: boolean }[]>`
    WITH r AS MATERIALIZED (
      SELECT * FROM json_to_recordset(${`[${rows.join(',')}]`}::text::json) AS r (
        "accountId" text, "jobId" text, "runId" text, sequence int, pool text, "runStatus" text, "runError" json, "jobStatus" text,
        "jobError" json, output json, inline boolean, "resultType" text, "resultBytes" bigint, "resultSha256" text,
        "uploadId" text, progress json, "nextRunAt" timestamptz, "endedAt" timestamptz, "eventId" text, "eventType" text,
        "eventBody" text, "deliveryId" text, "endpointId" text)
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
        output = CASE WHEN r.inline THEN coalesce(r.output, 'null') END,
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
      FROM (SELECT * FROM removed UNION ALL SELECT * FROM requeued) AS r
      WHERE job.account_id = r."accountId" AND job.id = r."jobId" AND job.status IN ('queued', 'in_progress')
      RETURNING job.account_id, job.id, job.status, job.sequence AS event_sequence, job.run_count, job.run_started_at, job.worker_id,
        r.*
    ), run AS (
      INSERT INTO ringback.job_runs (account_id, id, job_id, number, status, worker_id, error, started_at, finished_at)
      SELECT account_id, "runId", id, run_count, "runStatus", worker_id, "runError", run_started_at, "endedAt"
      FROM ended WHERE "runId" IS NOT NULL
    ), event AS (
      INSERT INTO ringback.events (account_id, id, type, job_id, sequence, body, created_at)
      SELECT account_id, "eventId", "eventType", id, event_sequence, convert_to("eventBody", 'UTF8'), "endedAt" FROM ended
    ), told AS (
      SELECT account_id, id, "eventId", "eventType", "endedAt", "deliveryId", "endpointId" FROM ended
      WHERE status <> 'in_progress'
    ), target AS (
      -- The one that the job named, and those of its account that want to hear of such events: each once.
      SELECT told.*, "deliveryId" AS delivery_id, endpoint.id AS endpoint_id, endpoint.status AS endpoint_status,
        endpoint.deleted_at
      FROM told CROSS JOIN LATERAL (
        SELECT * FROM ringback.endpoints WHERE account_id = told.account_id AND id = "endpointId" LIMIT 1) AS endpoint
      UNION ALL
      SELECT told.*, 'dlv_' || substr("eventId", 5, 22)
          || lpad(to_hex(row_number() OVER (PARTITION BY "eventId" ORDER BY endpoint.id)), 4, '0'),
        endpoint.id, endpoint.status, endpoint.deleted_at
      FROM told JOIN ringback.endpoints AS endpoint
        ON endpoint.account_id || '' = told.account_id AND event_types <> '{}' AND endpoint.deleted_at IS NULL
        AND event_types && ARRAY['*', 'job.*', "eventType"] AND endpoint.id IS DISTINCT FROM "endpointId"
    ), delivery AS (
      INSERT INTO ringback.deliveries (
        account_id, id, event_id, event_type, job_id, endpoint_id, status, attempt_count, next_attempt_at,
        created_at, updated_at, finished_at)
      SELECT account_id, delivery_id, "eventId", "eventType", id, endpoint_id,
        CASE WHEN deleted_at IS NOT NULL THEN 'discarded' WHEN endpoint_status = 'disabled' THEN 'held' ELSE 'pending' END,
        0, CASE WHEN deleted_at IS NULL AND endpoint_status <> 'disabled' THEN "endedAt" END,
        "endedAt", "endedAt", CASE WHEN deleted_at IS NOT NULL THEN "endedAt" END
      FROM target
      RETURNING account_id, id, endpoint_id, event_id, created_at, status, position
    ), due AS (
      INSERT INTO ringback.delivery_queue (
        account_id, delivery_id, endpoint_id, event_id, event_created_at, position, state, due_at)
      SELECT account_id, id, endpoint_id, event_id, created_at, position, 'ready', created_at
      FROM delivery WHERE status = 'pending'
    )
    SELECT id, EXISTS (SELECT FROM delivery WHERE status = 'pending') AS "isToTell" FROM ended`;
  return new Map(ended.map(({ id, isToTell }) => [id, isToTell]));
}

/** Shows progress, unless the run is no longer the job's own. Not worth a group: a handler's calls are throttled. */
export async function setProgress(
  sql: Connection,
  run: { accountId: AccountId; jobId: JobId; runId: RunId },
  progress: JobProgress,
  now: Date,
): Promise<boolean> {
  const updated = await sql`
    UPDATE ringback.jobs SET progress = ${toCleanJson(progress)}::text::json, updated_at = ${now}
    WHERE account_id = ${run.accountId} AND id = ${run.jobId} AND run_id = ${run.runId}`;
  return updated.count === 1;
}
