import { createHash } from 'node:crypto';
import { expect, test } from 'vitest';
import { hashApiKey, isApiKey, newApiKey } from '#domain/api-key.ts';

test('a new key has the form of a key and 256 random bits', () => {
  const key = newApiKey();
  expect(isApiKey(key)).toBe(true);
  expect(Buffer.from(key.slice('rbk_'.length), 'base64url')).toHaveLength(32);
});

test('1,000 new keys differ', () => {
  expect(new Set(Array.from({ length: 1000 }, newApiKey)).size).toBe(1000);
});

test.each(['rbk_12345678', 'rbk_abc-DEF_09', `rbk_${'x'.repeat(200)}`])('%s has the form of a key', (text) => {
  expect(isApiKey(text)).toBe(true);
});

test.each([
  ['nothing', ''],
  ['the prefix alone', 'rbk_'],
  ['seven characters', 'rbk_1234567'],
  ['201 characters', `rbk_${'x'.repeat(201)}`],
  ['another prefix', 'sk_12345678901234'],
  ['an upper-case prefix', 'RBK_12345678'],
  ['a blank inside', 'rbk_1234 5678'],
  ['a line break after it', 'rbk_12345678\n'],
  ['a header in front', 'Bearer rbk_12345678'],
  ['a NUL inside', 'rbk_1234\x005678'],
  ['base64 of the wrong kind', 'rbk_abcd+efg/hij='],
  ['letters beyond ASCII', 'rbk_äöüäöüäöü'],
])('%s is no key', (_fault, text) => {
  expect(isApiKey(text)).toBe(false);
});

test('what is stored is the SHA-256 of the whole key, so that one character changes it', () => {
  expect(hashApiKey('rbk_12345678')).toEqual(createHash('sha256').update('rbk_12345678').digest());
  expect(hashApiKey('rbk_12345678')).toHaveLength(32);
  expect(hashApiKey('rbk_12345678').equals(hashApiKey('rbk_12345679'))).toBe(false);
});
