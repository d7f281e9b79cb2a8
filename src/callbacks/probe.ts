import type { AttemptResult } from '#domain/attempt.ts';
import type { EndpointEventType } from '#domain/endpoint-event.ts';
import type { EndpointEventData } from '#domain/endpoint-event-data.ts';
import { newId, type WorkerId } from '#domain/ids.ts';
import type { SecretKey } from '#domain/secret-box.ts';
import type { Sender } from '#egress/send.ts';
import type { Logger } from '#log.ts';
import { type AttemptRecord, listAttempts } from '#store/delivery-reads.ts';
import type { EndpointRef } from '#store/endpoint-health.ts';
import { persist } from '#store/group-commit.ts';
import { insertProbe } from '#store/probes.ts';
import { isTransient } from '#store/transient.ts';
import { attempt } from './attempt.ts';
import { openDestination } from './destination.ts';
import { recordAttempt } from './record-attempt.ts';
import { eventOf, type Made, renderEndpointEvent, settle, type SettleDeps } from './settle.ts';

export interface ProbeDeps extends SettleDeps {
  readonly sender: Sender;
  readonly keys: readonly SecretKey[];
  readonly workerId: WorkerId;
  readonly log: Logger;
  readonly timeoutMs: number;
}

export interface Probe {
  readonly type: EndpointEventType;
  /** Which endpoints it is for: those that have yet to prove whose they are, or the others. */
  readonly toUnverified: boolean;
  /** What is sent and not stored: it is in the request's data, and nowhere in the event. */
  readonly unstored?: EndpointEventData['endpoint.challenge'];
  /** What its answer means, when not every 2xx will do. */
  readonly judge?: (result: AttemptResult) => AttemptResult;
}

/** The lease of a probe outlasts its request; should this process die, a keeper records it as interrupted. */
const LEASE_SLACK_MS = 60_000;
/** Its client waits for it, and its lease is not renewed. */
const RECORD_WITHIN_MS = 15_000;

/**
 * Sends an event to one endpoint now, signed, on record as any delivery; once, without retries, whatever its limits and its
 * circuit say. Answers the attempt; undefined, and nothing is sent, when there is no such endpoint, or none it is for.
 */
export async function probe(
  deps: ProbeDeps,
  ref: EndpointRef,
  { type, toUnverified, unstored, judge }: Probe,
): Promise<AttemptRecord | undefined> {
  const { db, keys, workerId, timeoutMs } = deps;
  const now = deps.clock.now();
  const event = eventOf(type, ref, now, renderEndpointEvent(type, ref, now, {}));
  const ids = { deliveryId: newId('dlv', now.getTime()), attemptId: newId('att', now.getTime()) };
  const lease = { workerId, timeoutMs, slackMs: LEASE_SLACK_MS };
  const destination = await insertProbe(db.sql, event, { ...ids, ...lease, toUnverified });
  if (destination === undefined) return undefined;
  const delivery = {
    ...ref,
    id: ids.deliveryId,
    eventId: event.id,
    eventType: event.type,
    jobId: null,
    attemptId: ids.attemptId,
    attemptCount: 0,
    scheduleFrom: null,
    trigger: 'probe' as const,
    body: Buffer.from(renderEndpointEvent(type, ref, now, unstored ?? {})),
  };
  const settlement = await attempt(delivery, openDestination(destination, keys), { ...deps, schedule: [0], judge });
  deps.eventsWritten([ref.accountId]);
  const settleOne = async (one: Made) => (await settle([one], deps)).has(delivery.id);
  const persistOne = (one: Made) => persist(() => settleOne(one), isTransient, AbortSignal.timeout(RECORD_WITHIN_MS));
  await recordAttempt({ settlement, health: destination.health }, { ...deps, persist: persistOne });
  const [made] = await listAttempts(db, ref.accountId, ids.deliveryId);
  return made!;
}
