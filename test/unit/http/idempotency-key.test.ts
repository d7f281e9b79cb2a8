import { createHash } from 'node:crypto';
import { expect, test } from 'vitest';
import { accepted } from '../../support/fixtures.ts';
import { fingerprintOf, parseIdempotencyKey } from '../../../src/http/idempotency-key.ts';
import type { Submission } from '../../../src/jobs/submit/submission.ts';

test.each([
  ['bare', 'order-4711', 'order-4711'],
  ['quoted', '"order-4711"', 'order-4711'],
  ['a UUID, quoted', '"8e03978e-40d5-43dd-bc93-6894a57f9324"', '8e03978e-40d5-43dd-bc93-6894a57f9324'],
  ['one character', 'x', 'x'],
  ['255 characters', 'x'.repeat(255), 'x'.repeat(255)],
  ['255 characters, quoted and escaped', `"${'\\"'.repeat(255)}"`, '"'.repeat(255)],
  ['with white space around it', ' \torder-4711 ', 'order-4711'],
  ['with blanks inside', 'order 4711', 'order 4711'],
  ['quoted, with blanks that count', '" order "', ' order '],
  ['quoted, with an escaped quote', String.raw`"a\"b"`, 'a"b'],
  ['quoted, with an escaped backslash', String.raw`"a\\b"`, String.raw`a\b`],
  ['quoted, with an escaped backslash at its end', String.raw`"a\\"`, 'a\\'],
  ['bare, with a backslash', String.raw`a\b`, String.raw`a\b`],
  ['bare, with a quote inside', 'a"b', 'a"b'],
  ['bare, with a comma and a colon', 'a,b:c', 'a,b:c'],
])('a key is read: %s', (_how, header, key) => {
  expect(parseIdempotencyKey(header)).toBe(key);
});

test.each([
  ['empty', ''],
  ['blank', ' \t '],
  ['quoted and empty', '""'],
  ['256 characters', 'x'.repeat(256)],
  ['256 characters, quoted', `"${'x'.repeat(256)}"`],
  ['not ASCII', 'clé'],
  ['not ASCII, quoted', '"clé"'],
  ['a control character', 'a\x01b'],
  ['DEL', 'a\x7f'],
  ['a tab inside', 'a\tb'],
  ['a tab inside, quoted', '"a\tb"'],
  ['a quote that is not closed', '"abc'],
  ['a quote alone', '"'],
  ['a quoted string whose last quote is escaped', String.raw`"abc\"`],
  ['a quoted string with another escape', String.raw`"a\nb"`],
  ['two quoted strings, as of a header sent twice', '"a", "b"'],
  ['a quoted string with something behind it', '"a"b'],
])('a key is refused: %s', (_how, header) => {
  expect(parseIdempotencyKey(header)).toBeUndefined();
});

test('a key of a megabyte is refused at once, whatever it is made of', () => {
  for (const piece of ['\\"', '\\', '"', '\\\\', ' ']) {
    expect(parseIdempotencyKey(`"${piece.repeat(500_000)}`)).toBeUndefined();
  }
});

test('fingerprints are 32 bytes, equal for equal payloads and different for others', () => {
  const payloads: Submission[] = [
    { type: 'a' },
    { type: 'b' },
    { type: 'a', input: null },
    { type: 'a', input: 1 },
    { type: 'a', input: '1' },
    { type: 'a', input: [1] },
    { type: 'a', input: 1, metadata: { a: '1' } },
    { type: 'a', input: 1, run_at: new Date(1) },
    { type: 'a', input: 1, expires_at: new Date(1) },
    { type: 'a', input: { a: 1, b: 2 } },
    { type: 'a', input: { b: 2, a: 1 } },
  ];
  const hexes = payloads.map(hexOf);
  expect(new Set(hexes).size).toBe(payloads.length);
  expect(payloads.map((payload) => hexOf(structuredClone(payload)))).toEqual(hexes);
  expect(hexes.every((hex) => hex.length === 64)).toBe(true);
});

function hexOf(submission: Submission): string {
  return accepted(fingerprintOf(submission)).toString('hex');
}

const sent = (inputText: string): Submission => ({ type: 'a', input: JSON.parse(inputText), inputText });

test('texts that say the same have one fingerprint: as it was before they were kept, so that a retry outlives an upgrade', () => {
  for (const inputText of [
    '1',
    '{ "a" : [ 1.0, 1E2, 1.10, "\\u00e9\\/" ] }',
    '{"id":"8e03978e-40d5-43dd-bc93-6894a57f9324","card":"4111111111111111"}',
    '{"1":"2","at":"2026-01-01","zero":0.0}',
    'null',
  ]) {
    const submission = { ...sent(inputText), metadata: { b: '1', a: '2' } };
    const before = JSON.stringify({ type: 'a', input: submission.input, metadata: submission.metadata });
    expect(hexOf(submission), inputText).toBe(createHash('sha256').update(before).digest('hex'));
  }
  const before = JSON.stringify({ type: 'a', metadata: {} });
  expect(hexOf({ type: 'a', metadata: {} })).toBe(createHash('sha256').update(before).digest('hex'));
});

test('no two texts have one fingerprint that JavaScript would take for the same', () => {
  const numbers = '9007199254740992 9007199254740993 null 1e999 -1e999 0 -0 1e-400 0.1 0.10000000000000001'.split(' ');
  const orders = '{"1":0,"2":0} {"2":0,"1":0} {"b":0,"\\u0031":0} {"\\u0031":0,"b":0} {"__proto__":1} {}'.split(' ');
  const texts = [...numbers, ...orders];
  expect(new Set(texts.map((text) => hexOf(sent(text)))).size).toBe(texts.length);
});

test('what cannot be stored has no fingerprint, and is refused for its input', () => {
  let deep: unknown = 1;
  for (let depth = 0; depth < 50_000; depth++) deep = [deep];
  for (const submission of [{ input: deep }, { input: 'a\0b' }, sent(`${'['.repeat(1001)}${']'.repeat(1001)}`)]) {
    expect(fingerprintOf({ ...submission, type: 'a' })).toMatchObject({ ok: false, code: 'invalid_input' });
  }
});
