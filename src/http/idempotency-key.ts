import { createHash } from 'node:crypto';
import { toStorableJson } from '#domain/json.ts';
import { type Result, refuse } from '#domain/problem.ts';

const QUOTED = /^"((?:[^"\\]|\\["\\])*)"$/;
const PRINTABLE = /^[\x20-\x7e]{1,255}$/;

/**
 * The key in an `Idempotency-Key` field: a quoted string, as the draft wants it (a Structured Field, RFC 8941), or bare, as
 * many clients send it. Undefined when it is neither: what begins as a quoted string must be one, or a key that was cut off
 * would pass for another.
 */
export function parseIdempotencyKey(header: string): string | undefined {
  const text = header.trim();
  const key = text.startsWith('"') ? QUOTED.exec(text)?.[1]?.replaceAll(/\\(.)/g, '$1') : text;
  return key !== undefined && PRINTABLE.test(key) ? key : undefined;
}

/** What was submitted, as 32 bytes: equal for equal payloads, however they were spaced. */
export function fingerprintOf(submission: object): Result<Buffer> {
  const json = toStorableJson(submission);
  if (!json.ok) return refuse('invalid_input', `The input cannot be stored: ${json.reason}.`);
  return { ok: true, value: createHash('sha256').update(json.text).digest() };
}
