import type { AttemptOutcome } from './attempt.ts';

/** `open` sends nothing until `resumeAt`; from then on a few at a time, to find out: half-open is no state of its own. */
export const CIRCUIT_STATES = ['closed', 'open'] as const;
export type CircuitState = (typeof CIRCUIT_STATES)[number];

/** Failures in a row that open a circuit. */
export const FAILURES_TO_OPEN = 10;
/** The first pause; each one that follows without a success is twice as long. */
const FIRST_PAUSE_MS = 1000;
export const LONGEST_PAUSE_MS = 5 * 60_000;
/** After so long without one success an endpoint is given up on. */
export const GIVE_UP_AFTER_MS = 5 * 86_400_000;
/** An endpoint that recovers has had enough successes when it may have so many attempts at once. */
const RECOVERED_ALLOWANCE = 64;
/** How exact `lastSuccessAt` is kept while all goes well. */
const SUCCESS_KNOWN_FOR_MS = 10_000;

export interface Health {
  readonly circuit: CircuitState;
  /** Nothing is sent before. */
  readonly resumeAt: Date | null;
  /** Attempts at once while it recovers; null when it has. */
  readonly allowance: number | null;
  /** Pauses since the last success. */
  readonly level: number;
  readonly consecutiveFailures: number;
  readonly failingSince: Date | null;
  readonly lastSuccessAt: Date | null;
  readonly lastFailureAt: Date | null;
}

export const HEALTHY: Health = {
  circuit: 'closed',
  resumeAt: null,
  allowance: null,
  level: 0,
  consecutiveFailures: 0,
  failingSince: null,
  lastSuccessAt: null,
  lastFailureAt: null,
};

/** What an attempt says about its endpoint. `ours`: nothing, the fault is not the receiver's. */
export type HealthSign = 'success' | 'failure' | 'throttled' | 'gone' | 'ours';

/** The receiver asks for less: it is left alone for a while, whatever the delivery's schedule says. */
const THROTTLING: ReadonlySet<number> = new Set([429, 502, 503, 504]);

export function healthSignOf(outcome: AttemptOutcome, status: number | null, isOurs: boolean): HealthSign {
  if (outcome === 'delivered') return 'success';
  if (isOurs || outcome === 'interrupted') return 'ours';
  if (status === 410) return 'gone';
  return status !== null && THROTTLING.has(status) ? 'throttled' : 'failure';
}

export interface Sign {
  readonly sign: HealthSign;
  readonly at: Date;
  /** What the receiver asked for, in milliseconds. */
  readonly retryAfterMs: number | null;
  /** In [0, 1). */
  readonly random: number;
}

/** True for a success that changes nothing worth writing down. */
export function isQuiet(health: Health, { sign, at }: Pick<Sign, 'sign' | 'at'>): boolean {
  if (sign === 'ours') return true;
  const isKnown = health.lastSuccessAt !== null && at.getTime() - health.lastSuccessAt.getTime() < SUCCESS_KNOWN_FOR_MS;
  return sign === 'success' && health.consecutiveFailures === 0 && health.allowance === null && isKnown;
}

/**
 * What an attempt makes of its endpoint's health. Ten failures in a row open the circuit, and so does one answer that asks
 * for less; each further pause is twice as long, with jitter, or as long as the receiver asked for. Once a pause is over
 * one attempt is made; each success doubles how many may be, until there is no limit but the endpoint's own.
 */
export function nextHealth(health: Health, { sign, at, retryAfterMs, random }: Sign): Health {
  if (sign === 'ours') return health;
  if (sign === 'success') return afterSuccess(health, at);
  const consecutiveFailures = health.consecutiveFailures + 1;
  const failing = {
    ...health,
    consecutiveFailures,
    failingSince: health.failingSince ?? at,
    lastFailureAt: at,
  };
  if (sign !== 'throttled' && consecutiveFailures < FAILURES_TO_OPEN) return failing;
  // Attempts that were under way when the circuit opened are no failed probes.
  if (health.circuit === 'open' && health.resumeAt !== null && at < health.resumeAt) return failing;
  const pauseMs = Math.min(FIRST_PAUSE_MS * 2 ** health.level, LONGEST_PAUSE_MS) * (0.8 + 0.4 * random);
  const asked = sign === 'throttled' ? Math.min(retryAfterMs ?? 0, LONGEST_PAUSE_MS) : 0;
  return {
    ...failing,
    circuit: 'open',
    resumeAt: new Date(at.getTime() + Math.round(Math.max(pauseMs, asked))),
    allowance: 1,
    level: Math.min(health.level + 1, 16),
  };
}

function afterSuccess(health: Health, at: Date): Health {
  const grown = health.allowance === null ? null : health.allowance * 2;
  return {
    ...HEALTHY,
    allowance: grown === null || grown > RECOVERED_ALLOWANCE ? null : grown,
    lastSuccessAt: at,
    lastFailureAt: health.lastFailureAt,
  };
}

/** True when nothing has succeeded for so long that going on makes no sense. */
export function isHopeless({ failingSince, lastFailureAt }: Health): boolean {
  if (failingSince === null || lastFailureAt === null) return false;
  return lastFailureAt.getTime() - failingSince.getTime() >= GIVE_UP_AFTER_MS;
}
