import { describe, expect, test } from 'vitest';
import {
  MISFIRE_GRACE_MS,
  MISFIRE_POLICIES,
  MOST_CAUGHT_UP,
  type MisfirePolicy,
  OVERLAP_POLICIES,
  planFiring,
} from '#domain/schedule.ts';
import { wordsOfCheck } from './check-constraints.ts';

const MINUTE = 60_000;
const HOUR = 60 * MINUTE;
const NOON = Date.parse('2026-01-31T12:00:00.000Z');

/** Every so many milliseconds, for ever. */
const every = (ms: number) => (after: Date) => new Date((Math.floor(after.getTime() / ms) + 1) * ms);
/** At these times and no others. */
const at = (times: readonly number[]) => (after: Date) => {
  const time = times.find((candidate) => candidate > after.getTime());
  return time === undefined ? null : new Date(time);
};

/** A plan in minutes from noon. */
function plan(misfire: MisfirePolicy, due: number, now: number, following: (after: Date) => Date | null) {
  const planned = planFiring({ due: new Date(due), misfire }, new Date(now), following);
  const minutes = (time: Date | null) => time && (time.getTime() - NOON) / MINUTE;
  return {
    fire: planned.fire.map(minutes),
    leftOut: planned.leftOut && [minutes(planned.leftOut.first), minutes(planned.leftOut.last)],
    next: minutes(planned.next),
  };
}

test('the database takes these policies and no others', () => {
  expect(wordsOfCheck('job_schedules_overlap')).toEqual([...OVERLAP_POLICIES]);
  expect(wordsOfCheck('job_schedules_misfire')).toEqual([...MISFIRE_POLICIES]);
});

describe.each(MISFIRE_POLICIES)('whatever the policy (%s),', (misfire) => {
  test.each([0, 1, 999, 30_000, MISFIRE_GRACE_MS])('a time that is %d ms late fires', (late) => {
    expect(plan(misfire, NOON, NOON + late, every(HOUR))).toEqual({ fire: [0], leftOut: null, next: 60 });
  });

  test('a time that is yet to come does not fire, and stays the next', () => {
    expect(plan(misfire, NOON, NOON - 1, every(HOUR))).toEqual({ fire: [], leftOut: null, next: 0 });
  });

  test('two times within the grace both fire', () => {
    expect(plan(misfire, NOON, NOON + MINUTE, every(MINUTE))).toEqual({ fire: [0, 1], leftOut: null, next: 2 });
  });

  test('the last time of all leaves no next one', () => {
    expect(plan(misfire, NOON, NOON + 1, at([NOON]))).toEqual({ fire: [0], leftOut: null, next: null });
  });

  test('the next time is after now, however late it is', () => {
    for (const late of [0, 59_999, 60_000, 60_001, HOUR, 1000 * HOUR]) {
      const planned = planFiring({ due: new Date(NOON), misfire }, new Date(NOON + late), every(MINUTE));
      expect(planned.next!.getTime()).toBe((Math.floor((NOON + late) / MINUTE) + 1) * MINUTE);
    }
  });
});

describe('after a time that is 1 ms more than the grace late', () => {
  test.each<[MisfirePolicy, object]>([
    ['skip', { fire: [], leftOut: [0, 0], next: 60 }],
    ['fire_once', { fire: [0], leftOut: null, next: 60 }],
    ['catch_up', { fire: [0], leftOut: null, next: 60 }],
  ])('%s', (misfire, expected) => {
    expect(plan(misfire, NOON, NOON + MISFIRE_GRACE_MS + 1, every(HOUR))).toEqual(expected);
  });
});

describe('after five hours and a half without a keeper, of a schedule of every hour,', () => {
  test.each<[MisfirePolicy, string, object]>([
    ['skip', 'makes up for none', { fire: [], leftOut: [0, 300], next: 360 }],
    ['fire_once', 'fires the last one, for all', { fire: [300], leftOut: null, next: 360 }],
    ['catch_up', 'fires each, in their order', { fire: [0, 60, 120, 180, 240, 300], leftOut: null, next: 360 }],
  ])('%s %s', (misfire, _, expected) => {
    expect(plan(misfire, NOON, NOON + 5.5 * HOUR, every(HOUR))).toEqual(expected);
  });
});

