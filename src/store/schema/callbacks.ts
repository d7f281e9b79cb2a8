import { sql } from 'drizzle-orm';
import {
  bigint,
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
  uniqueIndex,
} from 'drizzle-orm/pg-core';
import { type AttemptResponse, ATTEMPT_OUTCOMES, ATTEMPT_TRIGGERS } from '#domain/attempt.ts';
import { CIRCUIT_STATES } from '#domain/circuit.ts';
import { DELIVERY_STATUSES } from '#domain/delivery.ts';
import {
  DELIVERY_ORDERS,
  DISABLED_REASONS,
  ENDPOINT_STATUSES,
  SUBSCRIBABLE_EVENT_TYPES,
} from '#domain/endpoint-policy.ts';
import type { AccountId, AttemptId, DeliveryId, EndpointId, EventId, JobId, SecretId, WorkerId } from '#domain/ids.ts';
import { SIGNATURE_SCHEMES } from '#domain/signature.ts';
import { accounts } from './accounts.ts';
import { bytes, idColumn, moment, oneOf, ringback } from './columns.ts';
import { jobs } from './jobs.ts';

export const endpoints = ringback.table(
  'endpoints',
  {
    accountId: idColumn<AccountId>('account_id').notNull(),
    id: idColumn<EndpointId>('id').notNull(),
    url: text().notNull(),
    description: text(),
    metadata: jsonb().$type<Readonly<Record<string, string>>>().notNull().default({}),
    /** Of which events of the whole account it is told; empty for one that only jobs name. */
    eventTypes: text('event_types').array().notNull().default([]),
    /** Sent with every request besides ours. */
    headers: jsonb().$type<Readonly<Record<string, string>>>().notNull().default({}),
    /** Null here and below: what the configuration says for every endpoint. */
    timeoutMs: integer('timeout_ms'),
    /** Attempts at once, and a second, in all processes together. */
    concurrency: integer(),
    ratePerSecond: doublePrecision('rate_per_second'),
    /** Delays before each attempt, in milliseconds. */
    retrySchedule: integer('retry_schedule').array(),
    ordering: text({ enum: DELIVERY_ORDERS }).notNull().default('job'),
    status: text({ enum: ENDPOINT_STATUSES }).notNull().default('enabled'),
    disabledReason: text('disabled_reason', { enum: DISABLED_REASONS }),
    /** False for a URL that only jobs have named. */
    isRegistered: boolean('is_registered').notNull().default(true),
    /** PEM: authorities that its certificate may be signed by, instead of the well-known ones. */
    tlsAuthorities: text('tls_authorities'),
    /** PEM: what we show it of ourselves; the key is encrypted at rest. */
    tlsCertificate: text('tls_certificate'),
    tlsKeyId: text('tls_key_id'),
    tlsKeyCiphertext: bytes('tls_key_ciphertext'),
    createdAt: moment('created_at').notNull(),
    updatedAt: moment('updated_at').notNull(),
    /** Kept for the record: deliveries and attempts name it. */
    deletedAt: moment('deleted_at'),
  },
  (table) => [
    primaryKey({ name: 'endpoints_pkey', columns: [table.accountId, table.id] }),
    index('endpoints_tls_key').on(table.tlsKeyId).where(sql.raw('tls_key_id IS NOT NULL')),
    uniqueIndex('endpoints_url').on(table.accountId, table.url).where(sql.raw('deleted_at IS NULL')),
    // By an expression, so that nothing else takes it for the account's endpoints, nor those for it (docs/decisions/0003).
    index('endpoints_subscribed')
      .on(sql.raw(`(account_id || '')`))
      .where(sql.raw("event_types <> '{}' AND deleted_at IS NULL")),
    check('endpoints_status', oneOf('status', ENDPOINT_STATUSES)),
    check('endpoints_ordering', oneOf('ordering', DELIVERY_ORDERS)),
    check('endpoints_disabled_reason', oneOf('disabled_reason', DISABLED_REASONS)),
    check('endpoints_disabled', sql.raw("(disabled_reason IS NOT NULL) = (status = 'disabled')")),
    check('endpoints_tls_identity', sql.raw('num_nulls(tls_certificate, tls_key_id, tls_key_ciphertext) IN (0, 3)')),
    check('endpoints_limits', sql.raw('timeout_ms > 0 AND concurrency > 0 AND rate_per_second > 0')),
    check('endpoints_retry_schedule', sql.raw('cardinality(retry_schedule) > 0')),
    foreignKey({ name: 'endpoints_account', columns: [table.accountId], foreignColumns: [accounts.accountId] }),
    // A btree entry holds at most 2,704 bytes.
    check('endpoints_url_length', sql.raw('octet_length(url) <= 2000')),
  ],
);

