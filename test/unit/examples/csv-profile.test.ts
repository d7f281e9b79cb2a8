import { readFile } from 'node:fs/promises';
import { describe, expect, test } from 'vitest';
import { profile, profileColumn } from './run-profile.ts';

const counts = (histogram: readonly { count: number }[] | null) => histogram?.map((bin) => bin.count);

describe('numbers', () => {
  test('range, mean and sample deviation are what pencil and paper give', async () => {
    const column = await profileColumn([2, 4, 4, 4, 5, 5, 7, 9]);
    expect(column).toMatchObject({ type: 'integer', nulls: 0, distinct: 5, min: 2, max: 9, mean: 5 });
    expect(column.stddev).toBeCloseTo(Math.sqrt(32 / 7), 14);
    expect(column.top[0]).toEqual({ value: '4', count: 3 });
  });

  test('a mean that is large against the spread costs no digits', async () => {
    const column = await profileColumn([4, 7, 13, 16].map((digit) => 1e15 + digit));
    expect(column.mean).toBe(1e15 + 10);
    expect(column.stddev).toBe(Math.sqrt(30));
  });

  test('one value has no deviation and one bin', async () => {
    expect(await profileColumn(['-1.5e3'])).toMatchObject({
      type: 'number',
      mean: -1500,
      stddev: null,
      histogram: [{ from: -1500, to: -1500, count: 1 }],
    });
  });

  test('a value on an edge belongs to the upper bin, and the largest to the last', async () => {
    const tenths = await profileColumn([0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1]);
    expect(counts(tenths.histogram)).toEqual([1, 1, 1, 1, 1, 1, 1, 1, 1, 2]);
    // (0.25 - 0.1) / (0.4 - 0.1) * 2 is 0.9999999999999999: division alone would put 0.25 below the edge 0.25.
    expect((await profileColumn([0.1, 0.25, 0.4], 2)).histogram).toEqual([
      { from: 0.1, to: 0.25, count: 1 },
      { from: 0.25, to: 0.4, count: 2 },
    ]);
    const { histogram } = await profileColumn([1, 2, 3, 10], 3);
    expect(histogram).toEqual([
      { from: 1, to: 4, count: 3 },
      { from: 4, to: 7, count: 0 },
      { from: 7, to: 10, count: 1 },
    ]);
  });

  test('extreme numbers leave every statistic finite', async () => {
    const column = await profileColumn(['1e150', '-1e150', '5e-324', '0']);
    expect(column.type).toBe('number');
    expect(counts(column.histogram)?.reduce((sum, count) => sum + count)).toBe(4);
    expect((await profileColumn(['5e-324', '0'], 2)).histogram).toHaveLength(2);
    expect((await profileColumn(['1e151'])).type).toBe('text');
  });
});

describe('types', () => {
  test.each([
    ['integer', ['1', '-2', '+3', ' 4 ']],
    ['number', ['1', '2.5', '.5', '3e-2']],
    ['number', ['9007199254740993']],
    ['boolean', ['true', 'FALSE', 'yes', 'No']],
    ['date', ['2024-02-29', '0001-01-01']],
    ['datetime', ['2024-02-29', '2024-02-29T12:00:00+02:00', '2024-02-29 12:00']],
    ['empty', ['', '  ']],
    ['text', ['007']],
    ['text', ['1,5']],
    ['text', ['1 000']],
    ['text', ['2023-02-29']],
    ['text', ['2024-01-01T24:00']],
    ['text', ['2024-01-01T10:00+19:00']],
    ['text', ['1', '2024-01-01']],
    ['text', ['1', 'true']],
    ['text', ['NaN']],
    ['text', ['Infinity']],
  ])('%s for %j', async (type, cells) => {
    expect((await profileColumn(cells)).type).toBe(type);
  });

  test('one stray word makes a column text, and the kinds tell how many cells disagreed', async () => {
    const column = await profileColumn(['1', '2', '', 'n/a', '3.5']);
    expect(column).toMatchObject({ type: 'text', nulls: 1, min: null, mean: null, histogram: null });
    expect(column.kinds).toEqual({ integer: 2, number: 1, text: 1 });
    expect(column).toMatchObject({ min_length: 1, max_length: 3 });
  });

  test('instants are compared in UTC, whatever their offset; a time without one is UTC', async () => {
    const column = await profileColumn(
      ['2024-01-01T00:30:00.5+01:00', '2024-01-01 00:00', '2023-12-31T19:00:00-0500'],
      2,
    );
    expect(column).toMatchObject({ min: '2023-12-31T23:30:00.500Z', max: '2024-01-01T00:00:00.000Z', mean: null });
    expect(counts(column.histogram)).toEqual([1, 2]);
  });

  test('length is counted in code points', async () => {
    expect(await profileColumn(['😀😀', 'né', 'abc'])).toMatchObject({ min_length: 2, max_length: 3 });
  });
});

