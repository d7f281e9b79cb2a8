import { HEALTHY } from '#domain/circuit.ts';
import { judgeInterrupted } from '#domain/delivery.ts';
import type { DeliveryId } from '#domain/ids.ts';
import { nextAttemptAt } from '#domain/retry.ts';
import type { Logger } from '#log.ts';
import { isUnavailable } from '#store/database.ts';
import type { Settlement } from '#store/deliveries.ts';
import {
  advanceStranded,
  type DeadWorkers,
  findLapsedAttempts,
  type LapsedAttempt,
  promoteDueDeliveries,
} from '#store/delivery-queue.ts';
import { type Made, settle, type SettleDeps } from './settle.ts';

export interface RescueDeps extends SettleDeps {
  /** Leases that ended before were given up. */
  readonly lapsedBefore: () => Date;
  readonly log: Logger;
  /** Of endpoints without one of their own. */
  readonly schedule: readonly number[];
}

const BATCH = 500;

/**
 * Records the attempts of couriers that died as interrupted, and makes their deliveries due again.
 * @param deadWorkers those of these; otherwise those whose leases have run out
 */
export async function rescueDeliveries(deps: RescueDeps, deadWorkers: DeadWorkers = null): Promise<void> {
  while ((await rescueSome(deps, deadWorkers)) === BATCH);
}

/** Answers how many it settled. */
async function rescueSome(deps: RescueDeps, deadWorkers: DeadWorkers): Promise<number> {
  const { db, log, schedule, announceDeliveries } = deps;
  const lapsed = await findLapsedAttempts(db, { limit: BATCH, before: deps.lapsedBefore(), deadWorkers });
  if (lapsed.length === 0) return 0;
  const now = deps.clock.now();
  const made = lapsed.map((attempt) => ({
    settlement: interrupted(attempt, { schedule, now, random: deps.clock.random() }),
    health: HEALTHY,
  }));
  const settled = await settleEach(made, deps);
  for (const { accountId, deliveryId, attemptId, workerId } of lapsed) {
    if (!settled.has(deliveryId)) continue;
    log.warn(
      { account_id: accountId, delivery_id: deliveryId, attempt_id: attemptId, worker_id: workerId },
      'rescued delivery',
    );
  }
  announceDeliveries();
  return settled.size;
}

/** Together, or each alone when that fails: one whose record is refused must not keep the others. */
async function settleEach(made: readonly Made[], deps: RescueDeps): Promise<ReadonlySet<DeliveryId>> {
  try {
    return new Set((await settle(made, deps)).keys());
  } catch (error) {
    if (isUnavailable(error)) throw error;
    if (made.length > 1) {
      const settled = new Set<DeliveryId>();
      for (const one of made) for (const id of await settleEach([one], deps)) settled.add(id);
      return settled;
    }
    deps.log.error({ err: error, delivery_id: made[0]?.settlement.delivery.id }, 'a delivery could not be rescued');
    return new Set();
  }
}

/** Whoever asked for a probe has gone with its process, and its body may be stored nowhere. */
const UNREPEATED = { verdict: { status: 'exhausted', nextAttemptAt: null }, keepsStep: false } as const;

/** Whatever was sent, nobody knows: neither what it was nor how it was answered. */
function interrupted(
  lapsed: LapsedAttempt,
  { schedule, now, random }: { schedule: readonly number[]; now: Date; random: number },
): Settlement {
  const number = lapsed.attemptCount + 1;
  const { scheduleFrom, retrySchedule, trigger } = lapsed;
  const next = { schedule: retrySchedule ?? schedule, now, random, retryAfterMs: null };
  const nextDue = scheduleFrom === null ? null : nextAttemptAt({ ...next, attemptsMade: number - scheduleFrom });
  const { verdict, keepsStep } =
    trigger === 'probe' ? UNREPEATED : judgeInterrupted(lapsed.interruptions, { now, nextAttemptAt: nextDue });
  return {
    delivery: { ...lapsed, id: lapsed.deliveryId },
    number,
    trigger,
    url: lapsed.url,
    requestHeaders: null,
    bodySha256: null,
    bodyBytes: null,
    signedBy: [],
    result: {
      outcome: 'interrupted',
      errorCode: 'courier_lost',
      errorDetail: 'The courier stopped before it recorded an answer; the receiver may have seen this request.',
      startedAt: lapsed.startedAt,
    },
    verdict,
    keepsStep,
    keepsPlace: !keepsStep && lapsed.ordering === 'endpoint',
    settledAt: now,
    workerId: lapsed.workerId,
  };
}

/** Lets go what waits for nothing: the process that should have seen to it died. */
export async function releaseStranded({
  db,
  announceDeliveries,
}: Pick<RescueDeps, 'db' | 'announceDeliveries'>): Promise<void> {
  for (let advanced = BATCH; advanced === BATCH;) {
    advanced = await advanceStranded(db, BATCH);
    if (advanced > 0) announceDeliveries();
  }
}

/** Makes up to `limit` deliveries ready whose next attempt is due; answers how many. */
export async function promoteDeliveries(
  { db, clock, announceDeliveries }: Pick<RescueDeps, 'db' | 'clock' | 'announceDeliveries'>,
  limit: number,
): Promise<number> {
  const promoted = await promoteDueDeliveries(db, clock.now(), limit);
  if (promoted > 0) announceDeliveries();
  return promoted;
}
