import { randomBytes } from 'node:crypto';
import { expect, test } from 'vitest';
import { open, parseSecretKey, seal, type SealedSecret, type SecretKey } from '#domain/secret-box.ts';

const CONTEXT = 'acc_1/ep_1/sec_1';
const SECRET = Buffer.from('a signing key of thirty-two byte');
const NONCE_BYTES = 12;
const TAG_BYTES = 16;
/** Node's words for what does not fit, or is too short to. */
const FORGED = /unable to authenticate data|invalid initialization vector|invalid authentication tag/i;

function makeKey(): SecretKey {
  const made = parseSecretKey(randomBytes(32).toString('base64'));
  if (made === undefined) throw new Error('32 bytes in base64 are refused');
  return made;
}

const key = makeKey();
const sealed = seal([key], CONTEXT, SECRET);

function changed(edit: (bytes: Buffer) => Buffer | void): SealedSecret {
  const bytes = Buffer.from(sealed.ciphertext);
  return { ...sealed, ciphertext: edit(bytes) ?? bytes };
}

test.each([0, 1, 24, 32, 64, 100_000])('what is sealed is opened again: %d bytes', (length) => {
  const secret = randomBytes(length);
  expect(Buffer.from(open([key], CONTEXT, seal([key], CONTEXT, secret))).equals(secret)).toBe(true);
});

test('the sealed bytes do not hold the secret, and differ each time', () => {
  const again = seal([key], CONTEXT, SECRET);
  expect(Buffer.from(sealed.ciphertext).includes(SECRET.subarray(0, 8))).toBe(false);
  expect(Buffer.from(again.ciphertext).equals(sealed.ciphertext)).toBe(false);
  expect(again.ciphertext.subarray(0, NONCE_BYTES)).not.toEqual(sealed.ciphertext.subarray(0, NONCE_BYTES));
});

test.each(['', 'acc_1/ep_1/sec_2', 'acc_2/ep_1/sec_1', `${CONTEXT} `])(
  'a secret moved to the row %j does not open',
  (context) => {
    expect(() => open([key], context, sealed)).toThrow(FORGED);
  },
);

test('one flipped bit anywhere, in nonce, body or tag, and it does not open', () => {
  const length = sealed.ciphertext.length;
  expect(length).toBe(NONCE_BYTES + SECRET.length + TAG_BYTES);
  const opened = Array.from({ length: length * 8 }, (_, bit) => bit).filter((bit) => {
    try {
      open(
        [key],
        CONTEXT,
        changed((bytes) => void (bytes[bit >> 3]! ^= 1 << (bit & 7))),
      );
      return true;
    } catch {
      return false;
    }
  });
  expect(opened).toEqual([]);
});

test('cut off anywhere, at either end, it does not open', () => {
  for (let kept = 0; kept < sealed.ciphertext.length; kept++) {
    const head = changed((bytes) => bytes.subarray(0, kept));
    const tail = changed((bytes) => bytes.subarray(bytes.length - kept));
    expect(() => open([key], CONTEXT, head), `the first ${kept} bytes`).toThrow(FORGED);
    expect(() => open([key], CONTEXT, tail), `the last ${kept} bytes`).toThrow(FORGED);
  }
});

test('with bytes added it does not open', () => {
  expect(() =>
    open(
      [key],
      CONTEXT,
      changed((bytes) => Buffer.concat([bytes, Buffer.of(0)])),
    ),
  ).toThrow(FORGED);
});

test('an unknown key is named by its id, never by its bytes', () => {
  expect(() => open([makeKey()], CONTEXT, sealed)).toThrow(`RINGBACK_SECRET_KEY holds no key with id ${key.id}`);
  expect(() => open([], CONTEXT, sealed)).toThrow(key.id);
});

test('a row that names another key than the one that sealed it does not open', () => {
  const other = makeKey();
  expect(() => open([key, other], CONTEXT, { ...sealed, keyId: other.id })).toThrow(FORGED);
});

test('while keys rotate, the first seals and every one opens', () => {
  const newest = makeKey();
  const rotated = seal([newest, key], CONTEXT, SECRET);
  expect(rotated.keyId).toBe(newest.id);
  expect(Buffer.from(open([newest, key], CONTEXT, sealed)).equals(SECRET)).toBe(true);
  expect(Buffer.from(open([key, newest], CONTEXT, rotated)).equals(SECRET)).toBe(true);
  expect(() => open([newest], CONTEXT, sealed)).toThrow(key.id);
});

test('without a key nothing is sealed', () => {
  expect(() => seal([], CONTEXT, SECRET)).toThrow('no key to encrypt with');
});

test('the same 32 bytes are the same key in hex of either case, base64 and base64url', () => {
  const bytes = Buffer.alloc(32, 0xfb);
  const forms = [bytes.toString('hex'), bytes.toString('hex').toUpperCase()];
  forms.push(bytes.toString('base64'), bytes.toString('base64').replace('=', ''), bytes.toString('base64url'));
  const keys = forms.map((text) => parseSecretKey(text));
  expect(keys.map((parsed) => Buffer.from(parsed?.bytes ?? []).equals(bytes))).toEqual(forms.map(() => true));
  expect(new Set(keys.map((parsed) => parsed?.id)).size).toBe(1);
});

test.each([
  ['nothing', ''],
  ['31 bytes', Buffer.alloc(31).toString('base64')],
  ['33 bytes', Buffer.alloc(33).toString('base64')],
  ['63 hex digits', 'a'.repeat(63)],
  ['64 hex digits but one', `${'a'.repeat(63)}g`],
  ['65 hex digits', 'a'.repeat(65)],
  ['a placeholder', 'change-me'],
])('%s is no key', (_what, text) => {
  expect(parseSecretKey(text)).toBeUndefined();
});

// A decoder that skips what it does not know would make a key of a slip of the pen, and another one of its correction.
test.each([
  ['a character outside the alphabet', `!${'A'.repeat(43)}`],
  ['blanks inside', `${'A'.repeat(20)} ${'A'.repeat(23)}`],
  ['more after the padding', `${'A'.repeat(43)}=and more`],
  ['a passphrase', 'correct horse battery staple twice more correctly'],
])('%s does not pass for base64', (_what, text) => {
  expect(parseSecretKey(text)).toBeUndefined();
});
