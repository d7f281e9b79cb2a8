import { randomBytes, timingSafeEqual } from 'node:crypto';
import { publicKeyOf, type SignatureScheme } from './signature.ts';

/** Ours are 32 bytes: of an HMAC like the digest they feed, of ed25519 there is no other length. */
const KEY_BYTES = 32;

/** Shared secrets are 24 to 64 bytes (Standard Webhooks 1.0). */
const SHARED_BYTES = { least: 24, most: 64 };

/** As the specification writes them, each with the base64 of the bytes behind it. */
const PREFIXES = { v1: 'whsec_', v1a: 'whsk_' } as const satisfies Record<SignatureScheme, string>;
const PUBLIC_PREFIX = 'whpk_';

/** 24 random bytes have fewer different values less than once in 10^24 times: it would be a pattern. */
const LEAST_VALUES = 8;

const BASE64 = /^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$/;

/** What signs, outside of any row. `key` is what `signerOf` takes. */
export interface SigningSecret {
  readonly scheme: SignatureScheme;
  readonly key: Uint8Array;
}

export function newSigningSecret(scheme: SignatureScheme): SigningSecret {
  return { scheme, key: randomBytes(KEY_BYTES) };
}

/**
 * The secret as its owner keeps it: `whsec_` or `whsk_`, and base64. The specification does not say which form an ed25519
 * private key has; this is the 32 bytes that its reference library (Go) takes.
 */
export function formatSigningSecret({ scheme, key }: SigningSecret): string {
  return PREFIXES[scheme] + Buffer.from(key).toString('base64');
}

/** `whpk_` and the base64 of a raw ed25519 public key: for everybody to see. */
export function formatPublicKey(publicKey: Uint8Array): string {
  return PUBLIC_PREFIX + Buffer.from(publicKey).toString('base64');
}

export type ParsedSecret =
  | { readonly ok: true; readonly secret: SigningSecret }
  /** What is wrong, without a byte of the secret. */
  | { readonly ok: false; readonly fault: string };

/** Reads a secret that its owner brings along. */
export function parseSigningSecret(text: string): ParsedSecret {
  if (text.startsWith(PUBLIC_PREFIX)) return fault('is a public key (whpk_): the private one (whsk_) signs');
  const scheme = text.startsWith(PREFIXES.v1) ? 'v1' : 'v1a';
  const prefix = PREFIXES[scheme];
  if (!text.startsWith(prefix)) return fault(`must begin with ${PREFIXES.v1} (HMAC) or ${PREFIXES.v1a} (ed25519)`);
  const encoded = text.slice(prefix.length);
  const bytes = Buffer.from(encoded, 'base64');
  // `Buffer.from` takes base64url, blanks and rubbish; other readers of the same secret would refuse it or read another one.
  if (!BASE64.test(encoded) || bytes.toString('base64') !== encoded)
    return fault(`must be standard base64 with its padding behind ${prefix}`);
  return scheme === 'v1' ? parseShared(bytes) : parsePrivate(bytes);
}

function parseShared(key: Uint8Array): ParsedSecret {
  const { least, most } = SHARED_BYTES;
  if (key.length < least || key.length > most) return fault(`must hold ${least} to ${most} bytes, not ${key.length}`);
  return strong({ scheme: 'v1', key });
}

/** 32 bytes, or 64: followed by the public key, as libsodium and Svix have it. */
function parsePrivate(bytes: Uint8Array): ParsedSecret {
  if (bytes.length !== KEY_BYTES && bytes.length !== 2 * KEY_BYTES)
    return fault(`must hold a private key of 32 bytes, or 64 with its public key, not ${bytes.length}`);
  const key = bytes.subarray(0, KEY_BYTES);
  const publicKey = bytes.subarray(KEY_BYTES);
  if (publicKey.length > 0 && !timingSafeEqual(publicKey, publicKeyOf(key)))
    return fault('has a public key that does not belong to its private key');
  return strong({ scheme: 'v1a', key });
}

function strong(secret: SigningSecret): ParsedSecret {
  if (new Set(secret.key).size < LEAST_VALUES) return fault('is not random: take bytes from a random generator');
  return { ok: true, secret };
}

function fault(text: string): ParsedSecret {
  return { ok: false, fault: text };
}
