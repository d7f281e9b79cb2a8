import { expect, test } from 'vitest';
import { correctedTime } from '../../../src/jobs/schedule/correct-schedules.ts';

const NOW = new Date('2026-03-10T10:00:30Z');

test.each<[cron: string, next: string, to: string | null]>([
  // The expression, its next time, and what is made of it.
  ['* * * * *', '10:01', null],
  // Another process, whose clock is a little ahead, has fired 10:01 just now.
  ['* * * * *', '10:02', null],
  ['* * * * *', '10:03', '10:01'],
  ['* * * * *', '11:01', '10:01'],
  ['0 * * * *', '11:00', null],
  ['0 * * * *', '12:00', '11:00'],
  ['30 10 * * *', '10:30', null],
])('%s that waits for %s: %s', (cron, next, to) => {
  const at = (time: string) => new Date(`2026-03-10T${time}:00Z`);
  expect(correctedTime({ cron, timeZone: 'UTC', nextFireAt: at(next) }, NOW)).toEqual(to === null ? undefined : at(to));
});

test('a daily schedule that fired by a clock that was two hours ahead comes today', () => {
  const nextFireAt = new Date('2026-03-11T11:00:00Z');
  const to = correctedTime({ cron: '0 12 * * *', timeZone: 'Europe/Berlin', nextFireAt }, NOW);
  expect(to).toEqual(new Date('2026-03-10T11:00:00Z'));
});

test('a time that has come already, and an expression that nobody understands any more, are left alone', () => {
  const past = new Date('2026-03-10T09:00:00Z');
  expect(correctedTime({ cron: '* * * * *', timeZone: 'UTC', nextFireAt: past }, NOW)).toBeUndefined();
  const far = new Date('2026-04-10T09:00:00Z');
  expect(correctedTime({ cron: '* * * * *', timeZone: 'Mars/Base', nextFireAt: far }, NOW)).toBeUndefined();
});
