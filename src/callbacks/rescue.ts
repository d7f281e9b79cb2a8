import { judgeInterrupted } from '#domain/delivery.ts';
import type { Logger } from '#log.ts';
import type { Database } from '#store/database.ts';
import { settleDeliveries, type Settlement } from '#store/deliveries.ts';
import { findLapsedAttempts, type LapsedAttempt, promoteDueDeliveries } from '#store/delivery-queue.ts';

export interface RescueDeps {
  readonly db: Database;
  readonly log: Logger;
  readonly schedule: readonly number[];
  readonly announceDeliveries: () => void;
}

const BATCH = 500;

/** Records the attempts of couriers that died as interrupted, and makes their deliveries due again. */
export async function rescueDeliveries(deps: RescueDeps): Promise<void> {
  while ((await rescueSome(deps)) === BATCH);
}

/** Answers how many it settled. */
async function rescueSome({ db, log, schedule, announceDeliveries }: RescueDeps): Promise<number> {
  const lapsed = await findLapsedAttempts(db, BATCH);
  if (lapsed.length === 0) return 0;
  const now = new Date();
  const settlements = lapsed.map((attempt) => interrupted(attempt, schedule, now));
  const settled = await settleDeliveries(db.sql, settlements);
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

/** Whatever was sent, nobody knows: neither what it was nor how it was answered. */
function interrupted(lapsed: LapsedAttempt, schedule: readonly number[], now: Date): Settlement {
  const number = lapsed.attemptCount + 1;
  return {
    delivery: { ...lapsed, id: lapsed.deliveryId },
    number,
    trigger: 'scheduled',
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
    verdict: judgeInterrupted(number < schedule.length, now),
    keepsPlace: false,
    settledAt: now,
    workerId: lapsed.workerId,
  };
}

/** Makes up to `limit` deliveries ready whose next attempt is due; answers how many. */
export async function promoteDeliveries(
  { db, announceDeliveries }: Pick<RescueDeps, 'db' | 'announceDeliveries'>,
  limit: number,
): Promise<number> {
  const promoted = await promoteDueDeliveries(db, limit);
  if (promoted > 0) announceDeliveries();
  return promoted;
}
