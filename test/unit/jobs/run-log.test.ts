import { describe, expect, test } from 'vitest';
import { RunLog } from '#jobs/run/run-log.ts';
import type { LogLine } from '#store/job-logs.ts';

type Level = Parameters<RunLog['add']>[0];

/** A log of the second run, and what it wrote, batch by batch. */
function makeLog(write: (lines: readonly LogLine[]) => Promise<unknown> = async () => true) {
  const batches: Array<readonly LogLine[]> = [];
  const errors: unknown[] = [];
  const log = new RunLog(
    { runNumber: 2, clock: { now: () => new Date(), random: () => 0 } },
    (lines) => {
      batches.push(lines);
      return write(lines);
    },
    (error) => errors.push(error),
  );
  return { log, errors, batches, lines: () => batches.flat() };
}

test('every line is written by the end, in order, under positions that grow', async () => {
  const { log, lines } = makeLog();
  for (let n = 1; n <= 450; n++) log.add('info', `line ${n}`, { n });
  await log.end();
  expect(lines().map(({ message }) => message)).toEqual(Array.from({ length: 450 }, (_, n) => `line ${n + 1}`));
  expect(lines().map(({ position }) => position)).toEqual(Array.from({ length: 450 }, (_, n) => 2_000_001 + n));
});

test('a batch is written when the one before it is, however long that takes', async () => {
  const gate = Promise.withResolvers<void>();
  const { log, batches } = makeLog(() => gate.promise);
  for (let n = 0; n < 600; n++) log.add('info', n);
  const ended = log.end();
  await Promise.resolve();
  expect(batches).toHaveLength(1);
  gate.resolve();
  await ended;
  expect(batches.map((batch) => batch.length)).toEqual([200, 200, 200]);
});

test('a batch that cannot be written is told of, and the next one is written', async () => {
  let failures = 0;
  const { log, errors, batches } = makeLog(async () => {
    if (failures++ === 0) throw new Error('no');
  });
  for (let n = 0; n < 201; n++) log.add('info', n);
  await log.end();
  expect(batches).toHaveLength(2);
  expect(errors).toEqual([new Error('no')]);
});

test('nothing is said when nothing was', async () => {
  const { log, batches } = makeLog();
  await log.end();
  expect(batches).toEqual([]);
});

test('what comes after the end is not kept', async () => {
  const { log, lines } = makeLog();
  log.add('info', 'before');
  await log.end();
  log.add('info', 'after');
  await log.end();
  expect(lines().map(({ message }) => message)).toEqual(['before']);
});

describe('a run that says too much', () => {
  test('keeps 10,000 lines, and says how many it did not', async () => {
    const { log, lines } = makeLog();
    for (let n = 0; n < 10_123; n++) log.add('debug', n);
    await log.end();
    expect(lines()).toHaveLength(10_001);
    expect(lines().at(-1)).toMatchObject({
      level: 'warn',
      message: '123 more lines were not kept: a run may have 10000 lines.',
      position: 2_010_001,
    });
  });

  test('keeps eight million characters', async () => {
    const { log, lines } = makeLog();
    for (let n = 0; n < 1000; n++) log.add('debug', 'x'.repeat(4000), { text: 'y'.repeat(16_000) });
    await log.end();
    const last = lines().at(-1);
    expect(last?.message).toMatch(/^\d+ more lines were not kept: a run may have 8000000 characters\.$/);
    const characters = lines().reduce(
      (sum, { message, fieldsText }) => sum + message.length + (fieldsText?.length ?? 4),
      0,
    );
    expect(characters).toBeGreaterThan(7_900_000);
    expect(characters).toBeLessThan(8_100_000);
  });
});

const throws = () => {
  throw new Error('do not look at me');
};
const revoked = Proxy.revocable({}, {});
revoked.revoke();
const cyclic: { self?: unknown } = {};
cyclic.self = cyclic;
const nested = (depth: number): unknown => JSON.parse(`${'['.repeat(depth)}${']'.repeat(depth)}`);

