import { describe, expect, test } from 'vitest';
import { nextTimes, parseCron } from '../../../src/jobs/schedule/cron.ts';
import { accepted } from '../../support/fixtures.ts';

const NEW_YEAR = new Date('2026-01-01T00:00:00.000Z');

/** The next times in UTC after the first moment of 2026, a Thursday. */
function times(expression: string, count: number): string[] {
  return nextTimes(accepted(parseCron(expression, 'UTC')), NEW_YEAR, count).map((time) =>
    time.toISOString().slice(0, 16),
  );
}

describe('the times of', () => {
  test.each<[string, string[]]>([
    ['* * * * *', ['2026-01-01T00:01', '2026-01-01T00:02', '2026-01-01T00:03']],
    ['5,1-3,10-20/5 0 * * *', ['01', '02', '03', '05', '10', '15', '20'].map((minute) => `2026-01-01T00:${minute}`)],
    ['*/25 * * * *', ['2026-01-01T00:25', '2026-01-01T00:50', '2026-01-01T01:00', '2026-01-01T01:25']],
    ['0 9-17/4 * * *', ['2026-01-01T09:00', '2026-01-01T13:00', '2026-01-01T17:00', '2026-01-02T09:00']],
    ['30 08 * * MON-FRI', ['2026-01-01T08:30', '2026-01-02T08:30', '2026-01-05T08:30']],
    ['30 8 * * 1-5', ['2026-01-01T08:30', '2026-01-02T08:30', '2026-01-05T08:30']],
    ['0 0 * * 0', ['2026-01-04T00:00', '2026-01-11T00:00']],
    ['0 0 * * 7', ['2026-01-04T00:00', '2026-01-11T00:00']],
    ['0 0 * * sun', ['2026-01-04T00:00', '2026-01-11T00:00']],
    ['0 0 * * SAT-SUN', ['2026-01-03T00:00', '2026-01-04T00:00', '2026-01-10T00:00']],
    ['0 0 * * SUN-SUN', ['2026-01-04T00:00', '2026-01-11T00:00']],
    ['0 0 * * SUN-MON', ['2026-01-04T00:00', '2026-01-05T00:00', '2026-01-11T00:00']],
    ['0 0 * * 5-7', ['2026-01-02T00:00', '2026-01-03T00:00', '2026-01-04T00:00', '2026-01-09T00:00']],
    ['0 0 * * */2', ['2026-01-03T00:00', '2026-01-04T00:00', '2026-01-06T00:00', '2026-01-08T00:00']],
    ['0 0 1 * *', ['2026-02-01T00:00', '2026-03-01T00:00']],
    ['0 0 31 * *', ['2026-01-31T00:00', '2026-03-31T00:00', '2026-05-31T00:00', '2026-07-31T00:00']],
    ['0 0 L * *', ['2026-01-31T00:00', '2026-02-28T00:00', '2026-03-31T00:00', '2026-04-30T00:00']],
    ['0 0 15,L 2 *', ['2026-02-15T00:00', '2026-02-28T00:00', '2027-02-15T00:00']],
    ['0 0 29 2 *', ['2028-02-29T00:00', '2032-02-29T00:00']],
    ['0 0 29-31 2 *', ['2028-02-29T00:00', '2032-02-29T00:00']],
    ['0 12 1 JAN,jul *', ['2026-01-01T12:00', '2026-07-01T12:00', '2027-01-01T12:00']],
    ['0 0 1 */3 *', ['2026-04-01T00:00', '2026-07-01T00:00', '2026-10-01T00:00', '2027-01-01T00:00']],
    ['0 0 * * 5#2', ['2026-01-09T00:00', '2026-02-13T00:00', '2026-03-13T00:00']],
    ['0 0 * * MON#1,FRIL', ['2026-01-05T00:00', '2026-01-30T00:00', '2026-02-02T00:00', '2026-02-27T00:00']],
    ['0 0 * * SUN#5', ['2026-03-29T00:00', '2026-05-31T00:00']],
    ['0 0 * 2 5#5', ['2036-02-29T00:00', '2064-02-29T00:00']],
    // Both days given: either is enough.
    ['0 0 13 * FRI', ['2026-01-02T00:00', '2026-01-09T00:00', '2026-01-13T00:00', '2026-01-16T00:00']],
    ['0 0 30 2 MON', ['2026-02-02T00:00', '2026-02-09T00:00']],
    ['@hourly', ['2026-01-01T01:00', '2026-01-01T02:00']],
    ['@daily', ['2026-01-02T00:00', '2026-01-03T00:00']],
    ['@Midnight', ['2026-01-02T00:00', '2026-01-03T00:00']],
    ['@weekly', ['2026-01-04T00:00', '2026-01-11T00:00']],
    ['@monthly', ['2026-02-01T00:00', '2026-03-01T00:00']],
    ['@yearly', ['2027-01-01T00:00', '2028-01-01T00:00']],
    ['@annually', ['2027-01-01T00:00', '2028-01-01T00:00']],
    [' 0\t6  * * * ', ['2026-01-01T06:00', '2026-01-02T06:00']],
  ])('%s', (expression, expected) => {
    expect(times(expression, expected.length)).toEqual(expected);
  });
});

