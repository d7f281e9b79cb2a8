import { sql } from 'drizzle-orm';
import { bigint, boolean, check, index, integer, json, jsonb, primaryKey, smallint, text } from 'drizzle-orm/pg-core';
import {
  type CallbackEventType,
  type JobError,
  type JobProgress,
  FINAL_JOB_STATUSES,
  JOB_STATUSES,
  ENDED_RUN_STATUSES,
} from '#domain/job.ts';
import { EVENT_TYPES } from '#domain/event-type.ts';
import type { AccountId, EndpointId, EventId, JobId, RunId, ScheduleId } from '#domain/ids.ts';
import type { RetryPolicy } from '#domain/retry.ts';
import { bytes, idColumn, moment, oneOf, ringback, transactionId } from './columns.ts';

/**
 * `input` and `output` are json, not jsonb: they go back as they came, character by character, and cost no re-encoding. For
 * that they travel as text, both ways. No index names a column that changes, so that both updates of a job are heap-only.
 */
export const jobs = ringback.table(
  'jobs',
  {
    accountId: idColumn<AccountId>('account_id').notNull(),
    id: idColumn<JobId>('id').notNull(),
    type: text().notNull(),
    status: text({ enum: JOB_STATUSES }).notNull(),
    input: json().notNull(),
    output: json(),
    error: json().$type<JobError>(),
    progress: json().$type<JobProgress>(),
    metadata: jsonb().$type<Readonly<Record<string, string>>>().notNull(),
    priority: smallint().notNull(),
    /** As the submission asked; null leaves it to the job type. */
    timeoutMs: integer('timeout_ms'),
    retry: json().$type<Partial<RetryPolicy>>(),
    runAt: moment('run_at'),
    expiresAt: moment('expires_at'),
    scheduleId: idColumn<ScheduleId>('schedule_id'),
    /** The time of the schedule that it was submitted for; null when it was triggered by hand. */
    scheduledFor: moment('scheduled_for'),
    /** A result that is not inline: in `result_chunks` under the run that made it. */
    resultRunId: idColumn<RunId>('result_run_id'),
    resultType: text('result_type'),
    resultBytes: bigint('result_bytes', { mode: 'number' }),
    resultSha256: bytes('result_sha256'),
    callbackEndpointId: idColumn<EndpointId>('callback_endpoint_id'),
    callbackUrl: text('callback_url'),
    callbackEvents: text('callback_events').array().$type<readonly CallbackEventType[]>(),
    /** Runs started so far; every later write of a run must match it: the fence. */
    runCount: integer('run_count').notNull(),
    /** Runs that failed, timed out or were lost; released ones do not count against the limit. */
    failureCount: integer('failure_count').notNull(),
    /** Events so far: the next event of this job takes the next number. */
    sequence: integer().notNull(),
    /** Its first run was claimed, and whoever has it will tell of that before the work begins. */
    isStartUntold: boolean('is_start_untold').notNull().default(false),
    /** Some event of it has been told before its last: those that follow keep their order. */
    isTold: boolean('is_told').notNull().default(false),
    /** When its progress was last told. */
    progressToldAt: moment('progress_told_at'),
    createdAt: moment('created_at').notNull(),
    updatedAt: moment('updated_at').notNull(),
    startedAt: moment('started_at'),
    /** The run under way; it goes on record in `job_runs` when it ends. */
    runId: idColumn<RunId>('run_id'),
    /** Of the latest run, as is the worker. */
    runStartedAt: moment('run_started_at'),
    workerId: text('worker_id'),
    nextRunAt: moment('next_run_at'),
    /** A cancel that came while a run was under way: it has yet to stop. */
    cancelRequestedAt: moment('cancel_requested_at'),
    finishedAt: moment('finished_at'),
  },
  (table) => [
    primaryKey({ name: 'jobs_pkey', columns: [table.accountId, table.id] }),
    check('jobs_status', oneOf('status', JOB_STATUSES)),
    check('jobs_finished', sql.raw(`(finished_at IS NOT NULL) = (status IN (${quoted(FINAL_JOB_STATUSES)}))`)),
    check('jobs_started', sql.raw("status NOT IN ('in_progress', 'succeeded') OR started_at IS NOT NULL")),
    check('jobs_output', sql.raw("(num_nonnulls(output, result_run_id) = 1) = (status = 'succeeded')")),
    check('jobs_one_output', sql.raw('num_nonnulls(output, result_run_id) <= 1')),
    check('jobs_result', sql.raw('num_nulls(result_run_id, result_type, result_bytes, result_sha256) IN (0, 4)')),
    check('jobs_error', sql.raw("(error IS NOT NULL) = (status IN ('failed', 'canceled', 'expired'))")),
    check('jobs_run', sql.raw('num_nulls(run_started_at, worker_id) = CASE WHEN run_count = 0 THEN 2 ELSE 0 END')),
    check(
      'jobs_running',
      sql.raw("run_id IS NULL OR (status = 'in_progress' AND next_run_at IS NULL AND run_count > 0)"),
    ),
    check('jobs_start_untold', sql.raw('NOT is_start_untold OR run_count > 0')),
    check('jobs_next_run', sql.raw("next_run_at IS NULL OR status = 'in_progress'")),
    check('jobs_callback', sql.raw('(callback_endpoint_id IS NULL) = (callback_url IS NULL)')),
    check('jobs_metadata', sql.raw("jsonb_typeof(metadata) = 'object'")),
    index('jobs_by_metadata').using('gin', sql.raw('metadata jsonb_path_ops')).where(sql.raw("metadata <> '{}'")),
    check('jobs_priority', sql.raw('priority BETWEEN -100 AND 100')),
    check('jobs_counts', sql.raw('run_count >= failure_count AND failure_count >= 0 AND sequence >= 1')),
  ],
);

