import { expect, test } from 'vitest';
import { z } from 'zod';
import type { SchemaResult } from '../../../src/jobs/type/define.ts';
import { validate } from '../../../src/jobs/type/validate.ts';
import { schema } from './fixtures.ts';

const order = z.strictObject({
  lines: z.array(z.object({ 'sku/size': z.string(), count: z.int().min(1) })).min(1),
  note: z.string().trim().default('none'),
});
const LINE = { 'sku/size': 'A/XL', count: 1 };

test('zod: what fits comes back parsed, with defaults and transforms', async () => {
  expect(await validate(order, { lines: [LINE], note: ' hi ' })).toEqual({
    ok: true,
    value: { lines: [LINE], note: 'hi' },
  });
  expect(await validate(order, { lines: [LINE] })).toMatchObject({ value: { note: 'none' } });
});

test.each([
  ['nothing', undefined, ['']],
  ['null', null, ['']],
  ['an array', [], ['']],
  ['a missing member', {}, ['/lines']],
  ['an empty list', { lines: [] }, ['/lines']],
  ['a bad item', { lines: [LINE, { ...LINE, count: 0 }] }, ['/lines/1/count']],
  ['a bad name with a slash', { lines: [{ ...LINE, 'sku/size': 1 }] }, ['/lines/0/sku~1size']],
  ['two faults', { lines: [{ 'sku/size': 1, count: 0.5 }] }, ['/lines/0/sku~1size', '/lines/0/count']],
  ['an unknown member', { lines: [LINE], extra: 1 }, ['']],
])('zod: %s is refused with the place of each fault', async (_what, value, paths) => {
  const result = await validate(order, value);
  const faults = result.ok ? undefined : result.faults;
  expect(faults?.map(({ path }) => path)).toEqual(paths);
  expect(faults?.every(({ message }) => message.length > 0)).toBe(true);
});

test('zod: a check that has to wait is waited for', async () => {
  const taken = z.object({ name: z.string().refine(async (name) => name !== 'taken', 'is taken') });
  expect(await validate(taken, { name: 'free' })).toEqual({ ok: true, value: { name: 'free' } });
  expect(await validate(taken, { name: 'taken' })).toEqual({
    ok: false,
    faults: [{ path: '/name', message: 'is taken' }],
  });
});

const even = (value: unknown): SchemaResult<unknown> =>
  Number(value) % 2 === 0 ? { value: Number(value) } : { issues: [{ message: 'must be even' }] };

test.each([
  ['at once', schema(even)],
  ['later', schema(async (value) => even(value))],
])('a schema written by hand that answers %s is understood', async (_when, evenSchema) => {
  expect(await validate(evenSchema, '4')).toEqual({ ok: true, value: 4 });
  expect(await validate(evenSchema, '3')).toEqual({ ok: false, faults: [{ path: '', message: 'must be even' }] });
});

test('path segments may be keys or objects with a key, as Standard Schema has it', async () => {
  const issues = [
    { message: 'a', path: ['x', 0, { key: 'y~/z' }] },
    { message: 'b', path: [] },
    { message: 'c', path: undefined },
    { message: 'd', path: [{ key: Symbol('s') }] },
  ];
  expect(
    await validate(
      schema(() => ({ issues })),
      null,
    ),
  ).toEqual({
    ok: false,
    faults: [
      { path: '/x/0/y~0~1z', message: 'a' },
      { path: '', message: 'b' },
      { path: '', message: 'c' },
      { path: '/Symbol(s)', message: 'd' },
    ],
  });
});

test('an empty list of issues is still a refusal: only its absence is a yes', async () => {
  expect(
    await validate(
      schema(() => ({ issues: [] })),
      1,
    ),
  ).toEqual({ ok: false, faults: [] });
});

test('a result without a value is the value undefined', async () => {
  expect(
    await validate(
      schema(() => ({ value: undefined })),
      1,
    ),
  ).toEqual({ ok: true, value: undefined });
});

test.each([
  [
    'throws',
    schema(() => {
      throw new Error('broken');
    }),
  ],
  ['rejects', schema(() => Promise.reject(new Error('broken')))],
])('a schema that %s rejects, for the caller to say whose fault it is', async (_how, broken) => {
  await expect(validate(broken, 1)).rejects.toThrow('broken');
});