describe('a hostile message', () => {
  test.each<[string, unknown, string | RegExp]>([
    ['a megabyte', 'x'.repeat(1_000_000), /^x{4000}$/],
    ['U+0000', 'a\0b', 'a\ufffdb'],
    ['half a surrogate pair', 'a\ud800b', 'a\ufffdb'],
    ['a pair that is cut in two', `${'x'.repeat(3999)}😀`, /^x{3999}\ufffd$/],
    ['a symbol', Symbol('s'), 'Symbol(s)'],
    ['a BigInt', 1n, '1'],
    ['nothing', undefined, 'undefined'],
    ['an object that cannot be a string', { toString: throws }, ''],
    ['an object without a prototype', Object.create(null), ''],
    ['a revoked proxy', revoked.proxy, ''],
  ])('%s is kept as what can be kept of it', async (_, message, kept) => {
    const { log, lines } = makeLog();
    log.add('info', message);
    await log.end();
    expect(lines().map((line) => line.message)).toEqual([
      typeof kept === 'string' ? kept : (expect.stringMatching(kept) as string),
    ]);
  });

  test('a level that there is not is info', async () => {
    const { log, lines } = makeLog();
    for (const level of ['fatal', '', undefined, 7, Symbol.iterator]) log.add(level as Level, 'x');
    await log.end();
    expect(lines().map(({ level }) => level)).toEqual(Array(5).fill('info'));
  });
});

describe('hostile fields', () => {
  const unkept = { ringback: expect.any(String) as string };
  test.each<[string, unknown, unknown]>([
    ['none', undefined, null],
    ['null', null, null],
    ['U+0000 and half a surrogate pair', { a: 'x\0', '\ud800': 1 }, { a: 'x\ufffd', '\ufffd': 1 }],
    ['what JSON leaves out', { a: undefined, b: throws, c: Number.NaN }, { c: null }],
    ['a list', [1], unkept],
    ['a string', 'text', unkept],
    ['a function', throws, unkept],
    ['a symbol', Symbol('s'), unkept],
    ['a BigInt', { n: 1n }, unkept],
    ['a cycle', cyclic, unkept],
    ['a getter that throws', Object.defineProperty({}, 'a', { enumerable: true, get: throws }), unkept],
    ['a toJSON that throws', { toJSON: throws }, unkept],
    ['a toJSON that says no object', { toJSON: () => 5 }, unkept],
    ['a toJSON that says nothing', { toJSON: () => undefined }, unkept],
    ['a revoked proxy', revoked.proxy, unkept],
    ['too much', { text: 'x'.repeat(20_000) }, unkept],
    ['too deep', { a: nested(101) }, unkept],
    ['far too deep', { a: nested(7_000) }, unkept],
    ['deep', { a: nested(90), text: '[[['.repeat(100) }, { a: nested(90), text: '[[['.repeat(100) }],
  ])('%s', async (_, fields, kept) => {
    const { log, lines } = makeLog();
    log.add('info', 'x', fields);
    await log.end();
    const [line] = lines();
    expect(JSON.parse(line!.fieldsText ?? 'null')).toEqual(kept);
  });

  test('that log when they are looked at leave a line of their own, in a place of its own', async () => {
    const { log, lines } = makeLog();
    log.add('info', 'outer', {
      get a() {
        log.add('info', 'inner');
        return 1;
      },
    });
    await log.end();
    expect(lines().map(({ message, position }) => [message, position])).toEqual([
      ['inner', 2_000_001],
      ['outer', 2_000_002],
    ]);
  });

  test('that log without end do not end the handler', async () => {
    const { log, lines } = makeLog();
    const endless = {
      get a() {
        log.add('info', 'again', endless);
        return 1;
      },
    };
    log.add('info', 'first', endless);
    await log.end();
    expect(lines().length).toBeGreaterThan(1);
  });
});
