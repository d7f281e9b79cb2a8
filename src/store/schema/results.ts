import { bigint, check, integer, json, primaryKey, text } from 'drizzle-orm/pg-core';
import { sql } from 'drizzle-orm';
import type { AccountId, JobId, RunId } from '#domain/ids.ts';
import { FINAL_JOB_STATUSES, LOG_LEVELS } from '#domain/job.ts';
import { bytes, idColumn, moment, oneOf, ringback } from './columns.ts';

/** Results too large, or of another type, to stand in their job's row: under the run that made them, piece by piece. */
export const resultChunks = ringback.table(
  'result_chunks',
  {
    accountId: idColumn<AccountId>('account_id').notNull(),
    runId: idColumn<RunId>('run_id').notNull(),
    /** Counts from 0; every chunk but the last has the same length. */
    number: integer().notNull(),
    bytes: bytes().notNull(),
  },
  (table) => [
    primaryKey({ name: 'result_chunks_pkey', columns: [table.accountId, table.runId, table.number] }),
    check('result_chunks_number', sql.raw('number >= 0')),
  ],
);

/** What handlers say while they run. Partitioned by `created_at`, append-only. */
export const jobLogs = ringback.table(
  'job_logs',
  {
    accountId: idColumn<AccountId>('account_id').notNull(),
    jobId: idColumn<JobId>('job_id').notNull(),
    /** Grows within a job: the run's number times a million, and the line within the run. */
    position: bigint({ mode: 'number' }).notNull(),
    runId: idColumn<RunId>('run_id').notNull(),
    level: text({ enum: LOG_LEVELS }).notNull(),
    message: text().notNull(),
    fields: json().$type<Readonly<Record<string, unknown>>>(),
    createdAt: moment('created_at').notNull(),
  },
  (table) => [
    primaryKey({ name: 'job_logs_pkey', columns: [table.accountId, table.jobId, table.position, table.createdAt] }),
    check('job_logs_level', oneOf('level', LOG_LEVELS)),
  ],
);

/** What is left of a job when its time is over: that it was, and how it ended. */
export const jobTombstones = ringback.table(
  'job_tombstones',
  {
    accountId: idColumn<AccountId>('account_id').notNull(),
    id: idColumn<JobId>('id').notNull(),
    type: text().notNull(),
    status: text({ enum: FINAL_JOB_STATUSES }).notNull(),
    createdAt: moment('created_at').notNull(),
    finishedAt: moment('finished_at').notNull(),
    expiredAt: moment('expired_at').notNull(),
  },
  (table) => [
    primaryKey({ name: 'job_tombstones_pkey', columns: [table.accountId, table.id] }),
    check('job_tombstones_status', oneOf('status', FINAL_JOB_STATUSES)),
  ],
);
