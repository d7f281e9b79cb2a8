/**
 * JSON as text, looked into without making values of it: `JSON.parse` changes numbers that no double holds, forgets how they
 * were written, and moves names that look like integers to the front. Whatever is passed in here must be text that
 * `JSON.parse` accepts.
 */

const SPACE = 0x20;
const QUOTE = 0x22;
const COMMA = 0x2c;
const COLON = 0x3a;
const OPEN_BRACKET = 0x5b;
const BACKSLASH = 0x5c;
const CLOSE_BRACKET = 0x5d;
const OPEN_BRACE = 0x7b;
const CLOSE_BRACE = 0x7d;

/** The index of the next character that is no white space. */
export function skipSpace(text: string, from: number): number {
  let at = from;
  while (text.charCodeAt(at) <= SPACE) at++;
  return at;
}

/** The index behind the string whose opening quotation mark is at `from`. */
export function stringEnd(text: string, from: number): number {
  let end = text.indexOf('"', from + 1);
  while (isEscaped(text, end)) end = text.indexOf('"', end + 1);
  return end + 1;
}

function isEscaped(text: string, at: number): boolean {
  let first = at;
  while (text.charCodeAt(first - 1) === BACKSLASH) first--;
  return (at - first) % 2 === 1;
}

/** The index behind the number, `true`, `false` or `null` that begins at `from`. */
export function literalEnd(text: string, from: number): number {
  for (let at = from; ; at++) {
    const code = text.charCodeAt(at);
    // Behind the text it is NaN.
    if (!(code > SPACE) || code === COMMA || code === CLOSE_BRACE || code === CLOSE_BRACKET) return at;
  }
}

/** What a quoted string says. */
export function stringValue(quoted: string): string {
  return quoted.includes('\\') ? (JSON.parse(quoted) as string) : quoted.slice(1, -1);
}

function valueEnd(text: string, from: number): number {
  const first = text.charCodeAt(from);
  if (first === QUOTE) return stringEnd(text, from);
  if (first !== OPEN_BRACE && first !== OPEN_BRACKET) return literalEnd(text, from);
  let depth = 0;
  for (let at = from; ; at++) {
    const code = text.charCodeAt(at);
    if (code === QUOTE) at = stringEnd(text, at) - 1;
    else if (code === OPEN_BRACE || code === OPEN_BRACKET) depth += 1;
    else if ((code === CLOSE_BRACE || code === CLOSE_BRACKET) && --depth === 0) return at + 1;
  }
}

/** The value of a member of an object, as it is written; undefined without one. Of several with one name the last counts. */
export function memberText(text: string, name: string): string | undefined {
  let found: string | undefined;
  eachMember(text, (other, from, to) => {
    if (other === name) found = text.slice(from, to);
  });
  return found;
}

/** The members of an object, each value as it is written, in their order; none of what is no object. */
export function memberTexts(text: string): Map<string, string> {
  const members = new Map<string, string>();
  eachMember(text, (name, from, to) => members.set(name, text.slice(from, to)));
  return members;
}

/** The object with another value for a member that it has. */
export function replaceMember(text: string, name: string, value: string): string {
  let replaced = text;
  eachMember(text, (other, from, to) => {
    if (other === name) replaced = text.slice(0, from) + value + text.slice(to);
  });
  return replaced;
}

function eachMember(text: string, visit: (name: string, from: number, to: number) => void): void {
  let at = skipSpace(text, 0);
  if (text.charCodeAt(at) !== OPEN_BRACE) return;
  for (at = skipSpace(text, at + 1); text.charCodeAt(at) === QUOTE; at = skipSpace(text, at + 1)) {
    const nameEnd = stringEnd(text, at);
    const from = skipSpace(text, skipSpace(text, nameEnd) + 1);
    const to = valueEnd(text, from);
    visit(stringValue(text.slice(at, nameEnd)), from, to);
    at = skipSpace(text, to);
    if (text.charCodeAt(at) === CLOSE_BRACE) return;
  }
}

/** The elements of a list, each as it is written; none of what is no list. */
export function elementTexts(text: string): string[] {
  const elements: string[] = [];
  let at = skipSpace(text, 0);
  if (text.charCodeAt(at) !== OPEN_BRACKET) return elements;
  for (at = skipSpace(text, at + 1); at < text.length; at = skipSpace(text, at + 1)) {
    if (text.charCodeAt(at) === CLOSE_BRACKET) break;
    const to = valueEnd(text, at);
    elements.push(text.slice(at, to));
    at = skipSpace(text, to);
    if (text.charCodeAt(at) === CLOSE_BRACKET) break;
  }
  return elements;
}

export interface JsonShape {
  /** Of objects and lists inside each other; 0 for anything else. */
  readonly depth: number;
  /** Of all objects together, each as often as its name is written. */
  readonly members: number;
}

export function shapeOf(text: string): JsonShape {
  let [depth, deepest, members] = [0, 0, 0];
  for (let at = 0; at < text.length; at++) {
    const code = text.charCodeAt(at);
    if (code === QUOTE) at = stringEnd(text, at) - 1;
    else if (code === COLON) members += 1;
    else if (code === OPEN_BRACE || code === OPEN_BRACKET) deepest = Math.max(deepest, ++depth);
    else if (code === CLOSE_BRACE || code === CLOSE_BRACKET) depth -= 1;
  }
  return { depth: deepest, members };
}
