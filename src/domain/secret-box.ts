import { createCipheriv, createDecipheriv, createHash, randomBytes } from 'node:crypto';

const NONCE_BYTES = 12;
const TAG_BYTES = 16;
const KEY_BYTES = 32;

/** A key for encryption at rest. `id` goes into the row, so that keys can be rotated. */
export interface SecretKey {
  readonly id: string;
  readonly bytes: Uint8Array;
}

/** A sealed secret: nonce, ciphertext and tag in one, beside the id of the key that opens it. */
export interface SealedSecret {
  readonly keyId: string;
  readonly ciphertext: Uint8Array;
}

/** Reads a 32-byte key in base64 or hex; undefined when it is neither. */
export function parseSecretKey(text: string): SecretKey | undefined {
  const isHex = /^[0-9a-f]{64}$/i.test(text);
  if (!isHex && !/^[A-Za-z0-9+/_-]{43}=?$/.test(text)) return undefined;
  const encoding = isHex ? 'hex' : 'base64';
  const bytes = Buffer.from(text, encoding);
  if (bytes.length !== KEY_BYTES) return undefined;
  return { id: createHash('sha256').update(bytes).digest('hex').slice(0, 12), bytes };
}

/** AES-256-GCM under the first key. `context` (whose secret it is) is authenticated, so that a row cannot be moved. */
export function seal(keys: readonly SecretKey[], context: string, plaintext: Uint8Array): SealedSecret {
  const key = keys[0];
  if (key === undefined) throw new Error('no key to encrypt with');
  const nonce = randomBytes(NONCE_BYTES);
  const cipher = createCipheriv('aes-256-gcm', key.bytes, nonce).setAAD(Buffer.from(context));
  const ciphertext = Buffer.concat([nonce, cipher.update(plaintext), cipher.final(), cipher.getAuthTag()]);
  return { keyId: key.id, ciphertext };
}

/** Opens what `seal` made. Throws when the key is unknown, or when the bytes or the context were changed. */
export function open(keys: readonly SecretKey[], context: string, sealed: SealedSecret): Uint8Array {
  const key = keys.find((candidate) => candidate.id === sealed.keyId);
  if (key === undefined) throw new Error(`RINGBACK_SECRET_KEY holds no key with id ${sealed.keyId}`);
  const nonce = sealed.ciphertext.subarray(0, NONCE_BYTES);
  const tag = sealed.ciphertext.subarray(-TAG_BYTES);
  const body = sealed.ciphertext.subarray(NONCE_BYTES, -TAG_BYTES);
  const decipher = createDecipheriv('aes-256-gcm', key.bytes, nonce, { authTagLength: TAG_BYTES });
  decipher.setAAD(Buffer.from(context)).setAuthTag(tag);
  return Buffer.concat([decipher.update(body), decipher.final()]);
}
