import { describe, expect, test } from 'vitest';
import { MAX_DEPTH, toKeptJson } from '#domain/json.ts';
import { canonicalJson, restoreNumbers, unheldNumbers } from '#domain/json-number.ts';
import { rewriteJson } from '#domain/json-rewrite.ts';
import { elementTexts, memberText, memberTexts, replaceMember, shapeOf } from '#domain/json-text.ts';

const HOSTILE = String.raw`{ "a\"b\\" : [ 1 , {"x":"}]\\\""} ] ,"\u0061":{},"":null , "__proto__":-0.0e+1,
	"z":"" }`;

/** mulberry32: the same texts in every run. */
function randomFrom(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

const NUMBERS = '0 -0 1.50 1E3 -2e-3 9007199254740993 1e400 0.1'.split(' ');
const STRINGS = String.raw`"" "\\" "\"" "\\\"" "{" "]:," "\u00e9\ud83d\ude9a" "é🚚"`.split(' ');
const SCALARS = [...NUMBERS, ...STRINGS, 'true', 'false', 'null'];
const SPACES = ['', '', '', ' ', '\n', '\t \r\n'];

function randomJson(random: () => number, depth: number): string {
  const pick = (items: readonly string[]) => items[Math.floor(random() * items.length)]!;
  const space = () => pick(SPACES);
  const kind = depth === 0 ? 0 : random();
  if (kind < 0.4) return pick(SCALARS);
  const length = Math.floor(random() * 4);
  const values = Array.from({ length }, () => `${space()}${randomJson(random, depth - 1)}${space()}`);
  if (kind < 0.7) return `[${values.join(',') || space()}]`;
  return `{${values.map((value, index) => `${space()}"${'k'.repeat(index)}\\n"${space()}:${value}`).join(',') || space()}}`;
}

const randomTexts = () => {
  const random = randomFrom(7);
  return Array.from({ length: 3000 }, () => randomJson(random, 4));
};

describe('texts are taken apart', () => {
  test('into members, by their names and not by how those are spelled', () => {
    expect([...memberTexts(HOSTILE)]).toEqual([
      ['a"b\\', String.raw`[ 1 , {"x":"}]\\\""} ]`],
      ['a', '{}'],
      ['', 'null'],
      ['__proto__', '-0.0e+1'],
      ['z', '""'],
    ]);
    expect(memberText(HOSTILE, 'a')).toBe('{}');
    expect(memberText(HOSTILE, 'x')).toBeUndefined();
    expect(memberText('{"a":1,"\\u0061":2}', 'a')).toBe('2');
  });

  test.each(['[]', ' null', '"{"', '7', '{}', ' { } '])('%s has no members', (text) => {
    expect([...memberTexts(text)]).toEqual([]);
  });

  test('into elements', () => {
    expect(elementTexts(' [ 1.0 ,"],[", [ [] ], { "a" : [ 2 ] }\n]')).toEqual([
      '1.0',
      '"],["',
      '[ [] ]',
      '{ "a" : [ 2 ] }',
    ]);
    for (const text of ['[]', ' [ ] ', '{}', '1', '"[1]"']) expect(elementTexts(text)).toEqual([]);
  });

  test('as JSON.parse takes them apart, whatever they hold', () => {
    for (const text of randomTexts()) {
      const value: unknown = JSON.parse(text);
      const members = Object.entries(Array.isArray(value) || typeof value === 'string' ? {} : (value ?? {}));
      expect([...memberTexts(text)].map(([name, each]) => [name, JSON.parse(each)])).toEqual(members);
      expect(elementTexts(text).map((each) => JSON.parse(each) as unknown)).toEqual(Array.isArray(value) ? value : []);
    }
  });

  test('and put together with another value for a member', () => {
    expect(replaceMember('{ "a" : [1e400], "b":2 }', 'b', '{"c":-0}')).toBe('{ "a" : [1e400], "b":{"c":-0} }');
    expect(replaceMember('{"a":1}', 'b', '2')).toBe('{"a":1}');
  });
});

test('the shape of a text is how deep it is, and how many members it has', () => {
  expect(shapeOf('"{:[:"')).toEqual({ depth: 0, members: 0 });
  expect(shapeOf(HOSTILE)).toEqual({ depth: 3, members: 6 });
  expect(shapeOf('[{"a":1,"a":[2]},[]]')).toEqual({ depth: 3, members: 2 });
});

describe('a text is written anew', () => {
  test('without white space, and with its order, its numbers and its own __proto__', () => {
    expect(rewriteJson(HOSTILE)).toBe(
      String.raw`{"a\"b\\":[1,{"x":"}]\\\""}],"a":{},"":null,"__proto__":-0.0e+1,"z":""}`,
    );
  });

  test('with the last of several members of one name, where the first was', () => {
    expect(rewriteJson('{"a":1,"b":2,"\\u0061":{"c":1,"c":2}}')).toBe('{"a":{"c":2},"b":2}');
  });

  test('as JSON.stringify writes what JSON.parse has read, but for the numbers', () => {
    const literal = (token: string) => JSON.stringify(JSON.parse(token));
    for (const text of randomTexts()) expect(rewriteJson(text, literal)).toBe(JSON.stringify(JSON.parse(text)));
  });
});

describe('JSON is kept', () => {
  const kept = (text: string) => toKeptJson(text, JSON.parse(text));

  test('character by character', () => {
    for (const text of [HOSTILE, ...randomTexts()]) expect(kept(text)).toEqual({ ok: true, text });
  });

  test('but for members that another one of their name hides', () => {
    expect(kept(' { "a":1e400, "b":1, "a":-0 }')).toEqual({ ok: true, text: '{"a":-0,"b":1}' });
    expect(kept('[{"__proto__":1,"__proto__":2}]')).toEqual({ ok: true, text: '[{"__proto__":2}]' });
  });

  test.each([
    ['U+0000', String.raw`["\u0000"]`],
    ['U+0000 in a name', String.raw`{"a\u0000":1}`],
    ['half a surrogate pair', String.raw`"\ud83d"`],
    ['the other half', String.raw`"\uDE9A x"`],
    ['halves the wrong way round', String.raw`"\ude9a\ud83d"`],
  ])('not with %s', (_, text) => {
    expect(kept(text).ok).toBe(false);
  });

  test.each([String.raw`"\ud83d\ude9a"`, String.raw`"\\u0000"`, String.raw`"\\\\ud800"`])('with %s', (text) => {
    expect(kept(text)).toEqual({ ok: true, text });
  });

  test(`down to ${MAX_DEPTH} levels`, () => {
    const nested = (depth: number) => `${'[{"a":'.repeat(depth / 2)}1${'}]'.repeat(depth / 2)}`;
    expect(kept(nested(MAX_DEPTH)).ok).toBe(true);
    expect(kept(nested(MAX_DEPTH + 2))).toEqual({ ok: false, reason: expect.stringContaining('nested too deeply') });
    // What reads it by a call for each level can.
    expect(rewriteJson(nested(MAX_DEPTH))).toBe(nested(MAX_DEPTH));
  });
});

describe('numbers', () => {
  test('that a handler would get as others are named with their places, twenty at most', () => {
    const text = '{"a/b":[1,1e400,{"c":-9007199254740993}],"d":"1e400","e":1e-400}';
    expect(unheldNumbers(text).map(({ path }) => path)).toEqual(['/a~1b/1', '/a~1b/2/c', '/e']);
    expect(unheldNumbers(`[${Array(50).fill('1e999').join(',')}]`)).toHaveLength(20);
    expect(unheldNumbers(`[${'9'.repeat(5000)}]`)[0]!.message.length).toBeLessThan(300);
  });

  test.each([
    ['1.0', '1'],
    ['1E5', '100000'],
    ['0.10e1', '1'],
    ['1e21', '1e+21'],
    ['100000000000000000000000', '1e+23'],
    ['0e5', '0'],
    ['5e-324', '5e-324'],
    ['-0', '-0'],
    ['9007199254740993', '9007199254740993'],
    ['0.10000000000000001', '0.10000000000000001'],
    ['1e400', '1e400'],
    ['1e-400', '1e-400'],
    ['1e99999999999999999999', '1e99999999999999999999'],
  ])('are compared by what they say: %s as %s', (text, canonical) => {
    expect(canonicalJson(` [ ${text} ]`, JSON.parse(`[${text}]`))).toBe(`[${canonical}]`);
  });

  test('that a schema has left where they were are put back', () => {
    const original =
      '{"id":9007199254740993,"far":1e400,"list":[-0,{"n":9007199254740993}],"gone":1e999,"new":9007199254740993}';
    const value = { far: Number.POSITIVE_INFINITY, list: [-0, { n: 9007199254740992, m: 9007199254740992 }], new: 1 };
    expect(restoreNumbers(JSON.stringify(value), original)).toBe(
      '{"far":1e400,"list":[-0,{"n":9007199254740993,"m":9007199254740992}],"new":1}',
    );
  });
});
