import { expect, test } from 'vitest';
import { publicKeyOf, sign, signerOf } from '#domain/signature.ts';
import { formatPublicKey, formatSigningSecret, newSigningSecret, parseSigningSecret } from '#domain/signing-secret.ts';

const bytes = (length: number) => Buffer.from(Uint8Array.from({ length }, (_, index) => 255 - index));
const SVIX = '6Xb/dCcHpPea21PS1N9VY/NZW723CEc77N4rJCubMbfVKIDij2HKpMKkioLlX0dRqSKJp4AJ6p9lMicMFs6Kvg==';

test('the secret of the vector is read and written as published', () => {
  const text = 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw';
  const key = Buffer.from('MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw', 'base64');
  expect(parseSigningSecret(text)).toEqual({ ok: true, secret: { scheme: 'v1', key } });
  expect(formatSigningSecret({ scheme: 'v1', key })).toBe(text);
});

test.each([24, 25, 26, 32, 63, 64])('a shared secret of %d bytes survives being written and read', (length) => {
  const secret = { scheme: 'v1', key: bytes(length) } as const;
  expect(parseSigningSecret(formatSigningSecret(secret))).toEqual({ ok: true, secret });
});

test('a private key is read alone and with its public key behind it, and written alone', () => {
  const whole = parseSigningSecret(`whsk_${SVIX}`);
  const text = `whsk_${Buffer.from(SVIX, 'base64').subarray(0, 32).toString('base64')}`;
  const alone = parseSigningSecret(text);
  expect(whole).toEqual(alone);
  if (!alone.ok) throw new Error(alone.fault);
  expect(alone.secret.scheme).toBe('v1a');
  expect(formatSigningSecret(alone.secret)).toBe(text);
  expect(formatPublicKey(publicKeyOf(alone.secret.key))).toBe('whpk_1SiA4o9hyqTCpIqC5V9HUakiiaeACeqfZTInDBbOir4=');
});

test.each(['v1', 'v1a'] as const)('new secrets of %s are 32 bytes, never the same, and can be read', (scheme) => {
  const secrets = Array.from({ length: 200 }, () => newSigningSecret(scheme));
  expect(secrets.every(({ key }) => key.length === 32)).toBe(true);
  expect(new Set(secrets.map(formatSigningSecret)).size).toBe(secrets.length);
  for (const secret of secrets) {
    const parsed = parseSigningSecret(formatSigningSecret(secret));
    if (!parsed.ok) throw new Error(parsed.fault);
    const signatures = [parsed.secret, secret].map(({ key }) => sign(signerOf(scheme, key), 'x', 1, Buffer.from('y')));
    expect(signatures[0]).toBe(signatures[1]);
  }
});

const good = bytes(32).toString('base64');
const withBits = `${good.slice(0, -2)}${String.fromCodePoint(good.codePointAt(42)! + 1)}=`;

test.each<[string, string, RegExp]>([
  ['nothing', '', /must begin with/],
  ['a prefix alone', 'whsec_', /24 to 64 bytes, not 0/],
  ['the other prefix alone', 'whsk_', /not 0/],
  ['bare base64', good, /must begin with whsec_ \(HMAC\) or whsk_ \(ed25519\)/],
  ['a prefix in capitals', `WHSEC_${good}`, /must begin with/],
  ['a blank in front', ` whsec_${good}`, /must begin with/],
  ['a public key', `whpk_${good}`, /is a public key/],
  ['23 bytes', `whsec_${bytes(23).toString('base64')}`, /not 23/],
  ['65 bytes', `whsec_${bytes(65).toString('base64')}`, /not 65/],
  ['a private key of 31 bytes', `whsk_${bytes(31).toString('base64')}`, /not 31/],
  ['a private key of 33 bytes', `whsk_${bytes(33).toString('base64')}`, /not 33/],
  ['a private key with another public key', `whsk_${bytes(64).toString('base64')}`, /does not belong/],
  ['a private key with its public key cut off', `whsk_${SVIX.slice(0, 84)}`, /not 63/],
  ['no padding', `whsec_${good.slice(0, -1)}`, /standard base64/],
  ['too much padding', `whsec_${good}=`, /standard base64/],
  ['base64url', `whsec_${bytes(32).toString('base64url')}`, /standard base64/],
  ['hexadecimal', `whsec_${bytes(33).toString('hex')}`, /standard base64|not 49/],
  ['bits that no byte holds', `whsec_${withBits}`, /standard base64/],
  ['a line end', `whsec_${good}\n`, /standard base64/],
  ['a line end inside', `whsec_${good.slice(0, 20)}\r\n${good.slice(20)}`, /standard base64/],
  ['a NUL', `whsec_${good}\0`, /standard base64/],
  ['letters that look like others', `whsec_${good.replace('/', '∕')}`, /standard base64/],
  ['a password', 'whsec_correct-horse-battery-staple', /standard base64/],
  ['zeros', `whsec_${Buffer.alloc(32).toString('base64')}`, /not random/],
  ['a pattern', `whsec_${Buffer.from('secret'.repeat(5)).toString('base64')}`, /not random/],
  ['a private key of zeros', `whsk_${Buffer.alloc(32).toString('base64')}`, /not random/],
  ['two secrets', `whsec_${good} whsec_${good}`, /standard base64/],
])('is refused with %s, without a word of it', (_what, text, fault) => {
  const parsed = parseSigningSecret(text);
  expect(parsed).toEqual({ ok: false, fault: expect.stringMatching(fault) });
  const encoded = text.replace(/^\s*wh\w+?_/i, '').trim();
  if (encoded.length > 8) expect(JSON.stringify(parsed)).not.toContain(encoded.slice(0, 8));
});
