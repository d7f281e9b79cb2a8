import { expect, test } from 'vitest';
import { parseHttpDate } from '#domain/http-date.ts';

const NOW = new Date('2026-01-31T12:00:00Z');
const read = (text: string, now = NOW) => parseHttpDate(text, now)?.toISOString();

// RFC 9110, 5.6.7: the same moment in the three forms that recipients must accept.
test.each(['Sun, 06 Nov 1994 08:49:37 GMT', 'Sunday, 06-Nov-94 08:49:37 GMT', 'Sun Nov  6 08:49:37 1994'])(
  '%j is a date',
  (text) => {
    expect(read(text)).toBe('1994-11-06T08:49:37.000Z');
  },
);

test.each([
  ['Wed Nov 16 08:49:37 1994', '1994-11-16T08:49:37.000Z'],
  ['Thu, 29 Feb 2024 00:00:00 GMT', '2024-02-29T00:00:00.000Z'],
  ['Thursday, 29-Feb-24 23:59:59 GMT', '2024-02-29T23:59:59.000Z'],
  ['Sat, 31 Dec 2016 23:59:60 GMT', '2017-01-01T00:00:00.000Z'], // a leap second
  ['Sat, 01 Jan 0000 00:00:00 GMT', '0000-01-01T00:00:00.000Z'],
  ['Fri, 31 Dec 9999 23:59:59 GMT', '9999-12-31T23:59:59.000Z'],
  ['Mon, 31 Jan 2026 12:00:00 GMT', '2026-01-31T12:00:00.000Z'], // not a Monday: whose clock is right matters more
])('%j is %s', (text, iso) => {
  expect(read(text)).toBe(iso);
});

// "More than 50 years in the future" means the past; the limit is a moment, not a year.
test.each([
  ['Saturday, 31-Jan-26 12:00:01 GMT', '2026-01-31T12:00:01.000Z'],
  ['Friday, 31-Jan-76 12:00:00 GMT', '2076-01-31T12:00:00.000Z'],
  ['Friday, 31-Jan-76 12:00:01 GMT', '1976-01-31T12:00:01.000Z'],
  ['Friday, 31-Dec-99 23:59:59 GMT', '1999-12-31T23:59:59.000Z'],
  ['Saturday, 01-Jan-00 00:00:00 GMT', '2000-01-01T00:00:00.000Z'],
  ['Saturday, 25-Jan-25 00:00:00 GMT', '2025-01-25T00:00:00.000Z'],
])('two digits of a year, %j, are those of %s', (text, iso) => {
  expect(read(text)).toBe(iso);
});

test.each([
  ['Friday, 01-Jan-10 00:00:00 GMT', '2110-01-01T00:00:00.000Z'],
  ['Friday, 01-Jan-49 00:00:00 GMT', '2049-01-01T00:00:00.000Z'],
  ['Friday, 01-Jan-98 00:00:00 GMT', '2098-01-01T00:00:00.000Z'],
])('near the end of a century %j is %s', (text, iso) => {
  expect(read(text, new Date('2098-06-01T00:00:00Z'))).toBe(iso);
});

test.each([
  '',
  'Sunday, 06-Nov-1994 08:49:37 GMT',
  'Sun, 06-Nov-94 08:49:37 GMT',
  'Sunday, 6-Nov-94 08:49:37 GMT',
  'Sunday, 06 Nov 94 08:49:37 GMT',
  'Sunday, 06-Nov-94 08:49:37',
  'sunday, 06-nov-94 08:49:37 gmt',
  'Sun Nov 6 08:49:37 1994',
  'Sun Nov   6 08:49:37 1994',
  'Sun Nov  6 08:49:37 94',
  'Sun Nov  6 08:49:37 1994 GMT',
  'Sunday Nov  6 08:49:37 1994',
  'Sun Nov  0 08:49:37 1994',
  'Wed, 29 Feb 2023 00:00:00 GMT',
  'Wednesday, 29-Feb-23 00:00:00 GMT',
  'Wed Feb 29 00:00:00 2023',
  'Fri, 31 Apr 2026 00:00:00 GMT',
  'Fri, 00 Apr 2026 00:00:00 GMT',
  'Sun, 06 Nov 1994 24:00:00 GMT',
  'Sun, 06 Nov 1994 08:60:00 GMT',
  'Sun, 06 Nov 1994 08:49:61 GMT',
  'Sun, 06 Nov 1994 8:49:37 GMT',
  ' Sun, 06 Nov 1994 08:49:37 GMT',
  'Sun, 06 Nov 1994 08:49:37 GMT\n',
  'Sun, ٠٦ Nov 1994 08:49:37 GMT',
])('%j is no date', (text) => {
  expect(read(text)).toBeUndefined();
});
