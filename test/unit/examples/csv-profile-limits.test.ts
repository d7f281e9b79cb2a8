import { NonRetryableError } from 'ringback';
import { describe, expect, test } from 'vitest';
import { profileSteps } from '../../../examples/csv-profile/profile.ts';
import { MAX_COLUMNS, profileInput } from '../../../examples/csv-profile/schema.ts';
import { profile, profileColumn } from './run-profile.ts';

describe('hostile input', () => {
  test.each([
    ['an open quote', 'a,b\n1,"2', 'line 2: a quoted field starts here and never ends'],
    ['10,000 columns', Array.from({ length: 10_000 }, () => 'x').join(','), `line 1: more than ${MAX_COLUMNS} fields`],
    ['nothing but blank lines', '\n\r\n\n', 'line 1: there are no records'],
    ['nothing but a byte order mark', '\ufeff', 'line 1: there are no records'],
  ])('%s fails the job for good', async (_, csv, message) => {
    const failure = profile({ csv });
    await expect(failure).rejects.toBeInstanceOf(NonRetryableError);
    await expect(failure).rejects.toThrow(message);
  });

  test.each([
    ['NUL', { csv: 'a\n\0' }, ['csv']],
    ['no text', { csv: '' }, ['csv']],
    ['one bin', { csv: 'a', histogram_bins: 1 }, ['histogram_bins']],
    ['an unknown delimiter', { csv: 'a', delimiter: ':' }, ['delimiter']],
  ])('%s is refused at submission', (_, input, path) => {
    expect(profileInput.safeParse(input).error?.issues).toMatchObject([{ path }]);
  });

  test('a huge value is shown clipped, and never as half a surrogate pair', async () => {
    const column = await profileColumn([`${'x'.repeat(58)}😀${'y'.repeat(1_000_000)}`]);
    expect(column.max_length).toBe(1_000_059);
    expect(column.top[0]?.value).toBe(`${'x'.repeat(58)}\ufffd…`);
  });

  test.each([
    ['dates in every bin', (row: number) => `"${'\v'.repeat(40)}20${row}-01-01T00:00:00.${row}7Z"`],
    ['text of escapes', (row: number) => `"${'\u0001'.repeat(80)}${row}"`],
  ])('the largest output, of %s, stays below 1 MiB', async (_, cell) => {
    const rows = Array.from({ length: 60 }, (__, row) =>
      Array<string>(MAX_COLUMNS)
        .fill(cell(row + 10))
        .join(','),
    );
    const header = Array<string>(MAX_COLUMNS).fill('\u0001'.repeat(80)).join(',');
    const result = await profile({ csv: [header, ...rows].join('\n'), histogram_bins: 50 });
    expect(result.columns).toHaveLength(MAX_COLUMNS);
    expect(Buffer.byteLength(JSON.stringify(result))).toBeLessThan(1024 * 1024);
  });
});

describe('a good neighbour', () => {
  const digits = `n\n${Array.from({ length: 4_000_000 }, (_, index) => index % 10).join('\n')}`;

  test('the work is cut into steps of some 32 Ki characters, and the share done only grows', () => {
    const shares = [...profileSteps(digits, { header: true, histogram_bins: 10 })];
    expect(shares.length).toBeGreaterThan(digits.length / 32_768);
    expect(shares).toEqual(shares.toSorted((one, other) => one - other));
    expect(shares.at(-1)).toBeLessThanOrEqual(1);
  });

  test('immediates and timers run while a large CSV is profiled', async () => {
    let immediates = 0;
    let timers = 0;
    let tick = setImmediate(function again() {
      immediates++;
      tick = setImmediate(again);
    });
    const timer = setInterval(() => timers++, 1);
    const result = await profile({ csv: digits });
    clearImmediate(tick);
    clearInterval(timer);
    expect(result.rows).toBe(4_000_000);
    expect(immediates).toBeGreaterThan(2);
    expect(timers).toBeGreaterThan(2);
  });

  test('an abort stops it before its next turn, with the reason given', async () => {
    const controller = new AbortController();
    const reason = new Error('lease lost');
    let reports = 0;
    const running = profile({ csv: digits }, controller.signal, () => {
      reports++;
      controller.abort(reason);
    });
    await expect(running).rejects.toBe(reason);
    expect(reports).toBe(1);
  });
});
