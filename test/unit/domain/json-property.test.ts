import { expect, test } from 'vitest';
import { toCleanJson, toStorableJson } from '#domain/json.ts';

/** Pieces that meet each other in every order: whole and half characters, and text that looks like their escapes. */
const PIECES = [
  '\0',
  '\ud83d',
  '\ude9a',
  '🚚',
  '\\',
  '\\\\',
  'u0000',
  '\\u0000',
  'ud83d',
  '\\ud83d\\ude9a',
  '"',
  '\u0001',
  '\u001f',
  '\ud7ff',
  '\ue000',
  '\ufffd',
  '\u2028',
  'a',
  '0',
];
const COUNT = 20_000;

/** mulberry32: the same strings in every run, so that a failure can be looked at. */
function randomFrom(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

function* randomStrings(seed: number): Generator<string> {
  const random = randomFrom(seed);
  const pick = () => PIECES[Math.floor(random() * PIECES.length)]!;
  for (let index = 0; index < COUNT; index++) {
    yield Array.from({ length: Math.floor(random() * 8) }, pick).join('');
  }
}

const isStorable = (text: string) => !text.includes('\0') && text.isWellFormed();

test('a string is accepted exactly when it has neither NUL nor half a character, and comes back the same', () => {
  const strings = [...randomStrings(1)];
  const wrong = strings.filter((text) => {
    const json = toStorableJson({ [text]: text });
    const isSame = json.ok && (JSON.parse(json.text) as Record<string, string>)[text] === text;
    return json.ok !== isStorable(text) || (json.ok && !isSame);
  });
  expect(wrong.map(escape)).toEqual([]);
  // Both verdicts were put to the test, often.
  const storable = strings.filter(isStorable).length;
  expect(Math.min(storable, COUNT - storable)).toBeGreaterThan(COUNT / 10);
});

test('what is cleaned can be stored, keeps its length, and is changed only where it had to be', () => {
  const wrong = [...randomStrings(2)].filter((text) => {
    const cleaned = JSON.parse(toCleanJson({ text })) as { text: string };
    return cleaned.text !== text.replaceAll('\0', '\ufffd').toWellFormed() || !toStorableJson(cleaned).ok;
  });
  expect(wrong.map(escape)).toEqual([]);
});

function escape(text: string): string {
  return JSON.stringify(text);
}
