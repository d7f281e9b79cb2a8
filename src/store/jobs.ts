import type { AccountId, DeliveryId, EndpointId, EventId, JobId, RunId, ScheduleId } from '#domain/ids.ts';
import type { CallbackEventType, JobProgress } from '#domain/job.ts';
import { toCleanJson } from '#domain/json.ts';
import type { RetryPolicy } from '#domain/retry.ts';
import type { Connection } from './database.ts';
import { fanOut, isSubscribed } from './fan-out.ts';
import type { jobs } from './schema/jobs.ts';

/**
 * A job as its row has it, without the input, which clients have already and which may be large, and without what only
 * statements go by.
 */
export interface JobRecord extends Readonly<
  Omit<typeof jobs.$inferSelect, 'input' | 'output' | 'isTold' | 'progressToldAt'>
> {
  /** An inline result: JSON as it was handed in. */
  readonly outputText: string | null;
}

export interface NewJob {
  readonly accountId: AccountId;
  readonly id: JobId;
  readonly eventId: EventId;
  readonly type: string;
  readonly pool: string;
  /** JSON as it was submitted. */
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

/** A job with what tells of its submission. */
export interface StorableJob extends NewJob {
  /** The callback's body as JSON, should somebody want to hear of it; and the delivery to where the job itself says. */
  readonly queuedBody: string;
  readonly queuedDeliveryId: DeliveryId | null;
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

export interface InsertedJobs {
  /** A job whose idempotency key is taken is left out, and nothing of it is written. */
  readonly ids: ReadonlySet<JobId>;
  /** Somebody is to be told of any of them. */
  readonly isToTell: boolean;
}

/**
 * Inserts jobs, each with its first event and its place in the queue. Hardly anybody wants to hear of submissions: only when a job
 * says so, or when a first statement finds an endpoint that does and therefore inserts nothing, are they told of. To look for
 * receivers every time made the statement 11 to 18 % slower.
 */
export async function insertJobs(sql: Connection, jobs: readonly StorableJob[]): Promise<InsertedJobs> {
  const silently = jobs.some(({ queuedDeliveryId }) => queuedDeliveryId !== null)
    ? undefined
    : await insert(sql, jobs, { andTell: false });
  return silently ?? (await insert(sql, jobs, { andTell: true }))!;
}

/**
 * Two under one key at once: the second waits at the primary key's index for the first to commit. Here as below, rows
 * travel as one JSON text a statement, whatever their number: one parameter, one prepared statement. The cast goes through
 * text because postgres.js would quote a parameter of type json a second time.
 */
async function insert(
  sql: Connection,
  jobs: readonly StorableJob[],
  { andTell }: { readonly andTell: boolean },
): Promise<InsertedJobs | undefined> {
  const rows = jobs.map(({ queuedBody, queuedDeliveryId, idempotency, ...job }) => {
    const flat = { ...job, idempotencyKey: idempotency?.key, ...idempotency, keyExpiresAt: idempotency?.expiresAt };
    const columns = JSON.stringify({ ...flat, expiresAt: job.expiresAt }).slice(0, -1);
    const told = andTell ? `,"queuedBody":${queuedBody},"queuedDeliveryId":${JSON.stringify(queuedDeliveryId)}` : '';
    return `${columns}${told}}`;
  });
  const telling = andTell ? tellingOf(sql) : silence(sql);
  const inserted = await sql<{ id: JobId | null; isWanted: boolean; isToTell: boolean }[]>`
    WITH given AS MATERIALIZED (
      SELECT * FROM json_to_recordset(${`[${rows.join(',')}]`}::text::json) AS given (
        "accountId" text, id text, "eventId" text, type text, pool text, "inputText" text, metadata jsonb, priority smallint,
        "timeoutMs" int, "runTimeoutMs" int, retry json, "runAt" timestamptz, "expiresAt" timestamptz, "scheduleId" text,
        "scheduledFor" timestamptz, "callbackEndpointId" text, "callbackUrl" text, "callbackEvents" text[],
        "createdAt" timestamptz, "idempotencyKey" text, fingerprint text, response text, "responseKeyId" text,
        "keyExpiresAt" timestamptz${telling.columns})
    ), wanted AS MATERIALIZED (
      SELECT ${telling.isWanted} AS "isWanted"
    ), key AS (
      INSERT INTO ringback.idempotency_keys (
        account_id, key, fingerprint, job_id, response, response_key_id, created_at, expires_at)
      SELECT "accountId", "idempotencyKey", decode(fingerprint, 'hex'), id, decode(response, 'base64'), "responseKeyId",
        "createdAt", "keyExpiresAt"
      FROM given WHERE "idempotencyKey" IS NOT NULL AND NOT (SELECT "isWanted" FROM wanted)
      ORDER BY "accountId", "idempotencyKey" -- groups of two processes wait for each other in one direction only
      ON CONFLICT (account_id, key) DO UPDATE SET
        fingerprint = excluded.fingerprint, job_id = excluded.job_id, response = excluded.response,
        response_key_id = excluded.response_key_id, created_at = excluded.created_at, expires_at = excluded.expires_at
      WHERE idempotency_keys.expires_at <= excluded.created_at
      RETURNING job_id
    ), job AS MATERIALIZED (
      SELECT * FROM given
      WHERE NOT (SELECT "isWanted" FROM wanted) AND ("idempotencyKey" IS NULL OR id IN (SELECT job_id FROM key))
    ), ${telling.deliveries} inserted AS (
      INSERT INTO ringback.jobs (
        account_id, id, type, status, input, metadata, priority, timeout_ms, retry, run_at, expires_at, schedule_id,
        scheduled_for, callback_endpoint_id, callback_url, callback_events, run_count, failure_count, sequence,
        is_told, created_at, updated_at)
      SELECT
        "accountId", id, type, 'queued', "inputText"::json, metadata, priority, "timeoutMs", retry, "runAt",
        "expiresAt", "scheduleId", "scheduledFor", "callbackEndpointId", "callbackUrl", "callbackEvents", 0, 0, 1,
        ${telling.isTold}, "createdAt", "createdAt"
      FROM job
    ), queued AS (
      INSERT INTO ringback.run_queue (
        account_id, job_id, type, pool, state, priority, timeout_ms, schedule_id, due_at, expires_at)
      SELECT "accountId", id, type, pool, CASE WHEN "runAt" IS NULL THEN 'ready' ELSE 'delayed' END, priority,
        "runTimeoutMs", "scheduleId", coalesce("runAt", "createdAt"), "expiresAt"
      FROM job
    ), event AS (
      INSERT INTO ringback.events (account_id, id, type, job_id, sequence, body, created_at)
      SELECT "accountId", "eventId", 'job.queued', id, 1,
        ${telling.body}, "createdAt"
      FROM job
    )
    SELECT job.id, "isWanted", ${telling.isToTell} AS "isToTell" FROM wanted LEFT JOIN job ON true`;
  const { isWanted, isToTell } = inserted[0]!;
  return isWanted ? undefined : { ids: new Set(inserted.flatMap(({ id }) => id ?? [])), isToTell };
}

/** For jobs of which nobody wants to hear when they are submitted: finds out whether that is so. */
const silence = (sql: Connection) => ({
  isWanted: sql`EXISTS (
    SELECT FROM (SELECT DISTINCT "accountId" AS id FROM given) AS account JOIN ringback.endpoints AS endpoint
      ON ${isSubscribed(sql, sql`account.id`, sql`'job.queued'`)})`,
  columns: sql``,
  deliveries: sql``,
  isTold: sql`false`,
  body: sql`NULL::bytea`,
  isToTell: sql`false`,
});

const tellingOf = (sql: Connection) => ({
  isWanted: sql`false`,
  columns: sql`, "queuedBody" json, "queuedDeliveryId" text`,
  deliveries: sql`
    told AS MATERIALIZED (
      SELECT "accountId" AS account_id, id AS job_id, "eventId" AS event_id, 'job.queued' AS event_type, "createdAt" AS told_at,
        "queuedDeliveryId" AS delivery_id, "callbackEndpointId" AS endpoint_id, false AS is_told
      FROM job
    ), ${fanOut(sql)},`,
  isTold: sql`EXISTS (SELECT FROM target WHERE target.job_id = job.id)`,
  body: sql`CASE WHEN EXISTS (SELECT FROM target WHERE target.job_id = job.id) THEN convert_to("queuedBody"::text, 'UTF8') END`,
  isToTell: sql`EXISTS (SELECT FROM target WHERE is_due)`,
});

export interface ShownProgress {
  /** When it may be told, in milliseconds from now; null when nobody wants to hear of it. */
  readonly tellInMs: number | null;
}

/**
 * Shows progress; undefined when the run is no longer the job's own, and nothing is. Not worth a group: a handler's calls
 * are throttled.
 */
export async function setProgress(
  sql: Connection,
  run: { accountId: AccountId; jobId: JobId; runId: RunId },
  progress: JobProgress,
  { now, tellEveryMs }: { now: Date; tellEveryMs: number },
): Promise<ShownProgress | undefined> {
  const [shown] = await sql<ShownProgress[]>`
    UPDATE ringback.jobs AS job SET progress = ${toCleanJson(progress)}::text::json, updated_at = ${now}
    WHERE account_id = ${run.accountId} AND id = ${run.jobId} AND run_id = ${run.runId}
    RETURNING CASE WHEN coalesce('job.progress' = ANY (callback_events), false) OR EXISTS (
        SELECT FROM ringback.endpoints AS endpoint WHERE ${isSubscribed(sql, sql`job.account_id`, sql`'job.progress'`)})
      THEN greatest(0, coalesce(ceil(extract(epoch FROM progress_told_at - ${now}::timestamptz) * 1000 + ${tellEveryMs}), 0))::int
      END AS "tellInMs"`;
  return shown;
}
