import type { AttemptResult, ATTEMPT_TRIGGERS } from '#domain/attempt.ts';
import type { DeliveryVerdict } from '#domain/delivery.ts';
import type { AccountId, AttemptId, DeliveryId, EndpointId, EventId, JobId, SecretId, WorkerId } from '#domain/ids.ts';
import type { FinalJobEventType } from '#domain/job.ts';
import { toCleanJson } from '#domain/json.ts';
import type { Transaction } from './database.ts';

export interface DeliveryKey {
  readonly accountId: AccountId;
  readonly deliveryId: DeliveryId;
  readonly eventId: EventId;
  readonly endpointId: EndpointId;
  /** The event's moment, which is inside its id: it picks the one partition to read. */
  readonly eventCreatedAt: Date;
}

/** A delivery that is due, with the bytes to send. */
export interface DueDelivery {
  readonly accountId: AccountId;
  readonly id: DeliveryId;
  readonly eventId: EventId;
  readonly eventType: FinalJobEventType;
  readonly jobId: JobId;
  readonly endpointId: EndpointId;
  readonly attemptCount: number;
  readonly body: Uint8Array;
}

/** Those of the deliveries that are still to be made. */
export async function readDueDeliveries(tx: Transaction, keys: readonly DeliveryKey[]): Promise<DueDelivery[]> {
  return tx<DueDelivery[]>`
    SELECT
      delivery.account_id AS "accountId", delivery.id, delivery.event_id AS "eventId",
      delivery.event_type AS "eventType", delivery.job_id AS "jobId", delivery.endpoint_id AS "endpointId",
      delivery.attempt_count AS "attemptCount",
      (SELECT event.body FROM ringback.events AS event
        WHERE event.account_id = delivery.account_id AND event.id = delivery.event_id
          AND event.created_at = key."eventCreatedAt") AS body
    FROM json_to_recordset(${JSON.stringify(keys)}::text::json) AS key (
      "accountId" text, "deliveryId" text, "eventCreatedAt" timestamptz)
    JOIN ringback.deliveries AS delivery
      ON delivery.account_id = key."accountId" AND delivery.id = key."deliveryId" AND delivery.status = 'pending'
    WHERE key."deliveryId" LIKE 'dlv\\_%' -- FEW_ROWS
    `;
}

/** Where a group of deliveries goes, and the sealed secrets that sign now. */
export interface SealedDestination {
  readonly accountId: AccountId;
  readonly endpointId: EndpointId;
  readonly url: string;
  readonly secrets: ReadonlyArray<{ id: SecretId; keyId: string; ciphertext: string }>;
}

/** Each endpoint once, however many deliveries go there; read afresh with every claim, so that no cache can be stale. */
export async function readDestinations(
  tx: Transaction,
  keys: ReadonlyArray<{ accountId: AccountId; endpointId: EndpointId }>,
  now: Date,
): Promise<SealedDestination[]> {
  return tx<SealedDestination[]>`
    SELECT
      endpoint.account_id AS "accountId", endpoint.id AS "endpointId", endpoint.url,
      (SELECT coalesce(json_agg(json_build_object(
          'id', secret.id, 'keyId', secret.key_id, 'ciphertext', encode(secret.ciphertext, 'base64'))
          ORDER BY secret.id DESC), '[]')
        FROM ringback.endpoint_secrets AS secret
        WHERE secret.account_id = endpoint.account_id AND secret.endpoint_id = endpoint.id
          AND (secret.expires_at IS NULL OR secret.expires_at > ${now})) AS secrets
    FROM json_to_recordset(${JSON.stringify(keys)}::text::json) AS key ("accountId" text, "endpointId" text)
    JOIN ringback.endpoints AS endpoint ON endpoint.account_id = key."accountId" AND endpoint.id = key."endpointId"`;
}

export interface LostClaim {
  readonly accountId: AccountId;
  readonly deliveryId: DeliveryId;
  readonly attemptId: AttemptId;
  readonly workerId: WorkerId;
  readonly now: Date;
}

/**
 * Records the attempts of couriers that died between claiming and settling: the receiver may have seen the request.
 * Runs in the transaction of the claim that found out, so that each lost claim leaves exactly one attempt.
 */
export async function recordInterrupted(tx: Transaction, lost: readonly LostClaim[]): Promise<void> {
  await tx`
    WITH lost AS MATERIALIZED (
      SELECT * FROM json_to_recordset(${JSON.stringify(lost)}::text::json) AS lost (
        "accountId" text, "deliveryId" text, "attemptId" text, "workerId" text, now timestamptz)
      WHERE "deliveryId" LIKE 'dlv\\_%' -- FEW_ROWS
    ), delivery AS (
      UPDATE ringback.deliveries AS delivery SET attempt_count = attempt_count + 1, updated_at = lost.now
      FROM lost
      WHERE delivery.account_id = lost."accountId" AND delivery.id = lost."deliveryId" AND delivery.status = 'pending'
      RETURNING delivery.*, lost."attemptId", lost."workerId", lost.now
    )
    INSERT INTO ringback.delivery_attempts (
      account_id, id, delivery_id, event_id, job_id, endpoint_id, number, trigger, method, url, signed_by, outcome,
      error_code, error_detail, started_at, next_attempt_at, worker_id)
    SELECT
      delivery.account_id, "attemptId", delivery.id, event_id, job_id, endpoint_id, attempt_count, 'scheduled', 'POST',
      endpoint.url, '{}', 'interrupted', 'courier_lost',
      'The courier stopped before it recorded an answer; the receiver may have seen this request.', now, now, "workerId"
    FROM delivery
    JOIN ringback.endpoints AS endpoint
      ON endpoint.account_id = delivery.account_id AND endpoint.id = delivery.endpoint_id`;
}

