import { describe, expect, test } from 'vitest';
import { type Cron, nextTimes, parseCron } from '../../../src/jobs/schedule/cron.ts';
import { accepted } from '../../support/fixtures.ts';

const cron = (expression: string, timeZone: string): Cron => accepted(parseCron(expression, timeZone));

/** The times in a window, as ISO 8601 to the minute. */
function times(expression: string, timeZone: string, from: string, until: string): string[] {
  const read = cron(expression, timeZone);
  const end = new Date(until);
  const found: string[] = [];
  // From a millisecond before: the window includes its beginning.
  for (let time = read.next(new Date(Date.parse(from) - 1)); time !== null && time < end; time = read.next(time))
    found.push(`${time.toISOString().slice(0, 16)}Z`);
  return found;
}

// The changes are those of the zones' laws, the instants worked out by hand.
describe('in spring, when the clocks skip times,', () => {
  test.each<[string, string, string, [string, string], string[]]>([
    // Berlin, 29 March 2026: from 02:00 (+01:00) to 03:00 (+02:00) at 01:00Z.
    [
      'a time that is skipped comes once, when the clocks have jumped',
      '30 2 * * *',
      'Europe/Berlin',
      ['2026-03-28T00:00Z', '2026-03-31T00:00Z'],
      ['2026-03-28T01:30Z', '2026-03-29T01:00Z', '2026-03-30T00:30Z'],
    ],
    [
      'two times that are skipped come once together',
      '0,30 2 * * *',
      'Europe/Berlin',
      ['2026-03-29T00:00Z', '2026-03-30T00:00Z'],
      ['2026-03-29T01:00Z'],
    ],
    [
      'one that is skipped and one of the moment after come once together',
      '0 2,3 * * *',
      'Europe/Berlin',
      ['2026-03-29T00:00Z', '2026-03-30T00:00Z'],
      ['2026-03-29T01:00Z'],
    ],
    [
      'so does each minute of a named hour',
      '* 2 * * *',
      'Europe/Berlin',
      ['2026-03-29T00:00Z', '2026-03-30T00:00Z'],
      ['2026-03-29T01:00Z'],
    ],
    [
      'so does a step through the minutes of a named hour',
      '*/15 1-3 * * *',
      'Europe/Berlin',
      ['2026-03-29T00:00Z', '2026-03-29T03:00Z'],
      [
        '2026-03-29T00:00Z',
        '2026-03-29T00:15Z',
        '2026-03-29T00:30Z',
        '2026-03-29T00:45Z',
        '2026-03-29T01:00Z',
        '2026-03-29T01:15Z',
        '2026-03-29T01:30Z',
        '2026-03-29T01:45Z',
      ],
    ],
    [
      'the first moment after it is not moved',
      '0 3 * * *',
      'Europe/Berlin',
      ['2026-03-28T00:00Z', '2026-03-30T12:00Z'],
      ['2026-03-28T02:00Z', '2026-03-29T01:00Z', '2026-03-30T01:00Z'],
    ],
    [
      'every quarter of an hour goes on through it',
      '*/15 * * * *',
      'Europe/Berlin',
      ['2026-03-29T00:30Z', '2026-03-29T01:31Z'],
      ['2026-03-29T00:30Z', '2026-03-29T00:45Z', '2026-03-29T01:00Z', '2026-03-29T01:15Z', '2026-03-29T01:30Z'],
    ],
    [
      'every second hour leaves out the one that is skipped',
      '0 */2 * * *',
      'Europe/Berlin',
      ['2026-03-28T23:00Z', '2026-03-29T05:00Z'],
      ['2026-03-28T23:00Z', '2026-03-29T02:00Z', '2026-03-29T04:00Z'],
    ],
    // New York, 8 March 2026: from 02:00 (-05:00) to 03:00 (-04:00) at 07:00Z.
    [
      'New York',
      '15 2 * * *',
      'America/New_York',
      ['2026-03-07T00:00Z', '2026-03-10T00:00Z'],
      ['2026-03-07T07:15Z', '2026-03-08T07:00Z', '2026-03-09T06:15Z'],
    ],
    // Lord Howe, 4 October 2026: from 02:00 (+10:30) to 02:30 (+11:00) at 15:30Z the day before.
    [
      'half an hour, on Lord Howe',
      '15 2 * * *',
      'Australia/Lord_Howe',
      ['2026-10-02T00:00Z', '2026-10-05T00:00Z'],
      ['2026-10-02T15:45Z', '2026-10-03T15:30Z', '2026-10-04T15:15Z'],
    ],
    [
      'half an hour, and a time after it',
      '45 2 * * *',
      'Australia/Lord_Howe',
      ['2026-10-02T00:00Z', '2026-10-05T00:00Z'],
      ['2026-10-02T16:15Z', '2026-10-03T15:45Z', '2026-10-04T15:45Z'],
    ],
    // Sydney, 4 October 2026: from 02:00 (+10:00) to 03:00 (+11:00) at 16:00Z the day before.
    [
      'in the south, where spring is in October',
      '30 2 * * *',
      'Australia/Sydney',
      ['2026-10-02T00:00Z', '2026-10-05T00:00Z'],
      ['2026-10-02T16:30Z', '2026-10-03T16:00Z', '2026-10-04T15:30Z'],
    ],
    // Santiago, 6 September 2026: from 00:00 (-04:00) to 01:00 (-03:00) at 04:00Z.
    [
      'midnight itself',
      '@daily',
      'America/Santiago',
      ['2026-09-05T00:00Z', '2026-09-08T00:00Z'],
      ['2026-09-05T04:00Z', '2026-09-06T04:00Z', '2026-09-07T03:00Z'],
    ],
    // Nuuk, 28 March 2026: from 23:00 (-02:00) to 00:00 (-01:00) of the next day, at 01:00Z.
    [
      'the last hour of a day, in Greenland',
      '30 23 * * *',
      'America/Nuuk',
      ['2026-03-27T12:00Z', '2026-03-30T12:00Z'],
      ['2026-03-28T01:30Z', '2026-03-29T01:00Z', '2026-03-30T00:30Z'],
    ],
    [
      'the last hour of a Saturday, in Greenland',
      '30 23 * * SAT',
      'America/Nuuk',
      ['2026-03-27T12:00Z', '2026-04-06T12:00Z'],
      ['2026-03-29T01:00Z', '2026-04-05T00:30Z'],
    ],
    // Apia went from 29 December 2011, 24:00 (-10:00), to 31 December, 00:00 (+14:00), at 10:00Z.
    [
      'a whole day, in Samoa',
      '0 12 * * *',
      'Pacific/Apia',
      ['2011-12-29T00:00Z', '2012-01-01T00:00Z'],
      ['2011-12-29T22:00Z', '2011-12-30T10:00Z', '2011-12-30T22:00Z', '2011-12-31T22:00Z'],
    ],
  ])('%s: %s %s', (_, expression, timeZone, [from, until], expected) => {
    expect(times(expression, timeZone, from, until)).toEqual(expected);
  });
});

