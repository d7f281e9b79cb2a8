import { sql } from 'drizzle-orm';
import {
  boolean,
  check,
  doublePrecision,
  foreignKey,
  index,
  integer,
  json,
  jsonb,
  primaryKey,
  smallint,
  text,
  unique,
} from 'drizzle-orm/pg-core';
import type { AccountId, EndpointId, JobId, ScheduleId } from '#domain/ids.ts';
import type { CallbackEventType } from '#domain/job.ts';
import type { RetryPolicy } from '#domain/retry.ts';
import { MISFIRE_POLICIES, OVERLAP_POLICIES, type ScheduleError } from '#domain/schedule.ts';
import { accounts } from './accounts.ts';
import { bytes, idColumn, moment, oneOf, ringback } from './columns.ts';

/** The answers to submissions with an `Idempotency-Key`, written in the same statement as their job. */
export const idempotencyKeys = ringback.table(
  'idempotency_keys',
  {
    accountId: idColumn<AccountId>('account_id').notNull(),
    key: text().notNull(),
    /** SHA-256 of what was submitted: another payload under the same key is refused. */
    fingerprint: bytes().notNull(),
    jobId: idColumn<JobId>('job_id').notNull(),
    /** The body of the 202 as it was sent; encrypted when it shows a signing secret, under the key named beside it. */
    response: bytes().notNull(),
    responseKeyId: text('response_key_id'),
    createdAt: moment('created_at').notNull(),
    expiresAt: moment('expires_at').notNull(),
  },
  (table) => [
    primaryKey({ name: 'idempotency_keys_pkey', columns: [table.accountId, table.key] }),
    index('idempotency_keys_expiring').on(table.expiresAt),
    index('idempotency_keys_key')
      .on(table.responseKeyId, table.expiresAt)
      .where(sql.raw('response_key_id IS NOT NULL')),
    check('idempotency_keys_length', sql.raw('octet_length(key) BETWEEN 1 AND 255')),
    check('idempotency_keys_fingerprint', sql.raw('octet_length(fingerprint) = 32')),
  ],
);

/** Jobs that are submitted by the clock. */
export const jobSchedules = ringback.table(
  'job_schedules',
  {
    accountId: idColumn<AccountId>('account_id').notNull(),
    id: idColumn<ScheduleId>('id').notNull(),
    name: text().notNull(),
    cron: text().notNull(),
    /** IANA name. */
    timeZone: text('time_zone').notNull(),
    overlap: text({ enum: OVERLAP_POLICIES }).notNull(),
    misfire: text({ enum: MISFIRE_POLICIES }).notNull(),
    type: text().notNull(),
    input: json().notNull(),
    metadata: jsonb().$type<Readonly<Record<string, string>>>().notNull(),
    callbackEndpointId: idColumn<EndpointId>('callback_endpoint_id'),
    callbackUrl: text('callback_url'),
    callbackEvents: text('callback_events').array().$type<readonly CallbackEventType[]>(),
    priority: smallint().notNull(),
    timeoutMs: integer('timeout_ms'),
    retry: json().$type<Partial<RetryPolicy>>(),
    paused: boolean().notNull(),
    /** Null while paused. Past while nobody can fire it. */
    nextFireAt: moment('next_fire_at'),
    /** When it last submitted a job, by the clock or by hand; as is the job. */
    lastFireAt: moment('last_fire_at'),
    lastJobId: idColumn<JobId>('last_job_id'),
    /** Times that were left out because a job of the schedule had not ended. */
    overlapSkips: integer('overlap_skips').notNull(),
    /** Why its last time made no job; null when it did. */
    lastError: json('last_error').$type<ScheduleError>(),
    createdAt: moment('created_at').notNull(),
    /** Changed with every change a client makes, and never back: the fence of the next. Firing leaves it alone. */
    updatedAt: moment('updated_at').notNull(),
  },
  (table) => [
    primaryKey({ name: 'job_schedules_pkey', columns: [table.accountId, table.id] }),
    unique('job_schedules_name').on(table.accountId, table.name),
    foreignKey({ name: 'job_schedules_account', columns: [table.accountId], foreignColumns: [accounts.accountId] }),
    index('job_schedules_due').on(table.nextFireAt).where(sql.raw('next_fire_at IS NOT NULL')),
    check('job_schedules_overlap', oneOf('overlap', OVERLAP_POLICIES)),
    check('job_schedules_misfire', oneOf('misfire', MISFIRE_POLICIES)),
    check('job_schedules_paused', sql.raw('NOT (paused AND next_fire_at IS NOT NULL)')),
  ],
);

/** How each job type has been doing lately: sums that fade with time, so that every runner may add to them. */
export const jobTypeStats = ringback.table('job_type_stats', {
  type: text().primaryKey(),
  /** Runs that ended, and what they took together, as of `updated_at`. */
  runs: doublePrecision().notNull(),
  totalMs: doublePrecision('total_ms').notNull(),
  updatedAt: moment('updated_at').notNull(),
});