/** The runs that have ended; they outlive their job's row. Partitioned by `started_at`, append-only; the run under way is in its job's row. */
export const jobRuns = ringback.table(
  'job_runs',
  {
    accountId: idColumn<AccountId>('account_id').notNull(),
    id: idColumn<RunId>('id').notNull(),
    jobId: idColumn<JobId>('job_id').notNull(),
    number: integer().notNull(),
    status: text({ enum: ENDED_RUN_STATUSES }).notNull(),
    workerId: text('worker_id').notNull(),
    error: json().$type<JobError>(),
    /** Of the handler that failed, for operators; never shown to clients. */
    stack: text(),
    startedAt: moment('started_at').notNull(),
    finishedAt: moment('finished_at').notNull(),
  },
  (table) => [
    primaryKey({ name: 'job_runs_pkey', columns: [table.accountId, table.id, table.startedAt] }),
    index('job_runs_of_job').on(table.jobId, table.number),
    check('job_runs_status', oneOf('status', ENDED_RUN_STATUSES)),
    check('job_runs_number', sql.raw('number >= 1')),
    check('job_runs_error', sql.raw("(error IS NULL) = (status IN ('succeeded', 'released'))")),
  ],
);

/** Partitioned by `created_at`, which is the moment inside the id. Immutable. */
export const events = ringback.table(
  'events',
  {
    accountId: idColumn<AccountId>('account_id').notNull(),
    id: idColumn<EventId>('id').notNull(),
    type: text({ enum: EVENT_TYPES }).notNull(),
    /** Null for what is no job's event, as is its number within the job. */
    jobId: idColumn<JobId>('job_id'),
    sequence: integer(),
    /** The callback's bytes, rendered once; null for events that nobody can be told of. */
    body: bytes(),
    createdAt: moment('created_at').notNull(),
    /** Of the transaction that wrote it: orders the feed without gaps, see docs/decisions/0010. */
    xid: transactionId().notNull(),
  },
  (table) => [
    primaryKey({ name: 'events_pkey', columns: [table.accountId, table.id, table.createdAt] }),
    index('events_of_job').on(table.jobId, table.sequence),
    // By an expression, so that no look-up of an event by its key can take this index (docs/decisions/0003).
    index('events_feed').on(sql.raw(`(account_id || '')`), table.xid, table.id),
    check('events_type', oneOf('type', EVENT_TYPES)),
    check('events_of_a_job', sql.raw("num_nulls(job_id, sequence) = CASE WHEN type LIKE 'job.%' THEN 0 ELSE 2 END")),
  ],
);

function quoted(values: readonly string[]): string {
  return values.map((value) => `'${value}'`).join(', ');
}
