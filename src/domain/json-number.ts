import { type Fault, toPointer } from './problem.ts';
import { type JsonPath, rewriteJson } from './json-rewrite.ts';

/** A JSON number: sign, whole part, fraction, exponent. */
const NUMBER = /^(-?)(\d+)(?:\.(\d+))?(?:[eE]([+-]?\d+))?$/;
/** Nothing that JavaScript makes another number of, or writes as another one, comes without one of these. */
const MAY_CHANGE = /\d{16}|\d[eE]|-0/;
/** Names that JavaScript would move to the front, however they are spelled. */
const MAY_MOVE = /"\d+"\s*:|\\u003\d/;
/** Longer whole numbers are beyond the largest double anyway. */
const MOST_DIGITS = 310;
const MAX_FAULTS = 20;

/** True when JavaScript writes the number as another spelling of the very same: 1.10, 1E5, but not -0 nor 9007199254740993. */
function isWrittenBack(token: string): boolean {
  const value = Number(token);
  if (String(value) === token) return true;
  if (!Number.isFinite(value) || Object.is(value, -0)) return false;
  return decimalOf(token) === decimalOf(String(value));
}

/** One text for each decimal number, however it is written. */
function decimalOf(token: string): string {
  const [, sign = '', whole = '', fraction = '', exponent = '0'] = NUMBER.exec(token) ?? [];
  const digits = whole + fraction;
  let first = 0;
  while (digits[first] === '0') first++;
  if (first === digits.length) return '0';
  let end = digits.length;
  while (digits[end - 1] === '0') end--;
  return `${sign}${digits.slice(first, end)}e${Number(exponent) - fraction.length + digits.length - end}`;
}

/**
 * True when a handler gets the number that was sent. A fraction, or what has an exponent, stands for the nearest double, as
 * everywhere: 0.1 has none of its own either. But beyond 2^53 doubles are more than 1 apart: what is written out there must be
 * one of them, or what JavaScript would write for it; and nothing may become infinite, or 0.
 */
function isHeld(token: string): boolean {
  const value = Number(token);
  if (!Number.isFinite(value)) return false;
  if (value === 0) return decimalOf(token) === '0';
  if (Math.abs(value) <= Number.MAX_SAFE_INTEGER || /[eE]/.test(token) || isWrittenBack(token)) return true;
  return /^-?\d+$/.test(token) && token.length <= MOST_DIGITS && BigInt(token) === BigInt(value);
}

/** The numbers that a handler would get as others, each with its place. */
export function unheldNumbers(text: string): Fault[] {
  if (!MAY_CHANGE.test(text)) return [];
  const faults: Fault[] = [];
  rewriteJson(text, (literal, path) => {
    if (NUMBER.test(literal) && faults.length < MAX_FAULTS && !isHeld(literal)) {
      const became = `${shorten(literal)} would become ${Number(literal)}`;
      const message = `cannot be represented: ${became} for a handler in JavaScript; send it as a string`;
      faults.push({ path: toPointer(path), message });
    }
    return literal;
  });
  return faults;
}

function shorten(literal: string): string {
  return literal.length <= 50 ? literal : `${literal.slice(0, 50)}...`;
}

/**
 * One text for JSON that says the same, for comparing: the spacing, how strings are escaped and how numbers are spelled does
 * not count, the order does. Numbers that JavaScript would change are taken as they are written. For all others it is what
 * `JSON.stringify` makes of the value.
 */
export function canonicalJson(text: string, value: unknown): string {
  if (!MAY_CHANGE.test(text) && !MAY_MOVE.test(text)) return JSON.stringify(value) ?? 'null';
  return rewriteJson(text, (literal) => {
    return NUMBER.test(literal) && isWrittenBack(literal) ? String(Number(literal)) : literal;
  });
}

/**
 * What a schema has made of a value, with the numbers that JavaScript has changed as they were written, wherever the schema
 * has left them.
 * @param text the schema's value as JSON
 * @param original what the schema was given
 */
export function restoreNumbers(text: string, original: string): string {
  if (!MAY_CHANGE.test(original)) return text;
  const changed = new Map<string, string>();
  rewriteJson(original, (literal, path) => {
    if (NUMBER.test(literal) && !isWrittenBack(literal)) changed.set(keyOf(path), literal);
    return literal;
  });
  if (changed.size === 0) return text;
  return rewriteJson(text, (literal, path) => {
    const before = changed.get(keyOf(path));
    return before !== undefined && literal === JSON.stringify(Number(before)) ? before : literal;
  });
}

function keyOf(path: JsonPath): string {
  return JSON.stringify(path);
}
