import { describe, expect, test } from 'vitest';
import {
  FAILURES_TO_OPEN,
  GIVE_UP_AFTER_MS,
  healthSignOf,
  type Health,
  HEALTHY,
  type HealthSign,
  isHopeless,
  isQuiet,
  LONGEST_PAUSE_MS,
  nextHealth,
  type Sign,
} from '#domain/circuit.ts';

const NOON = Date.UTC(2026, 0, 1, 12);
const sign = (kind: HealthSign, second = 0, changes: Partial<Sign> = {}): Sign => ({
  sign: kind,
  at: new Date(NOON + second * 1000),
  retryAfterMs: null,
  random: 0.5,
  ...changes,
});
const after = (signs: readonly Sign[], health: Health = HEALTHY) => signs.reduce(nextHealth, health);
const pauseOf = ({ resumeAt, lastFailureAt }: Health) => resumeAt!.getTime() - lastFailureAt!.getTime();

test.each([
  ['delivered', 200, false, 'success'],
  ['rejected', 500, false, 'failure'],
  ['rejected', 404, false, 'failure'],
  ['rejected', 302, false, 'failure'],
  ['rejected', 410, false, 'gone'],
  ['rejected', 429, false, 'throttled'],
  ['rejected', 502, false, 'throttled'],
  ['rejected', 503, false, 'throttled'],
  ['rejected', 504, false, 'throttled'],
  ['timeout', null, false, 'failure'],
  ['network', null, false, 'failure'],
  ['tls', null, false, 'failure'],
  ['dns', null, false, 'failure'],
  ['blocked', null, false, 'failure'],
  ['blocked', null, true, 'ours'],
  ['interrupted', null, false, 'ours'],
] as const)('%s with status %s (our fault: %s) is a sign of %s', (outcome, status, isOurs, expected) => {
  expect(healthSignOf(outcome, status, isOurs)).toBe(expected);
});

describe('failures', () => {
  test('are counted from the first on, and a success forgets them', () => {
    const failing = after([sign('failure', 0), sign('failure', 5)]);
    expect(failing).toMatchObject({
      circuit: 'closed',
      consecutiveFailures: 2,
      failingSince: new Date(NOON),
      lastFailureAt: new Date(NOON + 5000),
    });
    expect(nextHealth(failing, sign('success', 6))).toEqual({
      ...HEALTHY,
      lastSuccessAt: new Date(NOON + 6000),
      lastFailureAt: new Date(NOON + 5000),
    });
  });

  test('in a row open the circuit with the tenth, not sooner', () => {
    const almost = after(Array.from({ length: FAILURES_TO_OPEN - 1 }, (_, n) => sign('failure', n)));
    expect(almost).toMatchObject({ circuit: 'closed', resumeAt: null, allowance: null });
    const open = nextHealth(almost, sign('failure', 9));
    expect(open).toMatchObject({ circuit: 'open', allowance: 1, level: 1 });
    expect(pauseOf(open)).toBe(1000);
  });

  test('of ours change nothing', () => {
    expect(after([sign('ours'), sign('ours', 1)])).toBe(HEALTHY);
  });
});

describe('an open circuit', () => {
  const open = after(Array.from({ length: FAILURES_TO_OPEN }, () => sign('failure')));

  test('pauses twice as long after each probe that fails, up to a bound', () => {
    let health = open;
    const pauses = [pauseOf(health)];
    for (let probe = 0; probe < 12; probe++) {
      const at = health.resumeAt!;
      health = nextHealth(health, sign('failure', 0, { at }));
      pauses.push(pauseOf(health));
    }
    expect(pauses.slice(0, 5)).toEqual([1000, 2000, 4000, 8000, 16_000]);
    expect(pauses.at(-1)).toBe(LONGEST_PAUSE_MS);
  });

  test('does not take what was under way when it opened for a failed probe', () => {
    const late = nextHealth(open, sign('failure', 0.5));
    expect(late).toMatchObject({ level: 1, resumeAt: open.resumeAt, consecutiveFailures: FAILURES_TO_OPEN + 1 });
  });

  test('closes with one success, and lets more through with each further one', () => {
    let health: Health = open;
    const allowed = [];
    for (let success = 0; success < 8; success++) {
      health = nextHealth(health, sign('success', 2 + success));
      allowed.push(health.allowance);
    }
    expect(health.circuit).toBe('closed');
    expect(allowed).toEqual([2, 4, 8, 16, 32, 64, null, null]);
  });

  test.each([
    [0, 800],
    [0.999_999, 1200],
  ])('spreads its pause: %f', (random, ms) => {
    const health = after(Array.from({ length: FAILURES_TO_OPEN }, () => sign('failure', 0, { random })));
    expect(pauseOf(health)).toBe(ms);
  });
});

describe('a receiver that asks for less', () => {
  test('is left alone at once', () => {
    expect(nextHealth(HEALTHY, sign('throttled'))).toMatchObject({
      circuit: 'open',
      allowance: 1,
      consecutiveFailures: 1,
    });
  });

  test.each([
    ['for as long as it asked', 30_000, 30_000],
    ['for a second when it asked for less', 10, 1000],
    ['for five minutes when it asked for hours: a delivery waits for as long by itself', 7_200_000, LONGEST_PAUSE_MS],
  ])('%s', (_what, retryAfterMs, expected) => {
    expect(pauseOf(nextHealth(HEALTHY, sign('throttled', 0, { retryAfterMs })))).toBe(expected);
  });

  test('and a Retry-After with another failure binds that delivery alone', () => {
    expect(nextHealth(HEALTHY, sign('failure', 0, { retryAfterMs: 60_000 })).resumeAt).toBeNull();
  });
});

describe('an endpoint is given up on', () => {
  const failingFor = (ms: number) => after([sign('failure', 0), sign('failure', ms / 1000)]);
  test.each([
    [GIVE_UP_AFTER_MS - 1, false],
    [GIVE_UP_AFTER_MS, true],
  ])('after %i ms without a success: %s', (ms, expected) => {
    expect(isHopeless(failingFor(ms))).toBe(expected);
  });
  test('not when a success came between', () => {
    const health = after([sign('failure'), sign('success', 1), sign('failure', GIVE_UP_AFTER_MS / 1000)]);
    expect(isHopeless(health)).toBe(false);
  });
});

describe('a success', () => {
  const known = { ...HEALTHY, lastSuccessAt: new Date(NOON) };
  test.each<[string, Health, number, boolean]>([
    ['soon after another one changes nothing', known, 9, true],
    ['after ten seconds is noted', known, 10, false],
    ['is noted when it is the first', HEALTHY, 0, false],
    ['after failures is noted', { ...known, consecutiveFailures: 1 }, 1, false],
    ['while the endpoint recovers is noted', { ...known, allowance: 4 }, 1, false],
  ])('%s', (_what, health, second, expected) => {
    expect(isQuiet(health, sign('success', second))).toBe(expected);
  });
  test('or nothing, no failure is quiet but ours', () => {
    expect(isQuiet(known, sign('failure'))).toBe(false);
    expect(isQuiet(known, sign('ours'))).toBe(true);
  });
});