test('the next time is after the moment, to the millisecond', () => {
  const cron = accepted(parseCron('0 12 * * *', 'Europe/Berlin'));
  const noon = Date.parse('2026-01-31T11:00:00.000Z');
  expect(cron.next(new Date(noon - 1))).toEqual(new Date(noon));
  expect(cron.next(new Date(noon))).toEqual(new Date(noon + 86_400_000));
  expect(cron.next(new Date(noon + 1))).toEqual(new Date(noon + 86_400_000));
});

test('expression and zone are kept as they were meant', () => {
  expect(accepted(parseCron('  0\t6 * *  mon ', 'europe/berlin'))).toMatchObject({
    expression: '0 6 * * mon',
    timeZone: 'Europe/Berlin',
  });
});

describe('refused, with the field that is wrong:', () => {
  test.each<[string, string | RegExp]>([
    ['', /must have five fields \(minute, hour, day of month, month, day of week\), not 0/],
    ['   ', /not 0/],
    ['* * * *', /not 4/],
    ['0 * * * * *', /not 6/],
    ['0 0 12 1 1 * 2026', /not 7/],
    ['constructor', /not 1/],
    ['2026-01-01T00:00:00Z', /not 1/],
    ['@reboot', /"@reboot" is none of @hourly, @daily/],
    ['@', /"@" is none of/],
    ['60 * * * *', 'minute: 60 is not within 0 to 59'],
    ['-1 * * * *', 'minute: a value is missing'],
    ['1- * * * *', 'minute: a value is missing'],
    ['* 24 * * *', 'hour: 24 is not within 0 to 23'],
    ['* * 0 * *', 'day of month: 0 is not within 1 to 31'],
    ['* * 32 * *', 'day of month: 32 is not within 1 to 31'],
    ['* * * 13 *', 'month: 13 is not within 1 to 12'],
    ['* * * 0 *', 'month: 0 is not within 1 to 12'],
    ['* * * * 8', 'day of week: 8 is not within 0 to 7'],
    ['* * * FOO *', 'month: "FOO" is not understood'],
    ['* * * MON *', 'month: "MON" is not understood'],
    ['* * * January *', 'month: "JANUARY" is not understood'],
    ['a * * * *', 'minute: "A" is not understood'],
    ['1,,2 * * * *', 'minute: a value is missing'],
    [', * * * *', 'minute: a value is missing'],
    ['*,5 * * * *', 'minute: * stands alone'],
    ['** * * * *', 'minute: "**" is not understood'],
    ['? * * * *', 'minute: "?" is not understood'],
    ['1.5 * * * *', 'minute: "1.5" is not understood'],
    ['1e1 * * * *', 'minute: "1E1" is not understood'],
    ['５ * * * *', 'minute: "５" is not understood'],
    ['5-1 * * * *', 'minute: "5-1" runs backwards; write it as two ranges'],
    ['* * * * FRI-MON', 'day of week: "FRI-MON" runs backwards; write it as two ranges'],
    ['1-2-3 * * * *', 'minute: "1-2-3" is not understood'],
    ['*/0 * * * *', 'minute: "*/0": a step is a number from 1 to 59'],
    ['*/60 * * * *', 'minute: "*/60": a step is a number from 1 to 59'],
    ['*/-5 * * * *', 'minute: "*/-5": a step is a number from 1 to 59'],
    ['*/ * * * *', 'minute: "*/": a step is a number from 1 to 59'],
    ['*/5/5 * * * *', 'minute: "*/5/5": a step is a number from 1 to 59'],
    ['* */24 * * *', 'hour: "*/24": a step is a number from 1 to 23'],
    ['5/15 * * * *', 'minute: "5/15": a step follows * or a range, such as 5-59/15'],
    ['* * 15W * *', 'day of month: "15W" is not understood'],
    ['* * LW * *', 'day of month: "LW" is not understood'],
    ['* * L-3 * *', 'day of month: "L" is not understood'],
    ['* L * * *', 'hour: "L" is not understood'],
    ['* * * * L', 'day of week: "L" is not understood'],
    ['* * * * +1', 'day of week: "+1" is not understood'],
    ['* * * * 5#6', 'day of week: "5#6": # is followed by 1 to 5'],
    ['* * * * 5#0', 'day of week: "5#0": # is followed by 1 to 5'],
    ['* * * * 8#1', 'day of week: 8 is not within 0 to 7'],
    ['* * * * #1', 'day of week: "#1" is not understood'],
    ['0 0 30 2 *', 'it never comes due: there is no such day'],
    ['0 0 31 2,4,6,9,11 *', 'it never comes due: there is no such day'],
    [`${'1,'.repeat(100)}1 * * * *`, 'may have 200 characters at most'],
    ['\0 * * * *', 'minute: "\\u0000" is not understood'],
  ])('%j', (expression, message) => {
    const refused = parseCron(expression, 'UTC');
    expect(refused).toMatchObject({ ok: false, code: 'invalid_schedule' });
    expect(!refused.ok && refused.faults).toEqual([
      { path: '/cron', message: typeof message === 'string' ? message : expect.stringMatching(message) },
    ]);
  });

  test('every field and the zone at once', () => {
    const refused = parseCron('60 24 * 13 *', 'Europe/Berln');
    expect(!refused.ok && refused.faults).toEqual([
      { path: '/cron', message: 'minute: 60 is not within 0 to 59' },
      { path: '/cron', message: 'hour: 24 is not within 0 to 23' },
      { path: '/cron', message: 'month: 13 is not within 1 to 12' },
      { path: '/time_zone', message: expect.stringContaining('did you mean Europe/Berlin') },
    ]);
    expect(!refused.ok && refused.detail).toMatch(/minute: 60.*hour: 24.*month: 13.*"Europe\/Berln"/);
  });
});

/** A small generator, so that a failure comes again. */
function random(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
}

test('whatever is written, it is read or refused, and never throws', () => {
  const below = random(4711);
  const pick = <T>(choice: readonly T[]) => choice[below(choice.length)]!;
  const number = () => String(below(below(4) === 0 ? 70 : 7));
  const whole = [
    () => '*',
    number,
    () => `${number()}-${number()}`,
    () => `*/${number()}`,
    () => `${number()},${number()}`,
    () => `${number()}-${number()}/${number()}`,
    () => pick(['L', '5L', '1#1', 'MON', 'JAN', 'TUE-SUN', '?', 'W', '', ',', '-', '\0', '\u{1f600}', '\ud800']),
  ];
  let read = 0;
  for (let round = 0; round < 3000; round++) {
    const expression = Array.from({ length: below(20) === 0 ? 4 : 5 }, () => pick(whole)()).join(' ');
    const result = parseCron(expression, 'UTC');
    if (result.ok) {
      read++;
      expect(result.value.next(NEW_YEAR), expression).not.toBeNull();
    } else expect(result.faults?.length, expression).toBeGreaterThan(0);
  }
  expect(read).toBeGreaterThan(100);
});
