import { sql } from 'drizzle-orm';
import {
  boolean,
  check,
  doublePrecision,
  foreignKey,
  index,
  integer,
  json,
  primaryKey,
  text,
  unique,
} from 'drizzle-orm/pg-core';
import { type AttemptResponse, ATTEMPT_OUTCOMES, ATTEMPT_TRIGGERS } from '#domain/attempt.ts';
import { DELIVERY_STATUSES } from '#domain/delivery.ts';
import type { AccountId, AttemptId, DeliveryId, EndpointId, EventId, JobId, SecretId, WorkerId } from '#domain/ids.ts';
import { FINAL_JOB_EVENT_TYPES } from '#domain/job.ts';
import { accounts } from './accounts.ts';
import { bytes, idColumn, moment, oneOf, ringback } from './columns.ts';
import { jobs } from './jobs.ts';

export const endpoints = ringback.table(
  'endpoints',
  {
    accountId: idColumn<AccountId>('account_id').notNull(),
    id: idColumn<EndpointId>('id').notNull(),
    url: text().notNull(),
    createdAt: moment('created_at').notNull(),
    updatedAt: moment('updated_at').notNull(),
  },
  (table) => [
    primaryKey({ name: 'endpoints_pkey', columns: [table.accountId, table.id] }),
    unique('endpoints_url').on(table.accountId, table.url),
    foreignKey({ name: 'endpoints_account', columns: [table.accountId], foreignColumns: [accounts.accountId] }),
    // A btree entry holds at most 2,704 bytes.
    check('endpoints_url_length', sql.raw('octet_length(url) <= 2000')),
  ],
);

/** Encrypted at rest. Several may be active while they are being rotated. */
export const endpointSecrets = ringback.table(
  'endpoint_secrets',
  {
    accountId: idColumn<AccountId>('account_id').notNull(),
    id: idColumn<SecretId>('id').notNull(),
    endpointId: idColumn<EndpointId>('endpoint_id').notNull(),
    keyId: text('key_id').notNull(),
    ciphertext: bytes().notNull(),
    createdAt: moment('created_at').notNull(),
    expiresAt: moment('expires_at'),
  },
  (table) => [
    primaryKey({ name: 'endpoint_secrets_pkey', columns: [table.accountId, table.id] }),
    foreignKey({
      name: 'endpoint_secrets_endpoint',
      columns: [table.accountId, table.endpointId],
      foreignColumns: [endpoints.accountId, endpoints.id],
    }),
    index('endpoint_secrets_of_endpoint').on(table.endpointId),
  ],
);

export const deliveries = ringback.table(
  'deliveries',
  {
    accountId: idColumn<AccountId>('account_id').notNull(),
    id: idColumn<DeliveryId>('id').notNull(),
    eventId: idColumn<EventId>('event_id').notNull(),
    eventType: text('event_type', { enum: FINAL_JOB_EVENT_TYPES }).notNull(),
    jobId: idColumn<JobId>('job_id').notNull(),
    endpointId: idColumn<EndpointId>('endpoint_id').notNull(),
    status: text({ enum: DELIVERY_STATUSES }).notNull(),
    /** Attempts recorded so far; a settlement must match it: the fence. */
    attemptCount: integer('attempt_count').notNull(),
    nextAttemptAt: moment('next_attempt_at'),
    createdAt: moment('created_at').notNull(),
    updatedAt: moment('updated_at').notNull(),
    finishedAt: moment('finished_at'),
  },
  (table) => [
    primaryKey({ name: 'deliveries_pkey', columns: [table.accountId, table.id] }),
    // One event goes to one endpoint once.
    unique('deliveries_event_endpoint').on(table.eventId, table.endpointId, table.accountId),
    foreignKey({
      name: 'deliveries_job',
      columns: [table.accountId, table.jobId],
      foreignColumns: [jobs.accountId, jobs.id],
    }),
    index('deliveries_of_job').on(table.jobId),
    check('deliveries_status', oneOf('status', DELIVERY_STATUSES)),
    check('deliveries_event_type', oneOf('event_type', FINAL_JOB_EVENT_TYPES)),
    check('deliveries_due', sql.raw("(next_attempt_at IS NOT NULL) = (status = 'pending')")),
    check('deliveries_finished', sql.raw("(finished_at IS NOT NULL) = (status NOT IN ('pending', 'held'))")),
    check('deliveries_attempts', sql.raw('attempt_count >= 0')),
  ],
);

/** Partitioned by `started_at`. Append-only: triggers refuse UPDATE, DELETE and TRUNCATE to every role. */
export const deliveryAttempts = ringback.table(
  'delivery_attempts',
  {
    accountId: idColumn<AccountId>('account_id').notNull(),
    id: idColumn<AttemptId>('id').notNull(),
    deliveryId: idColumn<DeliveryId>('delivery_id').notNull(),
    eventId: idColumn<EventId>('event_id').notNull(),
    jobId: idColumn<JobId>('job_id').notNull(),
    endpointId: idColumn<EndpointId>('endpoint_id').notNull(),
    number: integer().notNull(),
    trigger: text({ enum: ATTEMPT_TRIGGERS }).notNull(),
    method: text().notNull(),
    url: text().notNull(),
    remoteAddress: text('remote_address'),
    requestHeaders: json('request_headers').$type<Readonly<Record<string, string>>>(),
    /** Of the body that was sent. */
    bodySha256: bytes('body_sha256'),
    bodyBytes: integer('body_bytes'),
    /** Ids of the secrets that signed. */
    signedBy: text('signed_by').array().notNull(),
    outcome: text({ enum: ATTEMPT_OUTCOMES }).notNull(),
    errorCode: text('error_code'),
    errorDetail: text('error_detail'),
    responseStatus: integer('response_status'),
    responseHeaders: json('response_headers').$type<AttemptResponse['headers']>(),
    responseBody: bytes('response_body'),
    responseBytes: integer('response_bytes'),
    responseTruncated: boolean('response_truncated'),
    dnsMs: doublePrecision('dns_ms'),
    connectMs: doublePrecision('connect_ms'),
    tlsMs: doublePrecision('tls_ms'),
    firstByteMs: doublePrecision('first_byte_ms'),
    totalMs: doublePrecision('total_ms'),
    startedAt: moment('started_at').notNull(),
    /** Null for an interrupted attempt: nobody saw it end. */
    finishedAt: moment('finished_at'),
    nextAttemptAt: moment('next_attempt_at'),
    workerId: idColumn<WorkerId>('worker_id').notNull(),
    traceId: text('trace_id'),
  },
  (table) => [
    primaryKey({ name: 'delivery_attempts_pkey', columns: [table.accountId, table.id, table.startedAt] }),
    index('delivery_attempts_of_delivery').on(table.deliveryId, table.number),
    check('delivery_attempts_outcome', oneOf('outcome', ATTEMPT_OUTCOMES)),
    check('delivery_attempts_trigger', oneOf('trigger', ATTEMPT_TRIGGERS)),
    check('delivery_attempts_number', sql.raw('number >= 1')),
    check('delivery_attempts_error', sql.raw("(error_code IS NULL) = (outcome = 'delivered')")),
    check('delivery_attempts_finished', sql.raw("(finished_at IS NULL) = (outcome = 'interrupted')")),
  ],
);
