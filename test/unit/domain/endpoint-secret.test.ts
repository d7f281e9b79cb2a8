import { expect, test } from 'vitest';
import { mintSecret, openSecret } from '#domain/endpoint.ts';
import { newId } from '#domain/ids.ts';
import { parseSecretKey } from '#domain/secret-box.ts';

const NOW = new Date('2026-01-31T12:00:00Z');
const KEYS = [parseSecretKey('ab'.repeat(32))!];
const accountId = newId('acc', NOW.getTime());
const endpointId = newId('ep', NOW.getTime());
const owner = { accountId, endpointId };

test('the secret its owner is shown holds the key that signs', () => {
  const { sealed, text } = mintSecret(KEYS, accountId, endpointId, NOW);
  const key = openSecret(KEYS, owner, sealed);
  expect(text).toBe(`whsec_${key.export().toString('base64')}`);
  expect(key.symmetricKeySize).toBe(32);
});

test('every secret is another one', () => {
  const texts = Array.from({ length: 100 }, () => mintSecret(KEYS, accountId, endpointId, NOW).text);
  expect(new Set(texts).size).toBe(100);
});

test.each([
  ['account', { owner: { ...owner, accountId: newId('acc', NOW.getTime()) }, id: undefined }],
  ['endpoint', { owner: { ...owner, endpointId: newId('ep', NOW.getTime()) }, id: undefined }],
  ['secret row', { owner, id: newId('sec', NOW.getTime()) }],
])('a secret copied to another %s does not open', (_place, { owner: thief, id }) => {
  const { sealed } = mintSecret(KEYS, accountId, endpointId, NOW);
  expect(() => openSecret(KEYS, thief, { ...sealed, id: id ?? sealed.id })).toThrow('unable to authenticate data');
});
