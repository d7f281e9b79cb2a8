import { expect, test } from 'vitest';
import { nearestNames } from '#domain/nearest.ts';

const KNOWN = ['csv.profile', 'takeaway.order', 'ringback.echo', 'ringback.sleep', 'ringback.fail'];

test.each([
  ['csv.profil', 'csv.profile'],
  ['csv_profile', 'csv.profile'],
  ['CSV.profile', 'csv.profile'],
  ['csv.porfile', 'csv.profile'],
  ['takeaway.orders', 'takeaway.order'],
  ['ringback.eco', 'ringback.echo'],
  ['ringback.slep', 'ringback.sleep'],
])('who wrote %s is offered %s first', (name, meant) => {
  expect(nearestNames(name, KNOWN)[0]).toBe(meant);
});

test.each(['', 'x', 'invoice', '🚚🚚🚚', 'x'.repeat(101), '__proto__'])('nothing is near %j', (name) => {
  expect(nearestNames(name, KNOWN)).toEqual([]);
});

test('the nearest come first, equally near ones by name', () => {
  expect(nearestNames('bb', ['bbbb', 'bb', 'cb', 'ab', 'zzzzzzzzz'], 9)).toEqual(['bb', 'ab', 'cb', 'bbbb']);
});

test('no more than asked for, three when nothing is said', () => {
  const known = ['aa', 'ab', 'ac', 'ad', 'ae'];
  expect(nearestNames('aa', known)).toHaveLength(3);
  expect(nearestNames('aa', known, 1)).toEqual(['aa']);
  expect(nearestNames('aa', known, 0)).toEqual([]);
});

test('where nothing is known nothing is near', () => {
  expect(nearestNames('csv.profile', [])).toEqual([]);
});

test('a name of a million characters costs no more than one of a hundred', () => {
  const started = performance.now();
  nearestNames('ringback.'.repeat(120_000), KNOWN);
  expect(performance.now() - started).toBeLessThan(500);
});
