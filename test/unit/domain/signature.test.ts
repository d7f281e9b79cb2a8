import { createHmac } from 'node:crypto';
import { expect, test } from 'vitest';
import { formatSigningSecret, newSigningKey, signingKeyOf, signV1 } from '#domain/signature.ts';

const SECRET = 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw';
const KEY = Buffer.from('MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw', 'base64');
const ID = 'msg_p5jXN8AQM9LWM0D4loKWxJek';
const TIMESTAMP = 1_614_265_330;
const SIGNER = signingKeyOf(KEY);
const BODY = Buffer.from('{"test": 2432232314}');

test('the vector of Standard Webhooks is signed as published', () => {
  expect(signV1(SIGNER, ID, TIMESTAMP, BODY)).toBe('v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=');
});

test('the secret of the vector is written as published', () => {
  expect(formatSigningSecret(KEY)).toBe(SECRET);
});

test.each([24, 32, 33, 64])(
  'a secret of %d bytes survives being written and read, and signs with all its bytes',
  (n) => {
    const key = Uint8Array.from({ length: n }, (_, index) => 255 - index);
    const text = formatSigningSecret(key);
    expect(text).toMatch(/^whsec_[A-Za-z0-9+/]+=*$/);
    expect(Buffer.from(text.slice('whsec_'.length), 'base64').equals(key)).toBe(true);
    const expected = createHmac('sha256', key).update(`${ID}.${TIMESTAMP}.`).update(BODY).digest('base64');
    expect(signV1(signingKeyOf(key), ID, TIMESTAMP, BODY)).toBe(`v1,${expected}`);
    expect(signV1(signingKeyOf(key.with(n - 1, 0)), ID, TIMESTAMP, BODY)).not.toBe(`v1,${expected}`);
  },
);

test.each([
  ['no bytes', Buffer.alloc(0)],
  ['bytes that are no UTF-8', Buffer.from([0xff, 0xfe, 0x00, 0x80, 0xc0])],
  ['several bytes a character', Buffer.from('{"name":"Zoë 🚚"}')],
  ['a megabyte', Buffer.alloc(1_048_576, 0xa5)],
])('a body of %s is signed as it is', (_what, body) => {
  const whole = Buffer.concat([Buffer.from(`${ID}.${TIMESTAMP}.`), body]);
  const expected = createHmac('sha256', KEY).update(whole).digest('base64');
  expect(signV1(SIGNER, ID, TIMESTAMP, body)).toBe(`v1,${expected}`);
});

test('id, time, body and key each change the signature', () => {
  const signatures = [
    signV1(SIGNER, ID, TIMESTAMP, BODY),
    signV1(SIGNER, `${ID}x`, TIMESTAMP, BODY),
    signV1(SIGNER, ID, TIMESTAMP + 1, BODY),
    signV1(SIGNER, ID, TIMESTAMP, Buffer.from('{"test": 2432232315}')),
    signV1(signingKeyOf(newSigningKey()), ID, TIMESTAMP, BODY),
  ];
  expect(new Set(signatures).size).toBe(signatures.length);
});

test('new keys are within 24 to 64 bytes and never the same', () => {
  const keys = Array.from({ length: 1000 }, () => newSigningKey());
  expect(keys.every((key) => key.length >= 24 && key.length <= 64)).toBe(true);
  expect(new Set(keys.map((key) => formatSigningSecret(key))).size).toBe(keys.length);
});
