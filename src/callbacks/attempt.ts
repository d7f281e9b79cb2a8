import { hash } from 'node:crypto';
import { judgeDelivery } from '#domain/delivery.ts';
import { openSecret } from '#domain/endpoint.ts';
import { newId, type WorkerId } from '#domain/ids.ts';
import { nextAttemptAt, parseRetryAfter } from '#domain/retry.ts';
import type { SecretKey } from '#domain/secret-box.ts';
import { signV1 } from '#domain/signature.ts';
import type { Sender } from '#egress/send.ts';
import type { Destination, DueDelivery, Settlement } from '#store/deliveries.ts';

export interface AttemptDeps {
  readonly sender: Sender;
  readonly keys: readonly SecretKey[];
  readonly workerId: WorkerId;
  readonly schedule: readonly number[];
  readonly timeoutMs: number;
}

/** Signs and sends a delivery once, and decides what becomes of it. Never throws for what the receiver does. */
export async function attempt(delivery: DueDelivery, destination: Destination, deps: AttemptDeps): Promise<Settlement> {
  const number = delivery.attemptCount + 1;
  const sentAt = new Date();
  const requestHeaders = signedHeaders(delivery, destination, deps.keys, sentAt);
  const result = await deps.sender.send({
    url: destination.url,
    headers: requestHeaders,
    body: delivery.body,
    timeoutMs: deps.timeoutMs,
  });
  const retryAfter = result.response?.headers.find(([name]) => name.toLowerCase() === 'retry-after')?.[1];
  const next = nextAttemptAt({
    schedule: deps.schedule,
    attemptsMade: number,
    now: result.finishedAt,
    random: Math.random(),
    retryAfterMs: parseRetryAfter(retryAfter, result.finishedAt),
  });
  return {
    delivery,
    attemptId: newId('att', sentAt.getTime()),
    number,
    trigger: 'scheduled',
    url: destination.url,
    requestHeaders,
    bodySha256: hash('sha256', delivery.body, 'hex'),
    signedBy: destination.secrets.map(({ id }) => id),
    result,
    verdict: judgeDelivery(result.outcome, next),
    workerId: deps.workerId,
  };
}

/** Standard Webhooks 1.0: the id is the event's, the same in every attempt; the time is this attempt's. */
function signedHeaders(
  delivery: DueDelivery,
  destination: Destination,
  keys: readonly SecretKey[],
  sentAt: Date,
): Record<string, string> {
  const timestamp = Math.floor(sentAt.getTime() / 1000);
  const signatures = destination.secrets.map(({ id, keyId, ciphertext }) => {
    const key = openSecret(keys, destination, { id, keyId, ciphertext: Buffer.from(ciphertext, 'base64') });
    return signV1(key, delivery.eventId, timestamp, delivery.body);
  });
  return {
    'content-type': 'application/json',
    'webhook-id': delivery.eventId,
    'webhook-timestamp': String(timestamp),
    'webhook-signature': signatures.join(' '),
  };
}
