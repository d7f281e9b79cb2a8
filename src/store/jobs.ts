import type { AccountId, DeliveryId, EndpointId, EventId, JobId, RunId, WorkerId } from '#domain/ids.ts';
import type { FinalJobEventType, JobError, JobProgress, EndedRunStatus } from '#domain/job.ts';
import { toCleanJson } from '#domain/json.ts';
import type { Connection, Transaction } from './database.ts';
import type { jobs } from './schema/jobs.ts';

/** A job as its row has it, without the input: clients have that already, and it may be large. */
export type JobRecord = Readonly<Omit<typeof jobs.$inferSelect, 'input'>>;

export interface NewJob {
  readonly accountId: AccountId;
  readonly id: JobId;
  readonly eventId: EventId;
  readonly type: string;
  readonly inputText: string;
  readonly metadata: Readonly<Record<string, string>>;
  readonly callbackEndpointId: EndpointId | null;
  readonly callbackUrl: string | null;
  readonly callbackEvents: readonly FinalJobEventType[] | null;
  readonly createdAt: Date;
}

/**
 * Inserts jobs, each with its first event. Here as below, rows travel as one JSON text a statement, whatever their
 * number: one parameter, one prepared statement. The cast goes through text because postgres.js would quote a
 * parameter of type json a second time.
 */
export async function insertJobs(tx: Transaction, jobs: readonly NewJob[]): Promise<void> {
  // Inputs are JSON text already: spliced in as they are, they keep their numbers and key order.
  const rows = jobs.map(({ inputText, ...job }) => `${JSON.stringify(job).slice(0, -1)},"input":${inputText}}`);
  await tx`
    WITH job AS MATERIALIZED (
      SELECT * FROM json_to_recordset(${`[${rows.join(',')}]`}::text::json) AS job (
        "accountId" text, id text, "eventId" text, type text, input json, metadata jsonb, "callbackEndpointId" text,
        "callbackUrl" text, "callbackEvents" text[], "createdAt" timestamptz)
    ), inserted AS (
      INSERT INTO ringback.jobs (
        account_id, id, type, status, input, metadata, callback_endpoint_id, callback_url, callback_events,
        run_count, failure_count, sequence, created_at, updated_at)
      SELECT
        "accountId", id, type, 'queued', coalesce(input, 'null'), metadata, "callbackEndpointId", "callbackUrl", "callbackEvents",
        0, 0, 1, "createdAt", "createdAt"
      FROM job
    )
    INSERT INTO ringback.events (account_id, id, type, job_id, sequence, created_at)
    SELECT "accountId", "eventId", 'job.queued', id, 1, "createdAt" FROM job`;
}

export interface RunClaim {
  readonly accountId: AccountId;
  readonly jobId: JobId;
  readonly runId: RunId;
  readonly eventId: EventId;
  readonly workerId: WorkerId;
  readonly startedAt: Date;
  /** True when an earlier claim of the same queue item never ended: its worker died. */
  readonly earlierLost: boolean;
}

export interface ClaimedJob extends JobRecord {
  readonly input: unknown;
  readonly runId: RunId;
  readonly runStartedAt: Date;
}

/**
 * Starts a run of each job that has not ended, with the event of its first. Jobs that ended meanwhile (or are gone) are
 * left out of the answer. `jobs_pkey` serves the join; the row lock of the UPDATE makes a concurrent ending wait, and
 * its guard then refuses.
 */
export async function claimRuns(tx: Transaction, claims: readonly RunClaim[]): Promise<ClaimedJob[]> {
  return tx<ClaimedJob[]>`
    WITH claim AS MATERIALIZED (
      SELECT * FROM json_to_recordset(${JSON.stringify(claims)}::text::json) AS claim (
        "accountId" text, "jobId" text, "runId" text, "eventId" text, "workerId" text, "startedAt" timestamptz,
        "earlierLost" boolean)
      WHERE "jobId" LIKE 'job\\_%' -- FEW_ROWS: see database.ts
    ), claimed AS (
      UPDATE ringback.jobs AS job SET
        status = 'in_progress',
        run_count = run_count + 1,
        failure_count = failure_count + claim."earlierLost"::int,
        sequence = sequence + (run_count = 0)::int,
        started_at = coalesce(started_at, claim."startedAt"),
        run_id = claim."runId",
        run_started_at = claim."startedAt",
        worker_id = claim."workerId",
        next_run_at = NULL,
        updated_at = claim."startedAt"
      FROM claim
      WHERE job.account_id = claim."accountId" AND job.id = claim."jobId" AND job.status IN ('queued', 'in_progress')
      RETURNING job.*, claim."eventId"
    ), event AS (
      INSERT INTO ringback.events (account_id, id, type, job_id, sequence, created_at)
      SELECT account_id, "eventId", 'job.started', id, sequence, run_started_at FROM claimed WHERE run_count = 1
    )
    SELECT
      account_id AS "accountId", id, type, status, input, output, error, progress, metadata,
      callback_endpoint_id AS "callbackEndpointId", callback_url AS "callbackUrl", callback_events AS "callbackEvents",
      run_count AS "runCount", failure_count AS "failureCount", sequence, created_at AS "createdAt",
      updated_at AS "updatedAt", started_at AS "startedAt", run_id AS "runId", run_started_at AS "runStartedAt",
      worker_id AS "workerId", next_run_at AS "nextRunAt", finished_at AS "finishedAt"
    FROM claimed`;
}

