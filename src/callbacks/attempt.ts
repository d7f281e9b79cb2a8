import { hash } from 'node:crypto';
import type { AttemptResult } from '#domain/attempt.ts';
import type { Clock } from '#domain/clock.ts';
import { judgeDelivery } from '#domain/delivery.ts';
import type { WorkerId } from '#domain/ids.ts';
import { nextAttemptAt, parseRetryAfter } from '#domain/retry.ts';
import { sign } from '#domain/signature.ts';
import type { Sender } from '#egress/send.ts';
import type { ClaimedDelivery } from '#store/claim-deliveries.ts';
import type { Settlement } from '#store/deliveries.ts';
import type { Destination } from './destination.ts';

export interface AttemptDeps {
  readonly clock: Clock;
  readonly sender: Sender;
  readonly workerId: WorkerId;
  readonly schedule: readonly number[];
  readonly timeoutMs: number;
  /** What an answer means, where not every 2xx will do. */
  readonly judge?: ((result: AttemptResult) => AttemptResult) | undefined;
}

/** Signs and sends a delivery once, and decides what becomes of it. Never throws for what the receiver does. */
export async function attempt(
  delivery: ClaimedDelivery,
  destination: Destination,
  deps: AttemptDeps,
): Promise<Settlement> {
  const { url, signers, tls, timeoutMs = deps.timeoutMs, schedule = deps.schedule } = destination;
  const number = delivery.attemptCount + 1;
  const sentAt = deps.clock.now();
  const { body, scheduleFrom } = delivery;
  const unreadable = unreadableOf(destination);
  const signedBy = unreadable === undefined ? (signers ?? []) : [];
  const ours = signedHeaders(delivery, signedBy, sentAt);
  const answered =
    unreadable === undefined
      ? await deps.sender.send({
          url,
          headers: { ...destination.headers, ...ours },
          body,
          timeoutMs,
          tls: tls ?? undefined,
        })
      : unsent(unreadable, sentAt);
  const result = deps.judge?.(answered) ?? answered;
  const next =
    scheduleFrom === null
      ? null
      : nextAttemptAt({
          schedule,
          attemptsMade: number - scheduleFrom,
          now: result.finishedAt,
          random: deps.clock.random(),
          retryAfterMs: retryAfterOf(result),
        });
  return {
    delivery,
    number,
    trigger: delivery.trigger,
    url,
    requestHeaders: unreadable !== undefined ? {} : { ...masked(destination.headers), ...ours },
    bodySha256: hash('sha256', body, 'hex'),
    bodyBytes: body.length,
    signedBy: signedBy.map(({ id }) => id),
    result,
    verdict: judgeDelivery(result.outcome, next),
    keepsPlace: destination.ordering === 'endpoint',
    settledAt: result.finishedAt,
    workerId: deps.workerId,
  };
}

/** What the receiver asked for, in milliseconds; null when it asked for nothing. */
export function retryAfterOf({ response, finishedAt }: AttemptResult): number | null {
  const value = response?.headers.find(([name]) => name.toLowerCase() === 'retry-after')?.[1];
  return parseRetryAfter(value, finishedAt);
}

const MASK = '***';

/** Their owner's headers may carry credentials, and the record is for ever and for auditors to read. */
function masked(headers: Destination['headers']): Record<string, string> {
  return Object.fromEntries(Object.keys(headers).map((name) => [name, MASK]));
}

/** Standard Webhooks 1.0: the id is the event's, the same in every attempt; the time is this attempt's. */
function signedHeaders(
  { eventId, body }: ClaimedDelivery,
  signers: NonNullable<Destination['signers']>,
  sentAt: Date,
): Record<string, string> {
  const timestamp = Math.floor(sentAt.getTime() / 1000);
  return {
    'content-type': 'application/json',
    'webhook-id': eventId,
    'webhook-timestamp': String(timestamp),
    'webhook-signature': signers.map((signer) => sign(signer, eventId, timestamp, body)).join(' '),
  };
}

interface Unreadable {
  readonly errorCode: string;
  readonly errorDetail: string;
}

const LACKS_KEY = 'cannot be decrypted: RINGBACK_SECRET_KEY lacks the key that encrypted it.';

/** What of the endpoint's secrets cannot be opened. */
function unreadableOf({ signers, tls }: Destination): Unreadable | undefined {
  if (signers === undefined) return { errorCode: 'secret_unreadable', errorDetail: `The signing secret ${LACKS_KEY}` };
  if (tls === undefined)
    return { errorCode: 'tls_key_unreadable', errorDetail: `The client certificate's key ${LACKS_KEY}` };
  return undefined;
}

/**
 * A callback without a signature would teach receivers to take such, and one over TLS of another kind may reach somebody
 * else. Retried, for the key may come back.
 */
function unsent(unreadable: Unreadable, now: Date): AttemptResult {
  return {
    outcome: 'blocked',
    ...unreadable,
    remoteAddress: null,
    startedAt: now,
    finishedAt: now,
    timings: { dnsMs: null, connectMs: null, tlsMs: null, firstByteMs: null, totalMs: 0 },
    response: null,
  };
}
