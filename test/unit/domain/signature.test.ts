import { createHmac, createPublicKey, verify } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import { publicKeyOf, sign, signerOf } from '#domain/signature.ts';

const ID = 'msg_p5jXN8AQM9LWM0D4loKWxJek';
const TIMESTAMP = 1_614_265_330;
const BODY = Buffer.from('{"test": 2432232314}');

/** As a receiver has it who knows the public key alone. */
function isSigned(publicKey: Uint8Array, signature: string, message: Uint8Array): boolean {
  const jwk = { kty: 'OKP', crv: 'Ed25519', x: Buffer.from(publicKey).toString('base64url') };
  const key = createPublicKey({ key: jwk, format: 'jwk' });
  return verify(null, message, key, Buffer.from(signature.slice('v1a,'.length), 'base64'));
}

const AWKWARD: Array<[string, Uint8Array]> = [
  ['no bytes', Buffer.alloc(0)],
  ['bytes that are no UTF-8', Buffer.from([0xff, 0xfe, 0x00, 0x80, 0xc0])],
  ['several bytes a character', Buffer.from('{"name":"Zoë 🚚"}')],
  ['a megabyte', Buffer.alloc(1_048_576, 0xa5)],
];

const messageOf = (body: Uint8Array) => Buffer.concat([Buffer.from(`${ID}.${TIMESTAMP}.`), body]);

describe('v1', () => {
  const KEY = Buffer.from('MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw', 'base64');
  const signer = signerOf('v1', KEY);

  test('signs the vector of Standard Webhooks as published', () => {
    expect(sign(signer, ID, TIMESTAMP, BODY)).toBe('v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=');
  });

  test.each([24, 32, 33, 64])('signs with all %d bytes of a key', (n) => {
    const key = Uint8Array.from({ length: n }, (_, index) => 255 - index);
    const expected = `v1,${createHmac('sha256', key).update(messageOf(BODY)).digest('base64')}`;
    expect(sign(signerOf('v1', key), ID, TIMESTAMP, BODY)).toBe(expected);
    expect(sign(signerOf('v1', key.with(n - 1, 0)), ID, TIMESTAMP, BODY)).not.toBe(expected);
  });

  test.each(AWKWARD)('signs a body of %s as it is', (_what, body) => {
    const expected = createHmac('sha256', KEY).update(messageOf(body)).digest('base64');
    expect(sign(signer, ID, TIMESTAMP, body)).toBe(`v1,${expected}`);
  });
});

describe('v1a', () => {
  test.each([
    // The key that Standard Webhooks' Go library is tested with.
    [
      'VEVTVFNJR05JTkdLRVlET05PVFVTRVRISVNGT1JBTlk=',
      'tQ9V2XOqn7jL/DQenEFpqIugdBVtiMmER5mhSkXBNwM0mkATuDe6KYYUuxqtaiHeYGb7KaaBRdM5WqyeFiL8Ag==',
    ],
    // The key of Svix's documentation; its signature is the example of the specification.
    [
      '6Xb/dCcHpPea21PS1N9VY/NZW723CEc77N4rJCubMbc=',
      'hnO3f9T8Ytu9HwrXslvumlUpqtNVqkhqw/enGzPCXe5BdqzCInXqYXFymVJaA7AZdpXwVLPo3mNl8EM+m7TBAg==',
    ],
  ])('signs the vector of others as published: %s', (key, signature) => {
    expect(sign(signerOf('v1a', Buffer.from(key, 'base64')), ID, TIMESTAMP, BODY)).toBe(`v1a,${signature}`);
  });

  // RFC 8032, 7.1. Their messages are not ours, so only the keys can be compared.
  test.each([
    [
      '9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60',
      'd75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a',
    ],
    [
      '4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb',
      '3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c',
    ],
  ])('has the public key of RFC 8032: %s', (privateKey, publicKey) => {
    const derived = publicKeyOf(Buffer.from(privateKey, 'hex'));
    expect(Buffer.from(derived).toString('hex')).toBe(publicKey);
  });

  test.each(AWKWARD)('signs a body of %s so that the public key alone verifies it', (_what, body) => {
    const key = Uint8Array.from({ length: 32 }, (_, index) => index * 7);
    const signature = sign(signerOf('v1a', key), ID, TIMESTAMP, body);
    expect(signature).toMatch(/^v1a,[A-Za-z0-9+/]{86}==$/);
    expect(isSigned(publicKeyOf(key), signature, messageOf(body))).toBe(true);
    expect(isSigned(publicKeyOf(key.with(31, 1)), signature, messageOf(body))).toBe(false);
    expect(isSigned(publicKeyOf(key), signature, messageOf(Buffer.concat([body, Buffer.from(' ')])))).toBe(false);
  });
});

test.each(['v1', 'v1a'] as const)('id, time, body and key each change the signature of %s', (scheme) => {
  const [one, other] = [signerOf(scheme, Buffer.alloc(32, 1)), signerOf(scheme, Buffer.alloc(32, 2))];
  const signatures = [
    sign(one, ID, TIMESTAMP, BODY),
    sign(one, `${ID}x`, TIMESTAMP, BODY),
    sign(one, ID, TIMESTAMP + 1, BODY),
    sign(one, ID, TIMESTAMP, Buffer.from('{"test": 2432232315}')),
    sign(other, ID, TIMESTAMP, BODY),
  ];
  expect(new Set(signatures).size).toBe(signatures.length);
});
