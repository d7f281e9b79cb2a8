import type { AttemptResult, ATTEMPT_TRIGGERS } from '#domain/attempt.ts';
import type { DeliveryVerdict } from '#domain/delivery.ts';
import type { DeliveryId, SecretId, WorkerId } from '#domain/ids.ts';
import { toCleanJson } from '#domain/json.ts';
import type { ClaimedDelivery } from './claim-deliveries.ts';
import type { Connection } from './database.ts';

/** What nobody saw end: its courier died between claiming and settling. The receiver may have seen the request. */
export interface InterruptedAttempt {
  readonly outcome: 'interrupted';
  readonly errorCode: string;
  readonly errorDetail: string;
  readonly startedAt: Date;
}

/** An attempt that was made, and what becomes of its delivery. */
export interface Settlement {
  readonly delivery: Pick<ClaimedDelivery, 'accountId' | 'id' | 'eventId' | 'jobId' | 'endpointId' | 'attemptId'>;
  /** Counts from 1. */
  readonly number: number;
  readonly trigger: (typeof ATTEMPT_TRIGGERS)[number];
  readonly url: string;
  /** These three are null when nobody knows what was sent. */
  readonly requestHeaders: Readonly<Record<string, string>> | null;
  /** Hex. */
  readonly bodySha256: string | null;
  readonly bodyBytes: number | null;
  readonly signedBy: readonly SecretId[];
  readonly result: AttemptResult | InterruptedAttempt;
  readonly verdict: DeliveryVerdict;
  /** Due again later, it stays first in its lane: of an endpoint that keeps its order. */
  readonly keepsPlace: boolean;
  /** It is made again as if it had not been: no step of the schedule is used up, and the trigger stays. */
  readonly keepsStep?: boolean;
  readonly settledAt: Date;
  readonly workerId: WorkerId;
}

/** Names every column: a row that is put together by spreading its parts takes five times as long to make. */
function toRow(settlement: Settlement): object {
  const { delivery, verdict } = settlement;
  const result: Settlement['result'] & Partial<AttemptResult> = settlement.result;
  const { timings, response } = result;
  return {
    accountId: delivery.accountId,
    deliveryId: delivery.id,
    eventId: delivery.eventId,
    jobId: delivery.jobId,
    endpointId: delivery.endpointId,
    attemptId: delivery.attemptId,
    number: settlement.number,
    trigger: settlement.trigger,
    url: settlement.url,
    requestHeaders: settlement.requestHeaders,
    bodySha256: settlement.bodySha256,
    bodyBytes: settlement.bodyBytes,
    signedBy: settlement.signedBy,
    keepsPlace: settlement.keepsPlace,
    keepsStep: settlement.keepsStep,
    settledAt: settlement.settledAt,
    workerId: settlement.workerId,
    outcome: result.outcome,
    errorCode: result.errorCode,
    errorDetail: result.errorDetail,
    startedAt: result.startedAt,
    finishedAt: result.finishedAt,
    remoteAddress: result.remoteAddress,
    dnsMs: timings?.dnsMs,
    connectMs: timings?.connectMs,
    tlsMs: timings?.tlsMs,
    firstByteMs: timings?.firstByteMs,
    totalMs: timings?.totalMs,
    status: verdict.status,
    nextAttemptAt: verdict.nextAttemptAt,
    responseStatus: response?.status,
    responseHeaders: response?.headers,
    // Base64: the bytes need not be text, and may hold NUL.
    responseBody: response && Buffer.from(response.bodyPrefix).toString('base64'),
    responseBytes: response?.bodyBytes,
    responseTruncated: response?.truncated,
  };
}

export interface Settled {
  /** What tells of its job next may go, now that it is over, or instead of it, now that it waits again: see `advanceJobs`. */
  readonly isFollowed: boolean;
}

/**
 * Settles attempts: the queue, the delivery's state and the attempt's row in one statement. Answers the deliveries it
 * settled. The fence is the queue's row: an attempt whose lease ran out, and that was recorded as interrupted, finds none
 * under its id and is refused. The queue's row is locked before the delivery's, here as everywhere.
 */
export async function settleDeliveries(
  sql: Connection,
  settlements: readonly Settlement[],
): Promise<ReadonlyMap<DeliveryId, Settled>> {
  const settled = await sql<({ id: DeliveryId } & Settled)[]>`
    WITH r AS MATERIALIZED (
      SELECT * FROM json_to_recordset(${toCleanJson(settlements.map(toRow))}::text::json) AS r (
        "accountId" text, "deliveryId" text, "eventId" text, "jobId" text, "endpointId" text, "attemptId" text,
        number int, trigger text, url text, "remoteAddress" text, "requestHeaders" json, "bodySha256" text,
        "bodyBytes" int, "signedBy" text[], outcome text, "errorCode" text, "errorDetail" text, "responseStatus" int,
        "responseHeaders" json, "responseBody" text, "responseBytes" int, "responseTruncated" boolean,
        "dnsMs" float8, "connectMs" float8, "tlsMs" float8, "firstByteMs" float8, "totalMs" float8,
        "startedAt" timestamptz, "finishedAt" timestamptz, "nextAttemptAt" timestamptz, "keepsPlace" boolean, "keepsStep" boolean, status text,
        "settledAt" timestamptz, "workerId" text)
      WHERE "deliveryId" LIKE 'dlv\\_%' -- FEW_ROWS
    ), removed AS (
      DELETE FROM ringback.delivery_queue AS item USING r
      WHERE item.account_id = r."accountId" AND item.delivery_id = r."deliveryId" AND item.attempt_id = r."attemptId"
        AND r."nextAttemptAt" IS NULL
      -- With what follows needs, so that it need not be joined with r again, which would compare each with each.
      RETURNING r.*, item.job_id IS NOT NULL AS is_followed
    ), requeued AS (
      UPDATE ringback.delivery_queue AS item SET
        state = CASE WHEN r."nextAttemptAt" <= r."settledAt" OR r."keepsPlace" THEN 'ready' ELSE 'delayed' END,
        trigger = CASE WHEN r."keepsStep" THEN item.trigger ELSE 'scheduled' END,
        due_at = r."nextAttemptAt",
        attempt_id = NULL, worker_id = NULL, leased_at = NULL, lease_expires_at = NULL
      FROM r
      WHERE item.account_id = r."accountId" AND item.delivery_id = r."deliveryId" AND item.attempt_id = r."attemptId"
        AND r."nextAttemptAt" IS NOT NULL
      RETURNING r.*, item.job_id IS NOT NULL AS is_followed
    ), settled AS (
      UPDATE ringback.deliveries AS delivery SET
        status = r.status,
        attempt_count = r.number,
        schedule_from = delivery.schedule_from + coalesce(r."keepsStep", false)::int,
        next_attempt_at = r."nextAttemptAt",
        updated_at = r."settledAt",
        finished_at = CASE WHEN r.status <> 'pending' THEN r."settledAt" END
      FROM (SELECT * FROM removed UNION ALL SELECT * FROM requeued) AS r
      WHERE delivery.account_id = r."accountId" AND delivery.id = r."deliveryId"
      RETURNING r.*
    ), attempt AS (
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
    )
    SELECT "deliveryId" AS id, is_followed AS "isFollowed" FROM settled`;
  return new Map(settled.map(({ id, isFollowed }) => [id, { isFollowed }]));
}
