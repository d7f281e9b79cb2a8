import type { AttemptOutcome } from './attempt.ts';

/**
 * The life of a delivery. `held` waits for its endpoint to be enabled; `discarded` lost its endpoint for good; `superseded` told
 * of a progress that a later event of its job has left behind.
 */
export const DELIVERY_STATUSES = ['pending', 'delivered', 'exhausted', 'held', 'discarded', 'superseded'] as const;
export type DeliveryStatus = (typeof DELIVERY_STATUSES)[number];

export const DELIVERY_TRANSITIONS = {
  pending: ['pending', 'delivered', 'exhausted', 'held', 'discarded', 'superseded'],
  held: ['pending', 'discarded'],
  delivered: ['pending'], // asked for again, as what is exhausted or superseded
  exhausted: ['pending'],
  discarded: [],
  superseded: ['pending'],
} as const satisfies Record<DeliveryStatus, readonly DeliveryStatus[]>;

/** What an attempt makes of its delivery: over, or due again at a time. */
export type DeliveryVerdict =
  | { readonly status: 'delivered' | 'exhausted'; readonly nextAttemptAt: null }
  | { readonly status: 'pending'; readonly nextAttemptAt: Date };

/** Decides after an attempt; `nextAttemptAt` is what the schedule offers, null when it is used up. */
export function judgeDelivery(outcome: AttemptOutcome, nextAttemptAt: Date | null): DeliveryVerdict {
  if (outcome === 'delivered') return { status: 'delivered', nextAttemptAt: null };
  if (nextAttemptAt === null) return { status: 'exhausted', nextAttemptAt: null };
  return { status: 'pending', nextAttemptAt };
}

/** Interruptions in a row that cost the receiver nothing. One more may well be the delivery's own doing. */
const FREE_INTERRUPTIONS = 2;

/**
 * Decides after an attempt that nobody saw end: due at once, and without a step of the schedule, for the receiver has not failed. After
 * `FREE_INTERRUPTIONS` in a row it counts as a failure, so that a delivery that kills its couriers is not sent again for ever.
 * @param interruptions in a row before this one
 */
export function judgeInterrupted(
  interruptions: number,
  { now, nextAttemptAt }: { now: Date; nextAttemptAt: Date | null },
): { readonly verdict: DeliveryVerdict; readonly keepsStep: boolean } {
  if (interruptions < FREE_INTERRUPTIONS)
    return { verdict: { status: 'pending', nextAttemptAt: now }, keepsStep: true };
  return { verdict: judgeDelivery('interrupted', nextAttemptAt), keepsStep: false };
}
