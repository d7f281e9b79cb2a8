import { rewriteJson } from './json-rewrite.ts';
import { shapeOf } from './json-text.ts';

/**
 * JSON that PostgreSQL can hold. Its text has no NUL, and its JSON functions refuse an unpaired surrogate; both are
 * legal in JavaScript strings, so they are looked for before a statement fails on them.
 */
export type StorableJson =
  | { readonly ok: true; readonly text: string }
  | { readonly ok: false; readonly reason: string };

// `JSON.stringify` writes every NUL and every unpaired surrogate, and no other surrogate, as an escape. The
// lookbehind skips `\\u0000`, which is a backslash followed by text.
const UNSTORABLE = /(?<!\\)((?:\\\\)*)\\u(?:0000|[dD][89a-fA-F][0-9a-fA-F]{2})/g;

/** Serialises a value; `undefined` becomes null. Refuses cycles, BigInt, NUL and unpaired surrogates. */
export function toStorableJson(value: unknown): StorableJson {
  let text: string | undefined;
  try {
    text = JSON.stringify(value);
  } catch (error) {
    return { ok: false, reason: reasonOf(error) };
  }
  if (text === undefined) {
    if (value === undefined) return { ok: true, text: 'null' };
    return { ok: false, reason: `a ${typeof value} cannot be serialised as JSON` };
  }
  if (text.includes('\\u') && text.search(UNSTORABLE) !== -1) {
    return { ok: false, reason: 'a string in it holds U+0000 or an unpaired surrogate, which PostgreSQL cannot store' };
  }
  return { ok: true, text };
}

/** Levels of JSON that comes from outside. What reads it, here and elsewhere, takes a call for each: many stop at a thousand. */
export const MAX_DEPTH = 1000;

/**
 * The same for JSON that is kept as it was sent. Of several members with one name the last is kept, for that is the one that
 * `JSON.parse` and so a schema has seen: whoever takes another one must not find it.
 * @param value what `JSON.parse` makes of the text
 */
export function toKeptJson(text: string, value: unknown): StorableJson {
  const { depth, members } = shapeOf(text);
  if (depth > MAX_DEPTH) return { ok: false, reason: `it is nested too deeply, more than ${MAX_DEPTH} levels` };
  if (text.includes('\\u')) {
    const storable = toStorableJson(value);
    if (!storable.ok) return storable;
  }
  return { ok: true, text: members === countMembers(value) ? text : rewriteJson(text) };
}

function countMembers(value: unknown): number {
  if (typeof value !== 'object' || value === null) return 0;
  const items: unknown[] = Array.isArray(value) ? value : Object.values(value);
  let count = items === value ? 0 : items.length;
  for (const item of items) if (typeof item === 'object') count += countMembers(item);
  return count;
}

function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return 'it cannot be serialised as JSON';
  return error.message.startsWith('Maximum call stack') ? 'it is nested too deeply' : error.message;
}

/** Text about others, cut to `maxLength`, that can be stored and read anywhere: NUL and half a character become U+FFFD. */
export function toCleanText(text: string, maxLength: number): string {
  return text.slice(0, maxLength).replaceAll('\0', '\ufffd').toWellFormed();
}

/** Serialises what we record about others (an error message, a response header): what cannot be stored becomes U+FFFD. */
export function toCleanJson(value: object): string {
  const text = JSON.stringify(value);
  return text.includes('\\u') ? text.replace(UNSTORABLE, '$1\\ufffd') : text;
}
