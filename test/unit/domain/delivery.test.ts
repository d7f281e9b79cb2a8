import { expect, test } from 'vitest';
import { ATTEMPT_OUTCOMES, ATTEMPT_TRIGGERS } from '#domain/attempt.ts';
import { DELIVERY_STATUSES, DELIVERY_TRANSITIONS, type DeliveryStatus, judgeDelivery } from '#domain/delivery.ts';
import { wordsOfCheck } from './check-constraints.ts';

const NEXT = new Date('2026-01-31T12:00:05Z');
const FAILURES = ATTEMPT_OUTCOMES.filter((outcome) => outcome !== 'delivered');

function follows(from: DeliveryStatus, to: DeliveryStatus): boolean {
  const targets: readonly DeliveryStatus[] = DELIVERY_TRANSITIONS[from];
  return targets.includes(to);
}

test('every delivery status has its row in the transition table, and the table leads to no other', () => {
  expect(Object.keys(DELIVERY_TRANSITIONS).toSorted()).toEqual([...DELIVERY_STATUSES].toSorted());
  const targets = Object.values(DELIVERY_TRANSITIONS).flat();
  expect(targets.filter((status) => !DELIVERY_STATUSES.includes(status))).toEqual([]);
});

test('every delivery status can be reached from pending', () => {
  const seen = new Set<DeliveryStatus>(['pending']);
  for (const status of seen) for (const next of DELIVERY_TRANSITIONS[status]) seen.add(next);
  expect([...seen].toSorted()).toEqual([...DELIVERY_STATUSES].toSorted());
});

test('nothing follows discarded', () => {
  expect(DELIVERY_TRANSITIONS.discarded).toEqual([]);
});

test('what is over otherwise can be sent again, but is delivered only by an attempt', () => {
  for (const status of ['held', 'exhausted', 'delivered', 'superseded'] as const) {
    expect(follows(status, 'pending')).toBe(true);
    expect(follows(status, 'delivered')).toBe(false);
  }
});

test.each([
  ['deliveries_status', DELIVERY_STATUSES],
  ['delivery_attempts_outcome', ATTEMPT_OUTCOMES],
  ['delivery_attempts_trigger', ATTEMPT_TRIGGERS],
])('the CHECK %s of the database has the same words', (constraint, words) => {
  expect(wordsOfCheck(constraint)).toEqual([...words]);
});

test.each([null, NEXT])('a 2xx ends the delivery, whatever the schedule offers (%s)', (next) => {
  expect(judgeDelivery('delivered', next)).toEqual({ status: 'delivered', nextAttemptAt: null });
});

test.each(FAILURES)('after %s the delivery waits for its next attempt, or is exhausted', (outcome) => {
  expect(judgeDelivery(outcome, NEXT)).toEqual({ status: 'pending', nextAttemptAt: NEXT });
  expect(judgeDelivery(outcome, null)).toEqual({ status: 'exhausted', nextAttemptAt: null });
});

test.each(ATTEMPT_OUTCOMES)('the verdict on %s is a transition that a pending delivery may make', (outcome) => {
  for (const next of [NEXT, null]) expect(follows('pending', judgeDelivery(outcome, next).status)).toBe(true);
});