/** How an endpoint has been doing. Made with it; written by settlements that change it. */
export const endpointHealth = ringback.table(
  'endpoint_health',
  {
    accountId: idColumn<AccountId>('account_id').notNull(),
    endpointId: idColumn<EndpointId>('endpoint_id').notNull(),
    circuit: text({ enum: CIRCUIT_STATES }).notNull().default('closed'),
    /** Nothing is sent before. */
    resumeAt: moment('resume_at'),
    /** Attempts at once while it recovers; null when it has. */
    allowance: integer(),
    /** Pauses in a row: each is twice as long as the one before. */
    level: smallint().notNull().default(0),
    consecutiveFailures: integer('consecutive_failures').notNull().default(0),
    failingSince: moment('failing_since'),
    lastSuccessAt: moment('last_success_at'),
    lastFailureAt: moment('last_failure_at'),
  },
  (table) => [
    primaryKey({ name: 'endpoint_health_pkey', columns: [table.accountId, table.endpointId] }),
    foreignKey({
      name: 'endpoint_health_endpoint',
      columns: [table.accountId, table.endpointId],
      foreignColumns: [endpoints.accountId, endpoints.id],
    }),
    check('endpoint_health_circuit', oneOf('circuit', CIRCUIT_STATES)),
    check('endpoint_health_failing', sql.raw('(failing_since IS NOT NULL) = (consecutive_failures > 0)')),
    check('endpoint_health_open', sql.raw("circuit = 'closed' OR resume_at IS NOT NULL")),
  ],
);

/** What claims of one endpoint must agree on: who claimed last, and what its rate still allows. Made with the endpoint. */
export const endpointLanes = ringback.table(
  'endpoint_lanes',
  {
    accountId: idColumn<AccountId>('account_id').notNull(),
    endpointId: idColumn<EndpointId>('endpoint_id').notNull(),
    /** Counts the claims that minded a limit: the fence between two at once. */
    claims: bigint({ mode: 'number' }).notNull().default(0),
    /** When the attempts so far will have been worth their time at the endpoint's rate. */
    paidUntil: moment('paid_until'),
    /** Of an endpoint that keeps its order: when what is first may be tried again. */
    blockedUntil: moment('blocked_until'),
  },
  (table) => [
    primaryKey({ name: 'endpoint_lanes_pkey', columns: [table.accountId, table.endpointId] }),
    foreignKey({
      name: 'endpoint_lanes_endpoint',
      columns: [table.accountId, table.endpointId],
      foreignColumns: [endpoints.accountId, endpoints.id],
    }),
  ],
);

/** Encrypted at rest. Several may be active while they are being rotated. */
export const endpointSecrets = ringback.table(
  'endpoint_secrets',
  {
    accountId: idColumn<AccountId>('account_id').notNull(),
    id: idColumn<SecretId>('id').notNull(),
    endpointId: idColumn<EndpointId>('endpoint_id').notNull(),
    scheme: text({ enum: SIGNATURE_SCHEMES }).notNull().default('v1'),
    /** Of an ed25519 key: the raw 32 bytes, for everybody to see. */
    publicKey: bytes('public_key'),
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
    // With which keys secrets are sealed that still sign: asked at every start.
    index('endpoint_secrets_key').on(table.keyId, table.expiresAt),
    check('endpoint_secrets_scheme', oneOf('scheme', SIGNATURE_SCHEMES)),
    check(
      'endpoint_secrets_public_key',
      sql.raw("(octet_length(public_key) = 32) IS NOT DISTINCT FROM CASE WHEN scheme = 'v1a' THEN true END"),
    ),
  ],
);

export const deliveries = ringback.table(
  'deliveries',
  {
    accountId: idColumn<AccountId>('account_id').notNull(),
    id: idColumn<DeliveryId>('id').notNull(),
    eventId: idColumn<EventId>('event_id').notNull(),
    eventType: text('event_type', { enum: SUBSCRIBABLE_EVENT_TYPES }).notNull(),
    /** Null for what is no job's event. */
    jobId: idColumn<JobId>('job_id'),
    endpointId: idColumn<EndpointId>('endpoint_id').notNull(),
    /** In which they were made: what an endpoint's order goes by. */
    position: bigint({ mode: 'number' }).notNull().generatedAlwaysAsIdentity(),
    status: text({ enum: DELIVERY_STATUSES }).notNull(),
    /** Attempts recorded so far; a settlement must match it: the fence. */
    attemptCount: integer('attempt_count').notNull(),
    /** Attempts that had been made when its schedule began: more than 0 once it was sent again; null for once and no more. */
    scheduleFrom: integer('schedule_from').default(0),
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
    index('deliveries_of_endpoint').on(table.endpointId, table.id),
    check('deliveries_status', oneOf('status', DELIVERY_STATUSES)),
    check('deliveries_event_type', oneOf('event_type', SUBSCRIBABLE_EVENT_TYPES)),
    check('deliveries_due', sql.raw("(next_attempt_at IS NOT NULL) = (status = 'pending')")),
    check('deliveries_finished', sql.raw("(finished_at IS NOT NULL) = (status NOT IN ('pending', 'held'))")),
    check('deliveries_attempts', sql.raw('attempt_count >= 0 AND schedule_from <= attempt_count')),
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
    jobId: idColumn<JobId>('job_id'),
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
    index('delivery_attempts_of_job').on(table.jobId),
    check('delivery_attempts_outcome', oneOf('outcome', ATTEMPT_OUTCOMES)),
    check('delivery_attempts_trigger', oneOf('trigger', ATTEMPT_TRIGGERS)),
    check('delivery_attempts_number', sql.raw('number >= 1')),
    check('delivery_attempts_error', sql.raw("(error_code IS NULL) = (outcome = 'delivered')")),
    check('delivery_attempts_finished', sql.raw("(finished_at IS NULL) = (outcome = 'interrupted')")),
  ],
);
