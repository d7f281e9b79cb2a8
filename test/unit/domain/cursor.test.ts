import { expect, test } from 'vitest';
import { openCursor, sealCursor } from '#domain/cursor.ts';

const SCOPE = ['list', 'acc_1', ['failed'], undefined];
const PLACE = ['job_1', 'scan'];

test('a place comes back as it was, with its own scope', () => {
  expect(openCursor(SCOPE, sealCursor(SCOPE, PLACE))).toEqual(PLACE);
  expect(openCursor([], sealCursor([], []))).toEqual([]);
  expect(openCursor(['ä"\0'], sealCursor(['ä"\0'], ['ü"\0']))).toEqual(['ü"\0']);
});

test.each([
  ['another list', ['walk', 'acc_1', ['failed'], undefined]],
  ['another account', ['list', 'acc_2', ['failed'], undefined]],
  ['other filters', ['list', 'acc_1', ['failed', 'canceled'], undefined]],
  ['a filter taken away', ['list', 'acc_1', undefined, undefined]],
  ['a filter added', ['list', 'acc_1', ['failed'], 1]],
])('a cursor of %s is none', (_of, scope) => {
  expect(openCursor(SCOPE, sealCursor(scope, PLACE))).toBeUndefined();
});

test('a cursor is good in a URL as it is', () => {
  expect(sealCursor(SCOPE, PLACE)).toMatch(/^[\w-]+$/);
});

test('no letter of a cursor can be changed, left out or added', () => {
  const cursor = sealCursor(SCOPE, PLACE);
  const spoilt = Array.from(cursor).flatMap((letter, at) => [
    `${cursor.slice(0, at)}${letter === 'A' ? 'B' : 'A'}${cursor.slice(at + 1)}`,
    `${cursor.slice(0, at)}${cursor.slice(at + 1)}`,
    `${cursor.slice(0, at)}!${cursor.slice(at)}`,
  ]);
  expect(spoilt.filter((text) => openCursor(SCOPE, text) !== undefined)).toEqual([]);
});

test.each(['', 'null', '{}', '[]', '[1]', '["a"]', '[["a"]]', '"a"', '[null,"a"]', 'x'.repeat(5000), '\u{fffd}'])(
  'a text that is no cursor is none: %s',
  (text) => {
    expect(openCursor(SCOPE, text)).toBeUndefined();
    expect(openCursor(SCOPE, Buffer.from(text).toString('base64url'))).toBeUndefined();
    expect(openCursor(SCOPE, Buffer.from(text).toString('base64'))).toBeUndefined();
  },
);
