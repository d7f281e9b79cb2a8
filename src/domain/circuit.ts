import type { AttemptOutcome } from './attempt.ts';

/** `open` sends nothing until `resumeAt`; from then on a few at a time, to find out: half-open is no state of its own. */
export const CIRCUIT_STATES = ['closed', 'open'] as const;
export type CircuitState = (typeof CIRCUIT_STATES)[number];

/** Failures in a row that open a circuit. */
export const FAILURES_TO_OPEN = 10;
/** The first pause; each failed probe doubles it. */
export const FIRST_PAUSE_MS = 1000;
export const LONGEST_PAUSE_MS = 5 * 60_000;

/** After so long without one success an endpoint is given up on. */
export const GIVE_UP_AFTER_MS = 5 * 86_400_000;

/** The receiver asks for less: an endpoint that answers so is left alone for a while, whatever its schedule says. */
const THROTTLING: ReadonlySet<number> = new Set([429, 502, 503, 504]);

/** What an attempt says about the endpoint's health. `ours`: nothing, the fault is not the receiver's. */
export type HealthSign = 'success' | 'failure' | 'throttled' | 'gone' | 'ours';

export function healthSignOf(outcome: AttemptOutcome, status: number | null, isOurs: boolean): HealthSign {
  if (outcome === 'delivered') return 'success';
  if (isOurs || outcome === 'interrupted') return 'ours';
  if (status === 410) return 'gone';
  return status !== null && THROTTLING.has(status) ? 'throttled' : 'failure';
}
