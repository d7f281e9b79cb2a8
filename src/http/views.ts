import { isUtf8 } from 'node:buffer';
import type { AttemptRecord, DeliveryRecord } from '#callbacks/delivery-queries.ts';
import type { EndpointRecord } from '#callbacks/endpoints.ts';
import type { SavedEndpoint } from '#callbacks/registration.ts';
import { summarize } from '#domain/certificate.ts';

/** Rows as clients see them: snake case, and nothing that is ours alone. */
export function viewEndpoint(endpoint: EndpointRecord) {
  const { health, recent } = endpoint;
  return {
    id: endpoint.id,
    url: endpoint.url,
    description: endpoint.description,
    metadata: endpoint.metadata,
    event_types: endpoint.eventTypes,
    headers: endpoint.headers,
    timeout_ms: endpoint.timeoutMs,
    concurrency: endpoint.concurrency,
    rate_per_second: endpoint.ratePerSecond,
    retry_schedule_ms: endpoint.retrySchedule,
    ordering: endpoint.ordering,
    tls: viewTls(endpoint),
    registered: endpoint.isRegistered,
    status: endpoint.status,
    disabled_reason: endpoint.disabledReason,
    health: {
      circuit: health.circuit,
      resumes_at: health.resumeAt,
      consecutive_failures: health.consecutiveFailures,
      failing_since: health.failingSince,
      last_success_at: health.lastSuccessAt,
      last_failure_at: health.lastFailureAt,
      backlog: endpoint.backlog,
      success_rate: successRate(endpoint),
      recent,
    },
    created_at: endpoint.createdAt,
    updated_at: endpoint.updatedAt,
  };
}

/** An endpoint with the challenge that it was sent now. */
export function viewSaved({ endpoint, verification }: SavedEndpoint) {
  return { ...viewEndpoint(endpoint), ...(verification && { verification: viewAttempt(verification) }) };
}

function viewTls({ tlsAuthorities: authorities, tlsCertificate }: EndpointRecord) {
  if (authorities === null && tlsCertificate === null) return null;
  return { authorities, certificate: tlsCertificate === null ? null : viewCertificate(tlsCertificate) };
}

function viewCertificate(pem: string) {
  const { subject, issuer, fingerprintSha256, validFrom, validTo } = summarize(pem);
  return { subject, issuer, fingerprint_sha256: fingerprintSha256, valid_from: validFrom, valid_to: validTo };
}

/** Behind a long backlog none of the newest has been attempted; that attempts fail is known all the same. */
function successRate({ recent: { attempted, delivered }, health }: EndpointRecord): number | null {
  if (attempted > 0) return delivered / attempted;
  return health.consecutiveFailures > 0 ? 0 : null;
}

export function viewDelivery(delivery: Omit<DeliveryRecord, 'position' | 'scheduleFrom'>) {
  return {
    id: delivery.id,
    event_id: delivery.eventId,
    event_type: delivery.eventType,
    job_id: delivery.jobId,
    endpoint_id: delivery.endpointId,
    url: delivery.url,
    status: delivery.status,
    attempts: delivery.attemptCount,
    next_attempt_at: delivery.nextAttemptAt,
    created_at: delivery.createdAt,
    updated_at: delivery.updatedAt,
    finished_at: delivery.finishedAt,
  };
}

export function viewAttempt(attempt: AttemptRecord) {
  return {
    id: attempt.id,
    number: attempt.number,
    trigger: attempt.trigger,
    method: attempt.method,
    url: attempt.url,
    remote_address: attempt.remoteAddress,
    request: {
      headers: attempt.requestHeaders,
      body_bytes: attempt.bodyBytes,
      body_sha256: attempt.bodySha256 && Buffer.from(attempt.bodySha256).toString('hex'),
      signed_by: attempt.signedBy,
    },
    outcome: attempt.outcome,
    error: attempt.errorCode === null ? null : { code: attempt.errorCode, detail: attempt.errorDetail },
    response: viewResponse(attempt),
    timings: {
      dns_ms: attempt.dnsMs,
      connect_ms: attempt.connectMs,
      tls_ms: attempt.tlsMs,
      first_byte_ms: attempt.firstByteMs,
      total_ms: attempt.totalMs,
    },
    started_at: attempt.startedAt,
    finished_at: attempt.finishedAt,
    next_attempt_at: attempt.nextAttemptAt,
    worker_id: attempt.workerId,
  };
}

function viewResponse({
  responseStatus,
  responseHeaders,
  responseBody,
  responseBytes,
  responseTruncated,
}: AttemptRecord) {
  if (responseStatus === null) return null;
  const body = Buffer.from(responseBody ?? []);
  return {
    status: responseStatus,
    headers: (responseHeaders ?? []).map(([name, value]) => [name, value]),
    body: body.toString(),
    ...(!isUtf8(body) && { body_base64: body.toString('base64') }),
    body_bytes: responseBytes ?? 0,
    truncated: responseTruncated ?? false,
  };
}