describe('in autumn, when the clocks show times twice,', () => {
  test.each<[string, string, string, [string, string], string[]]>([
    // Berlin, 25 October 2026: from 03:00 (+02:00) back to 02:00 (+01:00) at 01:00Z.
    [
      'a named hour comes once, the first time',
      '30 2 * * *',
      'Europe/Berlin',
      ['2026-10-24T00:00Z', '2026-10-27T00:00Z'],
      ['2026-10-24T00:30Z', '2026-10-25T00:30Z', '2026-10-26T01:30Z'],
    ],
    [
      'a range of hours goes on after the repetition',
      '0 1-4 * * *',
      'Europe/Berlin',
      ['2026-10-24T22:00Z', '2026-10-25T12:00Z'],
      ['2026-10-24T23:00Z', '2026-10-25T00:00Z', '2026-10-25T02:00Z', '2026-10-25T03:00Z'],
    ],
    [
      'every quarter of an hour goes on through it',
      '*/15 * * * *',
      'Europe/Berlin',
      ['2026-10-25T00:30Z', '2026-10-25T01:46Z'],
      [
        '2026-10-25T00:30Z',
        '2026-10-25T00:45Z',
        '2026-10-25T01:00Z',
        '2026-10-25T01:15Z',
        '2026-10-25T01:30Z',
        '2026-10-25T01:45Z',
      ],
    ],
    [
      'a minute of every hour comes in both',
      '30 * * * *',
      'Europe/Berlin',
      ['2026-10-24T23:00Z', '2026-10-25T02:31Z'],
      ['2026-10-24T23:30Z', '2026-10-25T00:30Z', '2026-10-25T01:30Z', '2026-10-25T02:30Z'],
    ],
    [
      'every second hour comes in both',
      '0 */2 * * *',
      'Europe/Berlin',
      ['2026-10-24T22:00Z', '2026-10-25T04:00Z'],
      ['2026-10-24T22:00Z', '2026-10-25T00:00Z', '2026-10-25T01:00Z', '2026-10-25T03:00Z'],
    ],
    // New York, 1 November 2026: from 02:00 (-04:00) back to 01:00 (-05:00) at 06:00Z.
    [
      'New York',
      '30 1 * * *',
      'America/New_York',
      ['2026-10-31T00:00Z', '2026-11-03T00:00Z'],
      ['2026-10-31T05:30Z', '2026-11-01T05:30Z', '2026-11-02T06:30Z'],
    ],
    // Lord Howe, 5 April 2026: from 02:00 (+11:00) back to 01:30 (+10:30) at 15:00Z the day before.
    [
      'half an hour, on Lord Howe',
      '45 1 * * *',
      'Australia/Lord_Howe',
      ['2026-04-03T00:00Z', '2026-04-06T00:00Z'],
      ['2026-04-03T14:45Z', '2026-04-04T14:45Z', '2026-04-05T15:15Z'],
    ],
    [
      'half an hour, for every ten minutes',
      '*/10 * * * *',
      'Australia/Lord_Howe',
      ['2026-04-04T14:40Z', '2026-04-04T15:31Z'],
      [
        '2026-04-04T14:40Z',
        '2026-04-04T14:50Z',
        '2026-04-04T15:00Z',
        '2026-04-04T15:10Z',
        '2026-04-04T15:20Z',
        '2026-04-04T15:30Z',
      ],
    ],
    // Sydney, 5 April 2026: from 03:00 (+11:00) back to 02:00 (+10:00) at 16:00Z the day before.
    [
      'in the south, where autumn is in April',
      '30 2 * * *',
      'Australia/Sydney',
      ['2026-04-03T00:00Z', '2026-04-06T00:00Z'],
      ['2026-04-03T15:30Z', '2026-04-04T15:30Z', '2026-04-05T16:30Z'],
    ],
    // Santiago, 4 April 2026: from 24:00 (-03:00) back to 23:00 (-04:00) at 03:00Z the day after.
    [
      'the last hour of a day',
      '30 23 * * *',
      'America/Santiago',
      ['2026-04-04T00:00Z', '2026-04-06T12:00Z'],
      ['2026-04-04T02:30Z', '2026-04-05T02:30Z', '2026-04-06T03:30Z'],
    ],
  ])('%s: %s %s', (_, expression, timeZone, [from, until], expected) => {
    expect(times(expression, timeZone, from, until)).toEqual(expected);
  });
});

