import { createHash } from 'node:crypto';

const QUOTED = /^"((?:[^"\\]|\\["\\])*)"$/;
const PRINTABLE = /^[\x20-\x7e]{1,255}$/;

/**
 * The key in an `Idempotency-Key` field: a quoted string, as the draft wants it (a Structured Field, RFC 8941), or bare, as
 * many clients send it. Undefined when it is neither.
 */
export function parseIdempotencyKey(header: string): string | undefined {
  const text = header.trim();
  const key = QUOTED.exec(text)?.[1]?.replaceAll(/\\(.)/g, '$1') ?? text;
  return PRINTABLE.test(key) ? key : undefined;
}

/** What was submitted, as 32 bytes: equal for equal payloads, however they were spaced. */
export function fingerprintOf(submission: object): Buffer {
  return createHash('sha256').update(JSON.stringify(submission)).digest();
}
