import { describe, expect, test } from 'vitest';
import { MAX_WAIT_SECONDS, preferredWait } from '../../../src/http/prefer.ts';

describe('a preference to wait', () => {
  test.each([
    ['wait=10', 10],
    ['wait=0', 0],
    ['WAIT=7', 7],
    ['  wait = 5 ', 5],
    ['wait="5"', 5],
    ['respond-async, wait=10', 10],
    ['wait=10, respond-async', 10],
    ['wait=10;flavour=vanilla; x', 10],
    ['foo; wait=3, wait=4', 4], // the first is a parameter of foo
    ['foo="a, wait=9", wait=4', 4],
    [String.raw`foo="\", wait=9", wait=4`, 4],
    [', , wait=6,', 6],
    ['wait=10, wait=20', 10],
  ])('is read from %s', (header, seconds) => {
    expect(preferredWait(header)).toBe(seconds);
  });

  test.each(['wait=61', 'wait=86400', `wait=${'9'.repeat(400)}`])('is cut to the longest there is: %s', (header) => {
    expect(preferredWait(header)).toBe(MAX_WAIT_SECONDS);
  });
});

describe('what is no preference to wait is ignored', () => {
  test.each([
    undefined,
    '',
    ' ',
    'wait',
    'wait=',
    'wait=""',
    'wait=-1',
    'wait=1.5',
    'wait=1e3',
    'wait=0x10',
    'wait=ten',
    'wait= 10 s',
    'waiting=10',
    'wait:10',
    'wait=10 wait=20',
    'foo="unterminated, wait=5',
    'wait=٣',
    'wait=x, wait=5', // the first one counts, whatever it says
    '{"wait":5}',
  ])('%s', (header) => {
    expect(preferredWait(header)).toBeUndefined();
  });

  test('and is read in one go, however it was made to be read again and again', () => {
    for (const hostile of ['wait=' + ' '.repeat(16_000) + '!', 'a;'.repeat(8000) + '"', 'a="' + '\\'.repeat(16_000)]) {
      expect(preferredWait(hostile)).toBeUndefined();
    }
  });
});