test.each([
  ['Asia/Kolkata', '2026-03-28T21:00Z', '2026-03-29T21:00Z'],
  ['UTC', '2026-03-29T02:30Z', '2026-03-30T02:30Z'],
  ['Etc/GMT+5', '2026-03-28T07:30Z', '2026-03-29T07:30Z'],
])('in %s, which changes no clocks, a day is a day', (timeZone, first, second) => {
  expect(times('30 2 * * *', timeZone, first, '2026-03-30T02:31Z').slice(0, 2)).toEqual([first, second]);
});

/** What a clock on the wall shows: read from the platform, minute by minute, and nothing else. */
function wallClock(timeZone: string): (instant: number) => { minute: number; hour: number; date: string } {
  const format = new Intl.DateTimeFormat('sv-SE', { timeZone, dateStyle: 'short', timeStyle: 'medium' });
  return (instant) => {
    const [date = '', time = ''] = format.format(instant).split(' ');
    const [hour, minute] = time.split(':').map(Number);
    return { date, hour: hour!, minute: minute! };
  };
}

const MINUTE = 60_000;

type Wants = (hour: number, minute: number) => boolean;

/**
 * When somebody would act who looks at the clock every minute, and wants to act whenever it shows certain times. For named
 * hours: only the first time that it shows them, and also when it has jumped past one.
 */