describe('rows', () => {
  test('ragged rows are counted, named by line and profiled as far as they go', async () => {
    const result = await profile({ csv: 'a,b\n1,2\n3\n"x\ny",5,6\n\n7,8\n' });
    expect(result).toMatchObject({ rows: 4, ragged_rows: 2, blank_lines: 1 });
    expect(result.warnings).toEqual([
      { line: 3, message: '1 field where 2 are expected' },
      { line: 4, message: '3 fields where 2 are expected' },
    ]);
    expect(result.columns[1]).toMatchObject({ nulls: 1, min: 2, max: 8 });
  });

  test('columns without a name are numbered', async () => {
    const named = await profile({ csv: 'a, ,\n1,2,3' });
    expect(named.columns.map(({ name }) => name)).toEqual(['a', 'column_2', 'column_3']);
    const bare = await profile({ csv: '1;2\n3;4', header: false });
    expect(bare).toMatchObject({
      delimiter: ';',
      rows: 2,
      columns: [{ name: 'column_1', min: 1, max: 3 }, { max: 4 }],
    });
  });

  test('only a header is a profile of empty columns', async () => {
    const result = await profile({ csv: '\ufeffa,b\r\n' });
    expect(result).toMatchObject({
      rows: 0,
      bytes: 8,
      columns: [{ name: 'a', type: 'empty', distinct: 0 }, { name: 'b' }],
    });
  });

  test('distinct values are exact up to the limit and flagged beyond', async () => {
    const numbers = Array.from({ length: 10_000 }, (_, index) => index);
    expect(await profileColumn(numbers)).toMatchObject({ distinct: 10_000, distinct_capped: false });
    expect(await profileColumn([...numbers, -1, -1])).toMatchObject({
      distinct: 10_000,
      distinct_capped: true,
      min: -1,
    });
  });

  test('the data set that ships with the examples agrees with Python’s csv and statistics modules', async () => {
    const file = new URL('../../../examples/data/utc-offset-transitions.csv', import.meta.url);
    const result = await profile({ csv: await readFile(file, 'utf8') });
    expect(result).toMatchObject({ delimiter: ',', rows: 2353, ragged_rows: 0, warnings: [] });
    const column = (name: string) => result.columns.find((found) => found.name === name);
    expect(column('zone')).toMatchObject({ type: 'text', distinct: 32, min_length: 10, max_length: 30 });
    expect(column('at_utc')).toMatchObject({ type: 'datetime', distinct: 1713, min: '1970-03-29T03:00:00.000Z' });
    expect(column('local_date')).toMatchObject({ type: 'date', distinct: 922, max: '2037-11-01' });
    expect(column('forward')?.top).toEqual([
      { value: 'true', count: 1182 },
      { value: 'false', count: 1171 },
    ]);
    expect(column('hours_to_next')).toMatchObject({ type: 'number', nulls: 32, distinct: 187, min: 503 });
    expect(column('hours_to_next')?.mean).toBeCloseTo(4815.571664512423, 9);
    expect(column('hours_to_next')?.stddev).toBeCloseTo(6432.944452897321, 8);
    expect(column('change_min')?.stddev).toBeCloseTo(74.42652185767439, 10);
    expect(column('clock')?.top[0]).toEqual({ value: 'forward, from 02:00:00 to 03:00:00', count: 453 });
  });
});