describe('after five hours sharp, when one time is due just now,', () => {
  test.each<[MisfirePolicy, string, object]>([
    ['skip', 'fires that one', { fire: [300], leftOut: [0, 240], next: 360 }],
    ['fire_once', 'lets it stand for those before', { fire: [300], leftOut: null, next: 360 }],
    ['catch_up', 'fires it after the others', { fire: [0, 60, 120, 180, 240, 300], leftOut: null, next: 360 }],
  ])('%s %s', (misfire, _, expected) => {
    expect(plan(misfire, NOON, NOON + 5 * HOUR, every(HOUR))).toEqual(expected);
  });
});

test('catch_up makes up for a hundred times; the rest is left out, but for what is due now', () => {
  const after = (hours: number) => plan('catch_up', NOON, NOON + hours * HOUR, every(HOUR));
  const hundred = Array.from({ length: MOST_CAUGHT_UP }, (_, index) => index * 60);
  expect(after(99.5)).toEqual({ fire: hundred, leftOut: null, next: 6000 });
  expect(after(100)).toEqual({ fire: [...hundred, 6000], leftOut: null, next: 6060 });
  expect(after(100.5)).toEqual({ fire: hundred, leftOut: [6000, 6000], next: 6060 });
  expect(after(500)).toEqual({ fire: [...hundred, 30_000], leftOut: [6000, 29_940], next: 30_060 });
});

test('a schedule whose times are over by now ends with what its policy makes of them', () => {
  const times = at([NOON, NOON + HOUR, NOON + 2 * HOUR]);
  const now = NOON + 9 * HOUR;
  expect(plan('skip', NOON, now, times)).toEqual({ fire: [], leftOut: [0, 120], next: null });
  expect(plan('fire_once', NOON, now, times)).toEqual({ fire: [120], leftOut: null, next: null });
  expect(plan('catch_up', NOON, now, times)).toEqual({ fire: [0, 60, 120], leftOut: null, next: null });
});

test('years of every minute cost no more than some hundred looks', () => {
  for (const misfire of MISFIRE_POLICIES) {
    let looks = 0;
    const following = (after: Date) => {
      looks++;
      return every(MINUTE)(after);
    };
    const planned = planFiring({ due: new Date(NOON), misfire }, new Date(NOON + 5 * 366 * 24 * HOUR), following);
    expect(planned.fire.length).toBeLessThanOrEqual(MOST_CAUGHT_UP + 2);
    expect(looks, misfire).toBeLessThan(200);
  }
});

/** The same, step by step: each missed time looked at. */
function planSlowly(misfire: MisfirePolicy, due: number, now: number, times: readonly number[]) {
  const passed = times.filter((time) => time >= due && time <= now);
  const missed = passed.filter((time) => now - time > MISFIRE_GRACE_MS);
  const onTime = passed.slice(missed.length);
  const next = times.find((time) => time > now && time >= due) ?? null;
  const lastMissed = missed.slice(-1);
  const made = {
    skip: [],
    fire_once: onTime.length > 0 ? [] : lastMissed,
    catch_up: missed.slice(0, MOST_CAUGHT_UP),
  }[misfire];
  const left = { skip: missed, fire_once: [], catch_up: missed.slice(MOST_CAUGHT_UP) }[misfire];
  return { fire: [...made, ...onTime], leftOut: left.length === 0 ? null : [left[0], left.at(-1)], next };
}

test.each(MISFIRE_POLICIES)('%s decides what looking at every single time would, for times of all kinds', (misfire) => {
  let state = 4711;
  const below = (limit: number) => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return Math.floor((state / 2 ** 32) * limit);
  };
  for (let round = 0; round < 300; round++) {
    // Crowded and sparse by turns, as `*/5 9-17 * * MON-FRI` is.
    const times: number[] = [NOON];
    for (let count = below(300); count > 0; count--) {
      const gap = [MINUTE, 5 * MINUTE, HOUR, 60 * HOUR][below(4)]! * (1 + below(3));
      times.push(times.at(-1)! + gap);
    }
    const due = times[below(times.length)]!;
    const moments = [due, due + below(3 * MINUTE), times[below(times.length)]!, times.at(-1)! + below(HOUR)];
    for (const now of moments.filter((moment) => moment >= due)) {
      const planned = planFiring({ due: new Date(due), misfire }, new Date(now), at(times));
      const { fire, leftOut, next } = planned;
      expect({
        fire: fire.map((time) => time.getTime()),
        leftOut: leftOut && [leftOut.first.getTime(), leftOut.last.getTime()],
        next: next && next.getTime(),
      }).toEqual(planSlowly(misfire, due, now, times));
    }
  }
});
