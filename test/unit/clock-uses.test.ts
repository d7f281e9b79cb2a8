import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';

const SRC = new URL('../../src', import.meta.url).pathname;

/** Reads the wall clock of this machine. A type, a comment or `new Date(given)` does not. */
const WALL_CLOCK = /\bDate\.now\b|\bnew Date(?:\(\)|(?![\w(]))|(?<!new )\bDate\(\)/;

/** Where that is right. */
const JUSTIFIED = new Set([
  'embedded/postgres.ts', // a name for a folder, before there is a database to ask
]);

test('the time comes from the database: nothing reads the clock of the machine', () => {
  const files = readdirSync(SRC, { recursive: true, encoding: 'utf8' }).filter((file) => file.endsWith('.ts'));
  expect(files.length).toBeGreaterThan(200);
  const reading = files.filter((file) => WALL_CLOCK.test(readFileSync(join(SRC, file), 'utf8')));
  expect(reading.filter((file) => !JUSTIFIED.has(file))).toEqual([]);
});

test.each([
  ['const now = Date.now();', true],
  ['const { now } = { now: Date.now };', true],
  ['return new Date();', true],
  ['at(new Date)', true],
  ['const text = Date();', true],
  ['new Date(ms)', false],
  ['readonly at: Date;', false],
])('%s', (code, isReading) => {
  expect(WALL_CLOCK.test(code)).toBe(isReading);
});