/** An attempt that was made, and what becomes of its delivery. */
export interface Settlement {
  readonly delivery: DueDelivery;
  readonly attemptId: AttemptId;
  /** Counts from 1; the fence: the delivery must have one attempt less. */
  readonly number: number;
  readonly trigger: (typeof ATTEMPT_TRIGGERS)[number];
  readonly url: string;
  readonly requestHeaders: Readonly<Record<string, string>>;
  readonly bodySha256: string;
  readonly signedBy: readonly SecretId[];
  readonly result: AttemptResult;
  readonly verdict: DeliveryVerdict;
  readonly workerId: WorkerId;
}

function toRow({ delivery, result, verdict, ...settlement }: Settlement): object {
  const { response, timings, ...rest } = result;
  return {
    accountId: delivery.accountId,
    deliveryId: delivery.id,
    eventId: delivery.eventId,
    jobId: delivery.jobId,
    endpointId: delivery.endpointId,
    bodyBytes: delivery.body.length,
    ...settlement,
    ...rest,
    ...timings,
    ...verdict,
    responseStatus: response?.status,
    responseHeaders: response?.headers,
    // Base64: the bytes need not be text, and may hold NUL.
    responseBody: response === null ? null : Buffer.from(response.bodyPrefix).toString('base64'),
    responseBytes: response?.bodyBytes,
    responseTruncated: response?.truncated,
  };
}

/**
 * Settles attempts: the delivery's state and the attempt's row in one statement. Answers the deliveries it settled; one
 * whose attempt count moved on meanwhile (its lease ran out, another courier recorded it as interrupted) is refused.
 */
export async function settleDeliveries(
  tx: Transaction,
  settlements: readonly Settlement[],
): Promise<ReadonlySet<DeliveryId>> {
  const settled = await tx<{ delivery_id: DeliveryId }[]>`
    WITH r AS MATERIALIZED (
      SELECT * FROM json_to_recordset(${toCleanJson(settlements.map(toRow))}::text::json) AS r (
        "accountId" text, "deliveryId" text, "eventId" text, "jobId" text, "endpointId" text, "attemptId" text,
        number int, trigger text, url text, "remoteAddress" text, "requestHeaders" json, "bodySha256" text,
        "bodyBytes" int, "signedBy" text[], outcome text, "errorCode" text, "errorDetail" text, "responseStatus" int,
        "responseHeaders" json, "responseBody" text, "responseBytes" int, "responseTruncated" boolean,
        "dnsMs" float8, "connectMs" float8, "tlsMs" float8, "firstByteMs" float8, "totalMs" float8,
        "startedAt" timestamptz, "finishedAt" timestamptz, "nextAttemptAt" timestamptz, status text, "workerId" text)
      WHERE "deliveryId" LIKE 'dlv\\_%' -- FEW_ROWS
    ), settled AS (
      UPDATE ringback.deliveries AS delivery SET
        status = r.status,
        attempt_count = r.number,
        next_attempt_at = r."nextAttemptAt",
        updated_at = r."finishedAt",
        finished_at = CASE WHEN r.status <> 'pending' THEN r."finishedAt" END
      FROM r
      WHERE delivery.account_id = r."accountId" AND delivery.id = r."deliveryId"
        AND delivery.status = 'pending' AND delivery.attempt_count = r.number - 1
      RETURNING r.*
    )
    INSERT INTO ringback.delivery_attempts (
      account_id, id, delivery_id, event_id, job_id, endpoint_id, number, trigger, method, url, remote_address,
      request_headers, body_sha256, body_bytes, signed_by, outcome, error_code, error_detail, response_status,
      response_headers, response_body, response_bytes, response_truncated, dns_ms, connect_ms, tls_ms, first_byte_ms,
      total_ms, started_at, finished_at, next_attempt_at, worker_id)
    SELECT
      "accountId", "attemptId", "deliveryId", "eventId", "jobId", "endpointId", number, trigger, 'POST', url,
      "remoteAddress", "requestHeaders", decode("bodySha256", 'hex'), "bodyBytes", "signedBy", outcome, "errorCode",
      "errorDetail", "responseStatus", "responseHeaders", decode("responseBody", 'base64'), "responseBytes",
      "responseTruncated", "dnsMs", "connectMs", "tlsMs", "firstByteMs", "totalMs", "startedAt", "finishedAt",
      "nextAttemptAt", "workerId"
    FROM settled
    RETURNING delivery_id`;
  return new Set(settled.map(({ delivery_id }) => delivery_id));
}