function watch(
  timeZone: string,
  [from, until]: readonly [number, number],
  wants: Wants,
  namesHours: boolean,
): number[] {
  const clock = wallClock(timeZone);
  const found: number[] = [];
  let latest = Number.POSITIVE_INFINITY;
  for (let instant = from - 120 * MINUTE; instant < until; instant += MINUTE) {
    const { date, hour, minute } = clock(instant);
    const wall = Date.parse(`${date}T00:00Z`) + (hour * 60 + minute) * MINUTE;
    const news: number[] = [];
    for (let passed = latest + MINUTE; passed <= wall; passed += MINUTE) news.push(passed);
    const due = namesHours
      ? news.some((passed) => wants(new Date(passed).getUTCHours(), new Date(passed).getUTCMinutes()))
      : wants(hour, minute);
    if (due && instant >= from) found.push(instant);
    latest = latest > wall + 120 * MINUTE ? wall : Math.max(latest, wall);
  }
  return found;
}

const CHANGES = [
  ['Europe/Berlin', '2026-03-29T01:00Z'],
  ['Europe/Berlin', '2026-10-25T01:00Z'],
  ['America/New_York', '2026-03-08T07:00Z'],
  ['America/New_York', '2026-11-01T06:00Z'],
  ['Australia/Lord_Howe', '2026-10-03T15:30Z'],
  ['Australia/Lord_Howe', '2026-04-04T15:00Z'],
  ['Australia/Sydney', '2026-04-04T16:00Z'],
  ['America/Santiago', '2026-09-06T04:00Z'],
  ['America/Santiago', '2026-04-05T03:00Z'],
  ['America/Nuuk', '2026-03-29T01:00Z'],
  ['America/Nuuk', '2026-10-25T01:00Z'],
  ['Africa/Casablanca', '2026-02-15T02:00Z'],
  ['Pacific/Auckland', '2026-09-26T14:00Z'],
  ['Asia/Kolkata', '2026-03-29T01:00Z'],
] as const;

const EXPRESSIONS: ReadonlyArray<[string, Wants, boolean]> = [
  ['*/15 * * * *', (_, minute) => minute % 15 === 0, false],
  ['7 * * * *', (_, minute) => minute === 7, false],
  ['*/20 */2 * * *', (hour, minute) => hour % 2 === 0 && minute % 20 === 0, false],
  ['10 0-4/3,23 * * *', (hour, minute) => minute === 10 && [0, 3, 23].includes(hour), false],
  ['*/15 0-4 * * *', (hour, minute) => minute % 15 === 0 && hour <= 4, true],
  ['30 1,2,23 * * *', (hour, minute) => minute === 30 && [1, 2, 23].includes(hour), true],
  ['0 0 * * *', (hour, minute) => hour === 0 && minute === 0, true],
  ['59 1-2 * * *', (hour, minute) => minute === 59 && (hour === 1 || hour === 2), true],
  ['* 2 * * *', (hour) => hour === 2, true],
];

describe.each(CHANGES)('around the change of %s at %s', (timeZone, change) => {
  const from = Date.parse(change) - 10 * 60 * MINUTE;
  const until = Date.parse(change) + 10 * 60 * MINUTE;
  test.each(EXPRESSIONS)(
    '%s comes when somebody who watches the clock would say so',
    (expression, wants, namesHours) => {
      const read = cron(expression, timeZone);
      const watched = watch(timeZone, [from, until], wants, namesHours);
      const found = nextTimes(read, new Date(from - 1), watched.length + 1).map((time) => time.getTime());
      expect(found.filter((time) => time < until)).toEqual(watched);
      expect(found.at(-1)).toBeGreaterThanOrEqual(until);
    },
  );

  test('whatever the moment, the next time is the first of those that follow it', () => {
    for (const [expression] of EXPRESSIONS) {
      const read = cron(expression, timeZone);
      const all = nextTimes(read, new Date(from), 200).map((time) => time.getTime());
      for (let moment = from + 1; moment < Math.min(until, all.at(-1)!); moment += 13 * MINUTE + 7 * 1000 + 1) {
        const expected = all.find((time) => time > moment);
        expect(read.next(new Date(moment))?.getTime(), `${expression} after ${new Date(moment).toISOString()}`).toBe(
          expected,
        );
      }
    }
  });
});
