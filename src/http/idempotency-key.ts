import { hash } from 'node:crypto';
import { canonicalJson } from '#domain/json-number.ts';
import { type Result, refuse } from '#domain/problem.ts';
import { inputJson, type Submission } from '#jobs/submit/submission.ts';

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

/**
 * What was submitted, as 32 bytes: equal for equal payloads, however they were spaced, their strings escaped and their numbers
 * spelled. Numbers that JavaScript would change are compared as they were written.
 */
export function fingerprintOf(submission: Submission): Result<Buffer> {
  const { type, input, inputText: _inputText, ...rest } = submission;
  const json = inputJson(submission);
  if (!json.ok) return refuse('invalid_input', `The input cannot be stored: ${json.reason}.`);
  // The text that `JSON.stringify` made of a submission when that was all there was: keys outlive an upgrade.
  const members = [
    `"type":${JSON.stringify(type)}`,
    ...(input === undefined ? [] : [`"input":${canonicalJson(json.text, input)}`]),
    JSON.stringify(rest).slice(1, -1),
  ];
  const text = `{${members.filter((member) => member !== '').join(',')}}`;
  return { ok: true, value: hash('sha256', text, 'buffer') };
}
