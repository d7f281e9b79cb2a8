import { describe, expect, test } from 'vitest';
import { type ClockReading, SteadyClock } from '#domain/steady-clock.ts';

const START = Date.UTC(2026, 0, 1);
const [SECOND, MINUTE, HOUR, DAY] = [1000, 60_000, 3_600_000, 86_400_000] as const;

/** A process and a database, second by second. */
class Machines {
  /** Monotonic, of the process; and the sleep that the process's monotonic clock does not count. */
  at = 5000;
  asleep = 0;
  /** What is wrong with the database's clock. */
  ahead = 0;
  roundTripMs = 2;
  readonly clock: SteadyClock;

  constructor(isKnown = true) {
    this.clock = new SteadyClock(this.reading(), isKnown);
  }

  reading(): ClockReading {
    const askedAt = this.at;
    const answeredAt = askedAt + this.roundTripMs;
    const database = START + askedAt + this.roundTripMs / 2 + this.asleep + this.ahead;
    return { database, askedAt, answeredAt, uptime: answeredAt + this.asleep };
  }

  /** A reading a second, for so long; answers the news. */
  pass(ms: number) {
    const news: Array<ReturnType<SteadyClock['take']>> = [];
    for (const until = this.at + ms; this.at < until;) {
      this.at += SECOND;
      news.push(this.clock.take(this.reading()));
    }
    return news.filter((one) => one !== undefined).map(({ kind }) => kind);
  }

  /** What the process has for the time, less what it is. */
  get wrongBy(): number {
    return Math.round(this.clock.timeAt(this.at) - (START + this.at + this.asleep));
  }
}

describe('a jump that does not last changes nothing', () => {
  test.each([
    [20 * SECOND, 30 * SECOND],
    [-20 * SECOND, 30 * SECOND],
    [45 * SECOND, 59 * SECOND],
    [-45 * SECOND, 59 * SECOND],
    [HOUR, 4 * SECOND],
    [HOUR, 4 * MINUTE],
    [-HOUR, 4 * MINUTE],
    [40 * DAY, 9 * SECOND],
    [500 * DAY, 8 * SECOND],
    [1500, 10 * SECOND],
  ])('%i ms, for %i ms', (ahead, forMs) => {
    const machines = new Machines();
    machines.pass(3 * SECOND);
    machines.ahead = ahead;
    expect(machines.pass(forMs)).toEqual(['jumped']);
    expect(machines.wrongBy).toBe(0);
    machines.ahead = 0;
    expect(machines.pass(10 * MINUTE)).toEqual(['returned']);
    expect(machines.wrongBy).toBe(0);
  });
});

test.each([
  [2 * SECOND, MINUTE],
  [-45 * SECOND, MINUTE],
  [2 * MINUTE, 2 * MINUTE],
  [-HOUR, 5 * MINUTE],
  [500 * DAY, 5 * MINUTE],
])('a jump of %i ms that stays is believed after %i ms', (ahead, afterMs) => {
  const machines = new Machines();
  machines.ahead = ahead;
  expect(machines.pass(afterMs)).toEqual(['jumped']);
  expect(machines.wrongBy).toBe(0);
  expect(machines.pass(2 * SECOND)).toEqual(['adopted']);
  expect(machines.wrongBy).toBe(ahead);
});

test('a clock that goes from one wrong time to another is believed in neither until it stays', () => {
  const machines = new Machines();
  for (const ahead of [HOUR, -HOUR, 2 * HOUR, DAY, HOUR]) {
    machines.ahead = ahead;
    expect(machines.pass(4 * MINUTE)).toEqual(['jumped']);
    expect(machines.wrongBy).toBe(0);
  }
});

test('what was seen for nine seconds is believed for nine: a process that started while the clock was wrong', () => {
  const machines = new Machines(false);
  machines.pass(9 * SECOND);
  machines.ahead = -40 * DAY; // right again
  expect(machines.pass(8 * SECOND)).toEqual(['jumped']);
  expect(machines.pass(3 * SECOND)).toEqual(['adopted']);
  expect(machines.wrongBy).toBe(-40 * DAY);
});

test('a clock that is believed late is not given up sooner than the one before', () => {
  const machines = new Machines();
  machines.ahead = HOUR;
  machines.pass(6 * MINUTE);
  machines.ahead = 0;
  expect(machines.pass(4 * MINUTE)).toEqual(['jumped']);
  expect(machines.wrongBy).toBe(HOUR);
  expect(machines.pass(2 * MINUTE)).toEqual(['adopted']);
  expect(machines.wrongBy).toBe(0);
});

test('a machine that slept has the time again at once, and one that slept while the clock jumped has not', () => {
  const machines = new Machines();
  machines.pass(SECOND);
  machines.asleep = 8 * HOUR;
  expect(machines.pass(SECOND)).toEqual(['resumed']);
  expect(machines.wrongBy).toBe(0);
  machines.asleep += HOUR;
  machines.ahead = DAY;
  expect(machines.pass(SECOND)).toEqual(['jumped']);
});

test('slow readings make no jump, and sharper ones put right what they left', () => {
  const machines = new Machines();
  machines.roundTripMs = 4000;
  machines.ahead = 1900; // the response was on its way for nearly all of the time
  expect(machines.pass(10 * SECOND)).toEqual([]);
  machines.roundTripMs = 2;
  machines.ahead = 0;
  expect(machines.pass(2 * SECOND)).toEqual([]);
  expect(Math.abs(machines.wrongBy)).toBeLessThanOrEqual(1);
});

test('clocks that drift apart are followed, and time never goes back on the way', () => {
  const machines = new Machines();
  let latest = 0;
  for (let n = 0; n < 600; n++) {
    machines.ahead -= 0.2;
    expect(machines.pass(SECOND)).toEqual([]);
    const time = machines.clock.timeAt(machines.at);
    expect(time).toBeGreaterThanOrEqual(latest);
    latest = time;
  }
  expect(Math.abs(machines.wrongBy - machines.ahead)).toBeLessThan(3);
});