/** Moves the runs of dead workers to the record. Call it before `claimRuns`, which overwrites them. */
export async function recordLostRuns(
  tx: Transaction,
  lost: ReadonlyArray<{ accountId: AccountId; jobId: JobId; now: Date }>,
): Promise<void> {
  await tx`
    INSERT INTO ringback.job_runs (account_id, id, job_id, number, status, worker_id, error, started_at, finished_at)
    SELECT job.account_id, job.run_id, job.id, job.run_count, 'lost', job.worker_id,
      '{"code":"worker_lost","message":"The worker stopped responding and its lease ran out."}',
      job.run_started_at, lost.now
    FROM json_to_recordset(${JSON.stringify(lost)}::text::json) AS lost ("accountId" text, "jobId" text, now timestamptz)
    JOIN ringback.jobs AS job ON job.account_id = lost."accountId" AND job.id = lost."jobId"
    WHERE job.run_id IS NOT NULL AND lost."jobId" LIKE 'job\\_%' -- FEW_ROWS
    `;
}

/** How one run ended, and what becomes of its job: over (with an event), or to be run again. */
export interface RunEnd {
  readonly accountId: AccountId;
  readonly jobId: JobId;
  /** The fence. */
  readonly runId: RunId;
  readonly runStatus: Exclude<EndedRunStatus, 'lost'>;
  readonly runError: JobError | null;
  readonly jobStatus: 'in_progress' | 'succeeded' | 'failed';
  readonly outputText: string | null;
  /** The last that was reported. */
  readonly progress: JobProgress | null;
  readonly nextRunAt: Date | null;
  readonly endedAt: Date;
  readonly event: { readonly id: EventId; readonly type: FinalJobEventType; readonly body: string | null } | null;
  readonly delivery: { readonly id: DeliveryId; readonly endpointId: EndpointId } | null;
}

/**
 * Ends runs: job, run, event and delivery in one statement. Answers the jobs it ended; a run that is no longer the
 * job's own (its lease ran out and another worker took over) is refused by the fence and is not among them.
 */
export async function endRuns(tx: Transaction, ends: readonly RunEnd[]): Promise<ReadonlySet<JobId>> {
  const rows = ends.map(({ outputText, event, delivery, ...end }) => {
    const flat = {
      ...end,
      eventId: event?.id,
      eventType: event?.type,
      eventBody: event?.body,
      deliveryId: delivery?.id,
      endpointId: delivery?.endpointId,
    };
    return `${toCleanJson(flat).slice(0, -1)},"output":${outputText ?? 'null'}}`;
  });
  const ended = await tx<{ id: JobId }[]>`
    WITH r AS MATERIALIZED (
      SELECT * FROM json_to_recordset(${`[${rows.join(',')}]`}::text::json) AS r (
        "accountId" text, "jobId" text, "runId" text, "runStatus" text, "runError" json, "jobStatus" text, output json,
        progress json, "nextRunAt" timestamptz, "endedAt" timestamptz, "eventId" text, "eventType" text,
        "eventBody" text, "deliveryId" text, "endpointId" text)
      WHERE "jobId" LIKE 'job\\_%' -- FEW_ROWS
    ), ended AS (
      UPDATE ringback.jobs AS job SET
        status = r."jobStatus",
        output = CASE WHEN r."jobStatus" = 'succeeded' THEN coalesce(r.output, 'null') END,
        error = CASE WHEN r."jobStatus" = 'failed' THEN r."runError" END,
        failure_count = failure_count + (r."runStatus" IN ('failed', 'timed_out'))::int,
        sequence = sequence + (r."eventId" IS NOT NULL)::int,
        progress = r.progress,
        run_id = NULL,
        next_run_at = r."nextRunAt",
        updated_at = r."endedAt",
        finished_at = CASE WHEN r."jobStatus" <> 'in_progress' THEN r."endedAt" END
      FROM r
      WHERE job.account_id = r."accountId" AND job.id = r."jobId"
        AND job.status = 'in_progress' AND job.run_id = r."runId"
      RETURNING job.account_id, job.id, job.sequence, job.run_count, job.run_started_at, job.worker_id, r.*
    ), run AS (
      INSERT INTO ringback.job_runs (account_id, id, job_id, number, status, worker_id, error, started_at, finished_at)
      SELECT account_id, "runId", id, run_count, "runStatus", worker_id, "runError", run_started_at, "endedAt" FROM ended
    ), event AS (
      INSERT INTO ringback.events (account_id, id, type, job_id, sequence, body, created_at)
      SELECT account_id, "eventId", "eventType", id, sequence, convert_to("eventBody", 'UTF8'), "endedAt"
      FROM ended WHERE "eventId" IS NOT NULL
    ), delivery AS (
      INSERT INTO ringback.deliveries (
        account_id, id, event_id, event_type, job_id, endpoint_id, status, attempt_count, next_attempt_at,
        created_at, updated_at)
      SELECT account_id, "deliveryId", "eventId", "eventType", id, "endpointId", 'pending', 0, "endedAt",
        "endedAt", "endedAt"
      FROM ended WHERE "deliveryId" IS NOT NULL
    )
    SELECT id FROM ended`;
  return new Set(ended.map(({ id }) => id));
}

/** Shows progress, unless the run is no longer the job's own. Not worth a group: a handler's calls are throttled. */
export async function setProgress(
  sql: Connection,
  run: { accountId: AccountId; jobId: JobId; runId: RunId },
  progress: JobProgress,
  now: Date,
): Promise<void> {
  await sql`
    UPDATE ringback.jobs SET progress = ${toCleanJson(progress)}::text::json, updated_at = ${now}
    WHERE account_id = ${run.accountId} AND id = ${run.jobId} AND run_id = ${run.runId}`;
}
