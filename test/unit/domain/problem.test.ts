import { expect, test } from 'vitest';
import { PROBLEMS, refuse, toPointer } from '#domain/problem.ts';

const codes = Object.entries(PROBLEMS);

test.each(codes)('the code %s is lower snake case and has the status and title of an error', (code, problem) => {
  expect(code).toMatch(/^[a-z]+(_[a-z]+)*$/);
  expect(problem.status).toBeGreaterThanOrEqual(400);
  expect(problem.status).toBeLessThanOrEqual(599);
  expect(Number.isInteger(problem.status)).toBe(true);
  expect(problem.title).toMatch(/^[A-Z].*[^.]$/);
});

test('no two codes have the same title: who reads it knows which one it is', () => {
  expect(new Set(codes.map(([, { title }]) => title)).size).toBe(codes.length);
});

// The examples of RFC 6901, section 5, as lists of keys.
test.each([
  [[], ''],
  [['foo'], '/foo'],
  [['foo', 0], '/foo/0'],
  [[''], '/'],
  [['a/b'], '/a~1b'],
  [['c%d'], '/c%d'],
  [['e^f'], '/e^f'],
  [['g|h'], '/g|h'],
  [['i\\j'], '/i\\j'],
  [['k"l'], '/k"l'],
  [[' '], '/ '],
  [['m~n'], '/m~0n'],
])('the path %j is the JSON Pointer %j', (path, pointer) => {
  expect(toPointer(path)).toBe(pointer);
});

test.each([
  [['~1'], '/~01'], // not /~1, which would be a slash
  [['~/'], '/~0~1'],
  [['/~/'], '/~1~0~1'],
  [['', ''], '//'],
  [[{ key: 'a/b' }, { key: 3 }, 'c'], '/a~1b/3/c'],
  [['../..', '#'], '/..~1../#'],
  [[-1, 1.5], '/-1/1.5'],
])('the odd path %j is the JSON Pointer %j', (path, pointer) => {
  expect(toPointer(path)).toBe(pointer);
});

test('a symbol in a path is written down, not thrown at', () => {
  expect(toPointer([Symbol('s'), { key: Symbol('t') }])).toBe('/Symbol(s)/Symbol(t)');
});

test('a library that names no path means the whole document', () => {
  expect(toPointer()).toBe('');
});

test('a refusal carries its code, its detail and nothing that was not given', () => {
  expect(refuse('job_not_found', 'There is no job.')).toEqual({
    ok: false,
    code: 'job_not_found',
    detail: 'There is no job.',
  });
  expect(refuse('job_not_finished', 'Wait.', { retryAfter: 3 })).toMatchObject({ retryAfter: 3 });
});
