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

/** Decides after an attempt that nobody saw end: due at once, for the receiver has not failed; but not without end. */
export function judgeInterrupted(hasAttemptsLeft: boolean, now: Date): DeliveryVerdict {
  return hasAttemptsLeft ? { status: 'pending', nextAttemptAt: now } : { status: 'exhausted', nextAttemptAt: null };
}
