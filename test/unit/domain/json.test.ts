import { expect, test } from 'vitest';
import { toCleanJson, toStorableJson } from '#domain/json.ts';

const NUL = '\0';
const HIGH = '\ud83d'; // the first half of 🚚
const LOW = '\ude9a';
const UNSTORABLE = 'a string in it holds U+0000 or an unpaired surrogate, which PostgreSQL cannot store';

function textOf(value: unknown): string {
  const json = toStorableJson(value);
  if (!json.ok) throw new Error(json.reason);
  return json.text;
}

function reasonOf(value: unknown): string {
  const json = toStorableJson(value);
  if (json.ok) throw new Error(`accepted: ${json.text.slice(0, 80)}`);
  return json.reason;
}

function nested(depth: number): unknown {
  return JSON.parse('['.repeat(depth) + ']'.repeat(depth));
}

const cycle: Record<string, unknown> = {};
cycle['self'] = [cycle];

test.each([
  ['a NUL', NUL],
  ['a NUL after text', `abc${NUL}`],
  ['a NUL after a backslash', `\\${NUL}`],
  ['a NUL after two backslashes', `\\\\${NUL}`],
  ['a NUL after its own escape as text', `\\u0000${NUL}`],
  ['a NUL after a quotation mark', `"${NUL}`],
  ['a NUL in a key', { [`a${NUL}`]: 1 }],
  ['a NUL deep inside', [[{ a: [{ b: NUL }] }]]],
  ['a high surrogate alone', HIGH],
  ['a low surrogate alone', LOW],
  ['surrogates the wrong way round', LOW + HIGH],
  ['a high surrogate before a pair', HIGH + HIGH + LOW],
  ['a low surrogate after a pair', HIGH + LOW + LOW],
  ['the last high surrogate', '\udbff'],
  ['the last low surrogate', '\udfff'],
  ['a surrogate in a key', { [HIGH]: 1 }],
  ['a NUL that toJSON makes', { toJSON: () => NUL }],
])('%s is refused', (_what, value) => {
  expect(reasonOf(value)).toBe(UNSTORABLE);
});

test.each([
  ['a cycle', cycle, /circular/i],
  ['a BigInt', 1n, /BigInt/],
  ['a BigInt deep inside', { a: [1n] }, /BigInt/],
  ['a function', () => 1, /^a function cannot be serialised as JSON$/],
  ['a class', Date, /^a function cannot be serialised as JSON$/],
  ['a symbol', Symbol('s'), /^a symbol cannot be serialised as JSON$/],
  ['an object whose toJSON gives nothing', { toJSON: () => undefined }, /^a object cannot be serialised as JSON$/],
  [
    'a toJSON that throws an Error',
    {
      toJSON() {
        throw new Error('not today');
      },
    },
    /^not today$/,
  ],
  [
    'a toJSON that throws a string',
    {
      toJSON() {
        throw 'not today'; // oxlint-disable-line typescript/only-throw-error -- handlers do
      },
    },
    /cannot be serialised/,
  ],
  [
    'a getter that throws',
    {
      get a(): never {
        throw new Error('no entry');
      },
    },
    /^no entry$/,
  ],
  ['an invalid date inside a toISOString', { toJSON: () => new Date(Number.NaN).toISOString() }, /invalid time value/i],
  ['a revoked proxy', revokedProxy(), /revoked/],
  ['100,000 arrays inside each other', nested(100_000), /^it is nested too deeply$/],
])('%s is refused with its reason', (_what, value, reason) => {
  expect(reasonOf(value)).toMatch(reason);
});

function revokedProxy(): object {
  const { proxy, revoke } = Proxy.revocable({}, {});
  revoke();
  return proxy;
}

test.each([
  ['nothing', undefined, 'null'],
  ['null', null, 'null'],
  ['no text', '', '""'],
  ['numbers that JSON does not know', [Number.NaN, Number.POSITIVE_INFINITY, -0], '[null,null,0]'],
  ['members without a value', { a: undefined, b: () => 1, c: Symbol('s') }, '{}'],
  ['holes', [, 1], '[null,1]'], // oxlint-disable-line no-sparse-arrays -- that is the case
  ['a date', new Date(0), '"1970-01-01T00:00:00.000Z"'],
  ['an invalid date', new Date(Number.NaN), 'null'],
  ['a map', new Map([[1, 2]]), '{}'],
  ['a pair of surrogates', '🚚', '"🚚"'],
  ['the last code point', '\u{10ffff}', '"\u{10ffff}"'],
  ['other control characters', '\u0001\u001f\u007f', '"\\u0001\\u001f\u007f"'],
  ['line separators', '\u2028\u2029', '"\u2028\u2029"'],
  ['a non-character', '\ufffe\uffff', '"\ufffe\uffff"'],
  ['the escape of NUL as text', '\\u0000', '"\\\\u0000"'],
  ['the escape of NUL after a backslash, as text', '\\\\u0000', '"\\\\\\\\u0000"'],
  ['the escape of a surrogate as text', '\\ud83d', '"\\\\ud83d"'],
  ['digits after a backslash', '\\0000', '"\\\\0000"'],
  ['a __proto__ key', JSON.parse('{"__proto__":1}'), '{"__proto__":1}'],
])('%s is stored', (_what, value, text) => {
  expect(textOf(value)).toBe(text);
});

test('1,000 arrays inside each other are stored', () => {
  expect(textOf(nested(1000))).toHaveLength(2000);
});

// JSON.rawJSON lets a value bring its own JSON text along, spelled as it likes.
test.each(['"\\uD83D"', '"\\ud83D"', '"\\u0000"', '"\\uDE9A"'])('the raw JSON %s is refused', (raw) => {
  const { rawJSON } = JSON as unknown as { rawJSON: (text: string) => object };
  expect(reasonOf([rawJSON(raw)])).toBe(UNSTORABLE);
});

test.each([
  [{ a: NUL }, '{"a":"\\ufffd"}'],
  [{ a: NUL + NUL + NUL }, '{"a":"\\ufffd\\ufffd\\ufffd"}'],
  [{ a: `\\${NUL}` }, '{"a":"\\\\\\ufffd"}'],
  [{ a: '\\u0000' }, '{"a":"\\\\u0000"}'],
  [{ a: `${HIGH}x${LOW}` }, '{"a":"\\ufffdx\\ufffd"}'],
  [{ a: HIGH + HIGH + LOW }, '{"a":"\\ufffd🚚"}'],
  [{ [NUL]: 1 }, '{"\\ufffd":1}'],
  [[HIGH], '["\\ufffd"]'],
  [{ a: '\u0001 🚚 \\' }, '{"a":"\\u0001 🚚 \\\\"}'],
])('%j is cleaned to %s', (value, text) => {
  expect(toCleanJson(value)).toBe(text);
});

test('half a million backslashes before a NUL take no more than a moment', () => {
  const text = '\\'.repeat(500_000);
  const started = performance.now();
  expect(toStorableJson(text + NUL).ok).toBe(false);
  expect(toStorableJson(`${text}u0000`).ok).toBe(true);
  expect(performance.now() - started).toBeLessThan(1000);
});
