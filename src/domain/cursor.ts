import { createHash } from 'node:crypto';
import { refuse, type Result } from './problem.ts';

/** To be raised when a place changes its meaning: cursors handed out before are refused then, not misread. */
const VERSION = 1;

/**
 * A place in a list as an opaque text. It fits one scope (which list, whose, with which filters) and no other, so that one
 * that strayed into another list is refused. The digest keeps mistakes out, not forgers: whatever place they make up is a
 * place among their own rows.
 */
export function sealCursor(scope: readonly unknown[], place: readonly string[]): string {
  return Buffer.from(JSON.stringify([...place, digestOf(scope, place)])).toString('base64url');
}

/** The place that was sealed, or undefined: for another scope, tampered with, or no cursor at all. */
export function openCursor(scope: readonly unknown[], text: string): readonly string[] | undefined {
  const members = parse(Buffer.from(text, 'base64url').toString());
  if (!Array.isArray(members) || !members.every((member) => typeof member === 'string')) return undefined;
  const place = members.slice(0, -1);
  return sealCursor(scope, place) === text ? place : undefined;
}

function digestOf(scope: readonly unknown[], place: readonly string[]): string {
  const text = JSON.stringify([VERSION, scope, place]);
  return createHash('sha256').update(text).digest('base64url').slice(0, 16);
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** `message` says what the cursor must be, or what has become of it. */
export function refuseCursor(message: string): Result<never> {
  return refuse('invalid_query', `/cursor: ${message}`, { faults: [{ path: '/cursor', message }] });
}
