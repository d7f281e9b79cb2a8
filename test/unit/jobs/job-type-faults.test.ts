import { describe, expect, test } from 'vitest';
import { faultOf } from '../../../src/jobs/type/job-type-faults.ts';
import { schema } from './fixtures.ts';

// What is not here is in job-types.test.ts (names, schemas, timeouts, runs) and in backend-definition.test.ts.

const run = () => null;
const backend = { url: 'http://10.0.0.7/' };
const KNOWN = new Map([['csv.known', null]]);

/** As a config file written in JavaScript may have it. */
function fault(members: object): string | undefined {
  return faultOf({ type: 'csv.profile', input: schema(), ...members }, KNOWN);
}

const ONE_WAY = 'needs exactly one of run (a function), backend ({ url }) and remote (true)';
const ISOLATION = 'isolation must be "thread", beside a run, or be left out';

describe('how the work is done', () => {
  test.each<[string, object, string]>([
    ['nobody', {}, ONE_WAY],
    ['run and backend', { run, backend }, ONE_WAY],
    ['run and remote workers', { run, remote: true }, ONE_WAY],
    ['backend and remote workers', { backend, remote: true }, ONE_WAY],
    ['all three', { run, backend, remote: true }, ONE_WAY],
    ['run and no remote workers, said with false', { run, remote: false }, ONE_WAY],
    ['a run that is text', { run: 'main' }, 'run must be a function'],
    ['a run that is null', { run: null }, 'run must be a function'],
    ['remote workers, said with text', { remote: 'yes' }, 'remote must be true, or be left out'],
    ['remote workers, denied', { remote: false }, 'remote must be true, or be left out'],
    ['a back end in a thread', { backend, isolation: 'thread' }, ISOLATION],
    ['remote workers in a thread', { remote: true, isolation: 'thread' }, ISOLATION],
    ['an isolation that there is not', { run, isolation: 'process' }, ISOLATION],
    ['no isolation, said with false', { run, isolation: false }, ISOLATION],
    ['no isolation, said with null', { run, isolation: null }, ISOLATION],
    [
      'a back end that is a function',
      { backend: () => backend },
      'backend must be { url, method?, headers?, timeoutMs? }',
    ],
    [
      'headers in a list',
      { backend: { ...backend, headers: ['x'] } },
      'backend.headers must be header names with their',
    ],
    ['headers in a Map', { backend: { ...backend, headers: new Map([['x', 'y']]) } }, 'backend.headers must be header'],
    ['Headers', { backend: { ...backend, headers: new Headers({ x: 'y' }) } }, 'backend.headers must be header names'],
  ])('by %s is refused', (_whom, members, message) => {
    expect(fault(members)).toContain(message);
  });

  test.each<[string, object]>([
    ['run', { run }],
    ['run in a thread', { run, isolation: 'thread' }],
    ['an async run', { run: async () => null }],
    ['a back end', { backend }],
    ['a back end with headers of no prototype', { backend: { ...backend, headers: Object.create(null) as object } }],
    ['remote workers', { remote: true }],
    ['run, with the others said to be undefined', { run, backend: undefined, remote: undefined, isolation: undefined }],
  ])('by %s is fine', (_whom, members) => {
    expect(fault(members)).toBeUndefined();
  });
});

describe.each<[string, number, number]>([
  ['timeoutMs', 1, 86_400_000],
  ['concurrency', 1, 100_000],
  ['maxInputBytes', 1, 104_857_600],
  ['retry.maxRuns', 1, 100],
  ['retry.minDelayMs', 0, 86_400_000],
  ['retry.maxDelayMs', 0, 86_400_000],
])('%s', (path, least, most) => {
  const [outer, inner] = path.split('.') as [string, string?];
  const faultWith = (value: unknown) => fault({ run, [outer]: inner === undefined ? value : { [inner]: value } });
  const message = `${path} must be a whole number from ${least} to ${most}`;

  test('may be at its bounds, or be left out', () => {
    for (const value of [least, most, undefined]) expect(faultWith(value)).toBeUndefined();
  });

  test.each([
    ['below', least - 1],
    ['above', most + 1],
    ['a fraction', least + 0.5],
    ['text', String(most)],
    ['NaN', Number.NaN],
    ['infinite', Number.POSITIVE_INFINITY],
    ['null', null],
    ['true', true],
    ['a BigInt', BigInt(least)],
    ['a list', [least]],
  ])('is refused when it is %s', (_what, value) => {
    expect(faultWith(value)).toBe(message);
  });
});

describe.each<[string, number, number]>([
  ['factor', 1, 100],
  ['jitter', 0, 1],
])('retry.%s', (name, least, most) => {
  const faultWith = (value: unknown) => fault({ run, retry: { [name]: value } });

  test('may be anything in its bounds, or be left out', () => {
    for (const value of [least, least + 0.1, most, undefined]) expect(faultWith(value)).toBeUndefined();
  });

  test.each([
    ['below', least - 0.001],
    ['above', most + 0.001],
    ['NaN', Number.NaN],
    ['text', String(least)],
    ['null', null],
    ['true', true],
    ['a BigInt', BigInt(most)],
    ['a list', [most]],
  ])('is refused when it is %s', (_what, value) => {
    expect(faultWith(value)).toBe(`retry.${name} must be a number from ${least} to ${most}`);
  });
});

test.each([
  ['null', null],
  ['a number', 3],
  ['text', 'never'],
  ['a function', () => 3],
])('a retry that is %s is refused', (_what, retry) => {
  expect(fault({ run, retry })).toBe('retry must be { maxRuns?, minDelayMs?, ... }');
});

test('a schema may be a function, as some libraries have it', () => {
  const callable = Object.assign(() => true, schema());
  expect(fault({ run, input: callable, output: callable })).toBeUndefined();
});

test.each<[string, unknown]>([
  ['JSON Schema', { type: 'object' }],
  ['false', false],
  ['a schema that cannot validate', { '~standard': { version: 1, vendor: 'x', validate: true } }],
])('an output that is %s is refused', (_what, output) => {
  expect(fault({ run, output })).toBe('output must be a Standard Schema, or be left out');
});

test('a name that is taken is refused before anything else that is wrong', () => {
  expect(fault({ type: 'csv.known', input: null })).toBe('another job type has the same name');
});
