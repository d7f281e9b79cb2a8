import { expect, test } from 'vitest';
import { z } from 'zod';
import { type AnyJobDefinition, defineJob } from '../../../src/jobs/type/define.ts';
import { inputJsonSchema, JobTypes } from '../../../src/jobs/type/job-types.ts';
import { jobType, schema } from './fixtures.ts';

const GOOD = { type: 'csv.profile', input: schema(), run: () => null };
const TYPE_FORM = /type must look like "csv\.profile"/;

/** As a config file written in JavaScript may have it. */
function register(...definitions: readonly unknown[]): JobTypes {
  return new JobTypes(definitions as AnyJobDefinition[]);
}

test.each<[string, unknown, RegExp | string]>([
  ['null', null, 'is not an object; make it with defineJob()'],
  ['nothing', undefined, 'is not an object; make it with defineJob()'],
  ['a string', 'csv.profile', 'is not an object; make it with defineJob()'],
  ['a function', () => null, 'is not an object; make it with defineJob()'],
  ['an empty object', {}, TYPE_FORM],
  ['a type in upper case', { ...GOOD, type: 'Csv.Profile' }, TYPE_FORM],
  ['an empty type', { ...GOOD, type: '' }, TYPE_FORM],
  ['a type that begins with a digit', { ...GOOD, type: '1st' }, TYPE_FORM],
  ['a type with a blank', { ...GOOD, type: 'csv profile' }, TYPE_FORM],
  ['a type with a line break after it', { ...GOOD, type: 'csv.profile\n' }, TYPE_FORM],
  ['a type with a dot at its end', { ...GOOD, type: 'csv.' }, TYPE_FORM],
  ['a type with two dots together', { ...GOOD, type: 'csv..profile' }, TYPE_FORM],
  ['a type with a slash', { ...GOOD, type: 'csv/profile' }, TYPE_FORM],
  ['a type that is a number', { ...GOOD, type: 4711 }, TYPE_FORM],
  ['a type that is a symbol', { ...GOOD, type: Symbol('s') }, TYPE_FORM],
  ['no way to be done', { ...GOOD, run: undefined }, 'needs exactly one of run (a function), backend'],
  ['a run that is a promise', { ...GOOD, run: Promise.resolve() }, 'run must be a function'],
  ['no input', { ...GOOD, input: undefined }, 'input must be a Standard Schema'],
  ['an input that is null', { ...GOOD, input: null }, 'input must be a Standard Schema'],
  ['an input that is JSON Schema', { ...GOOD, input: { type: 'object' } }, 'input must be a Standard Schema'],
  ['a schema that cannot validate', { ...GOOD, input: { '~standard': {} } }, 'input must be a Standard Schema'],
  ['an output that is null', { ...GOOD, output: null }, 'output must be a Standard Schema, or be left out'],
  ['a timeout of 0', { ...GOOD, timeoutMs: 0 }, 'timeoutMs must be a whole number from 1 to 86400000'],
  ['a timeout of more than a day', { ...GOOD, timeoutMs: 86_400_001 }, /timeoutMs must be/],
  ['a timeout for ever', { ...GOOD, timeoutMs: Number.POSITIVE_INFINITY }, /timeoutMs must be/],
  ['a timeout that is no number', { ...GOOD, timeoutMs: '60s' }, /timeoutMs must be/],
  ['a timeout of null', { ...GOOD, timeoutMs: null }, /timeoutMs must be/],
  ['no runs at all', { ...GOOD, retry: { maxRuns: 0 } }, 'retry.maxRuns must be a whole number from 1 to 100'],
  ['half a run', { ...GOOD, retry: { maxRuns: 1.5 } }, /maxRuns must be/],
  ['101 runs', { ...GOOD, retry: { maxRuns: 101 } }, /maxRuns must be/],
])('a definition with %s is refused, by its place and with what is wrong', (_fault, definition, message) => {
  const first = { ...GOOD, type: 'good' };
  expect(() => register(first, definition)).toThrow(message);
  expect(() => register(first, definition)).toThrow(/^job types that cannot be used:\n {2}jobs\[1\] \(/);
});

test('a type longer than any submission may name is refused', () => {
  expect(register({ ...GOOD, type: 'x'.repeat(100) }).list()).toHaveLength(1);
  expect(() => register({ ...GOOD, type: 'x'.repeat(101) })).toThrow(/100/);
});

test('every bad definition is named at once', () => {
  const message = messageOf(() => register(null, GOOD, { ...GOOD, type: 'b', run: 1 }, { ...GOOD, type: 'NO' }));
  expect(message.split('\n')).toHaveLength(4);
  expect(message).toMatch(/jobs\[0\] \(no type\): .*\n {2}jobs\[2\] \(b\): run .*\n {2}jobs\[3\] \(NO\): type /);
});

test('two job types of one name are refused, and the second is named', () => {
  expect(() => register(GOOD, { ...GOOD, type: 'other' }, GOOD)).toThrow(
    'jobs[2] (csv.profile): another job type has the same name',
  );
});

test.each(['a', 'csv.profile', 'a_b-c.9', 'ringback.echo'])('the type %s is good', (type) => {
  expect(register({ ...GOOD, type }).get(type)?.type).toBe(type);
});

test('left out, a run has a minute and a job three runs', () => {
  expect(jobType({})).toMatchObject({ timeoutMs: 60_000, retryPolicy: { maxRuns: 3 } });
  const most = { timeoutMs: 86_400_000, retry: { maxRuns: 100 } };
  expect(jobType(most)).toMatchObject({ timeoutMs: 86_400_000, retryPolicy: { maxRuns: 100 } });
});

test('types are listed by name, whatever their order in the file', () => {
  const types = register({ ...GOOD, type: 'b' }, { ...GOOD, type: 'a' }, { ...GOOD, type: 'a.b' });
  expect(types.list().map(({ type }) => type)).toEqual(['a', 'a.b', 'b']);
});

test.each([
  ['csv.profiel', ['csv.profile'], 'Did you mean csv.profile?'],
  ['csv', [], 'GET /v1/job-types lists those there are.'],
  ['__proto__', [], 'GET /v1/job-types'],
  ['constructor', [], 'GET /v1/job-types'],
])('the unknown type %s is refused with the names near it', (type, near, hint) => {
  const refusal = register(GOOD).find(type);
  expect(refusal).toMatchObject({ ok: false, code: 'unknown_job_type', extra: { near } });
  expect(refusal.ok || refusal.detail).toContain(hint);
});

test('an unknown type comes back quoted and cut: it is what a client sent', () => {
  const refusal = register(GOOD).find(`"\n\u001b[31m${'x'.repeat(10_000)}`);
  const detail = refusal.ok ? undefined : refusal.detail;
  expect(detail?.length).toBeLessThan(250);
  // oxlint-disable-next-line no-control-regex -- their absence is the point
  expect(detail).not.toMatch(/[\u0000-\u001f]/);
});

test('the JSON Schema of the input is what the schema library says', () => {
  const type = register(defineJob({ ...GOOD, input: z.strictObject({ csv: z.string() }) })).get('csv.profile')!;
  expect(inputJsonSchema(type)).toMatchObject({ type: 'object', properties: { csv: { type: 'string' } } });
  expect(inputJsonSchema(jobType({}))).toBeUndefined();
});

test.each([
  ['a date', z.object({ at: z.coerce.date() })],
  ['a custom check', z.custom<string>(() => true)],
  ['a BigInt', z.coerce.bigint()],
])('%s in a schema, which JSON Schema cannot say, leaves the JSON Schema out and the type usable', (_what, input) => {
  expect(inputJsonSchema(jobType({ input }))).toBeUndefined();
});

function messageOf(attempt: () => unknown): string {
  try {
    attempt();
  } catch (error) {
    return (error as Error).message;
  }
  throw new Error('nothing was thrown');
}
