import { describe, expect, test } from 'vitest';
import { mintSecret, openSecret, sealSecret } from '#domain/endpoint.ts';
import { newId } from '#domain/ids.ts';
import { parseSecretKey, seal } from '#domain/secret-box.ts';
import { publicKeyOf, sign, signerOf } from '#domain/signature.ts';
import { newSigningSecret } from '#domain/signing-secret.ts';

const NOW = new Date('2026-01-31T12:00:00Z');
const KEYS = [parseSecretKey('ab'.repeat(32))!];
const accountId = newId('acc', NOW.getTime());
const endpointId = newId('ep', NOW.getTime());
const owner = { accountId, endpointId };
const SCHEMES = ['v1', 'v1a'] as const;

test('the secret its owner is shown holds the key that signs', () => {
  const { sealed, text } = mintSecret(KEYS, accountId, endpointId, NOW);
  const { scheme, key } = openSecret(KEYS, owner, sealed);
  expect(scheme).toBe('v1');
  expect(text).toBe(`whsec_${key.export().toString('base64')}`);
  expect(key.symmetricKeySize).toBe(32);
});

test('every secret is another one', () => {
  const texts = Array.from({ length: 100 }, () => mintSecret(KEYS, accountId, endpointId, NOW).text);
  expect(new Set(texts).size).toBe(100);
});

describe.each(SCHEMES)('a sealed secret of %s', (scheme) => {
  const secret = newSigningSecret(scheme);
  const sealed = sealSecret(KEYS, owner, secret, NOW);

  test('signs as it did, and hides its key', () => {
    const args = ['evt_1', 1, Buffer.from('{}')] as const;
    expect(sign(openSecret(KEYS, owner, sealed), ...args)).toBe(sign(signerOf(scheme, secret.key), ...args));
    expect(Buffer.from(sealed.ciphertext).includes(Buffer.from(secret.key))).toBe(false);
  });

  test('has its public key beside it, where there is one', () => {
    expect(sealed.publicKey).toEqual(scheme === 'v1a' ? publicKeyOf(secret.key) : null);
  });

  test.each([
    ['account', { ...owner, accountId: newId('acc', NOW.getTime()) }, {}],
    ['endpoint', { ...owner, endpointId: newId('ep', NOW.getTime()) }, {}],
    ['secret row', owner, { id: newId('sec', NOW.getTime()) }],
    ['scheme', owner, { scheme: SCHEMES.find((other) => other !== scheme)! }],
  ])('does not open when it is copied to another %s', (_place, thief, change) => {
    expect(() => openSecret(KEYS, thief, { ...sealed, ...change })).toThrow('unable to authenticate data');
  });
});

test('a secret that was sealed before there were schemes opens', () => {
  const [id, { key }] = [newId('sec', NOW.getTime()), newSigningSecret('v1')];
  const released = { id, ...seal(KEYS, `${accountId}/${endpointId}/${id}`, key) };
  expect(openSecret(KEYS, owner, { ...released, scheme: 'v1' }).key.export()).toEqual(Buffer.from(key));
});
