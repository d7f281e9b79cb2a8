import { expect, test } from 'vitest';
import { parseByteRange } from '#domain/byte-range.ts';

const LENGTH = 1000;
const HUGE = '9'.repeat(400);

test.each<[string, number, number]>([
  ['bytes=0-0', 0, 0],
  ['bytes=0-999', 0, 999],
  ['bytes=999-999', 999, 999],
  ['bytes=500-', 500, 999],
  ['bytes=999-', 999, 999],
  ['bytes=0-1000', 0, 999],
  [`bytes=1-${HUGE}`, 1, 999],
  ['bytes=-1', 999, 999],
  ['bytes=-1000', 0, 999],
  ['bytes=-1001', 0, 999],
  [`bytes=-${HUGE}`, 0, 999],
  ['bytes=0007-00010', 7, 10],
  // Names of units have no case; lists may have empty elements and white space.
  ['BYTES=1-2', 1, 2],
  ['bytes= 1-2 ', 1, 2],
  ['bytes=,\t1-2 , ,', 1, 2],
])('%s of 1,000 bytes is %i to %i', (header, first, last) => {
  expect(parseByteRange(header, LENGTH)).toEqual({ first, last });
});

test.each([
  'bytes=1000-',
  'bytes=1000-1000',
  'bytes=1000-2000',
  `bytes=${HUGE}-`,
  `bytes=${HUGE}-${HUGE}`,
  'bytes=-0',
  'bytes=-000',
])('%s of 1,000 bytes is not there', (header) => expect(parseByteRange(header, LENGTH)).toBe('none'));

test.each([
  undefined,
  '',
  'bytes',
  'bytes=',
  'bytes=,',
  'bytes=-',
  'bytes=--1',
  'bytes=-1-2',
  'bytes=2-1',
  'bytes=2000-1',
  'bytes=1--2',
  'bytes=a-b',
  'bytes=0x1-0x2',
  'bytes=1.5-2',
  'bytes=1e2-2e2',
  'bytes=+1-2',
  'bytes=1 - 2',
  'bytes =1-2',
  'bytes:1-2',
  'bytes=1-2-3',
  'bytes=1-2\n',
  'bytes=١-٢',
  'bytes=0-1,2-3',
  'bytes=0-0,-1',
  `bytes=${'0-1,'.repeat(4000)}`,
  'rows=0-1',
  'bytesbytes=0-1',
  ' bytes=0-1',
])('%j is ignored, as RFC 9110 allows', (header) => {
  expect(parseByteRange(header, LENGTH)).toBe('whole');
});

test.each<[string, 'whole' | 'none']>([
  ['bytes=0-', 'none'],
  ['bytes=0-0', 'none'],
  ['bytes=-0', 'none'],
  ['bytes=-1', 'whole'],
])('%s of nothing is %s', (header, expected) => expect(parseByteRange(header, 0)).toBe(expected));
