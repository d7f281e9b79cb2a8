import type { AccountId, EndpointId, EventId, JobId, RunId, ScheduleId } from '#domain/ids.ts';
import type { CallbackEventType, JobProgress } from '#domain/job.ts';
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
  readonly callbackEvents: readonly CallbackEventType[] | null;
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
