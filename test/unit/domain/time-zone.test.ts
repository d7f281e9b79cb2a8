import { describe, expect, test } from 'vitest';
import { findTimeZone, ZoneClock } from '#domain/time-zone.ts';

test.each([
  ['UTC', 'UTC'],
  ['utc', 'UTC'],
  ['GMT', 'GMT'],
  ['Europe/Berlin', 'Europe/Berlin'],
  ['europe/berlin', 'Europe/Berlin'],
  ['AMERICA/NEW_YORK', 'America/New_York'],
  ['America/Argentina/Buenos_Aires', 'America/Argentina/Buenos_Aires'],
  ['Asia/Kolkata', 'Asia/Kolkata'],
  ['US/Pacific', 'US/Pacific'],
  ['Etc/GMT+5', 'Etc/GMT+5'],
  ['CET', 'CET'],
  ['EST5EDT', 'EST5EDT'],
  ['Japan', 'Japan'],
])('%j is the time zone %s', (name, zone) => {
  const found = findTimeZone(name);
  expect(found.ok && found.value.toLowerCase()).toBe(zone.toLowerCase());
  if (name !== name.toUpperCase() && name !== name.toLowerCase()) expect(found.ok && found.value).toBe(zone);
});

test.each([
  '',
  ' ',
  'Berlin',
  'local',
  'Europe/',
  '/Berlin',
  'Europe/Berlin ',
  ' Europe/Berlin',
  'Europe/Berlin\0',
  '+01:00',
  '-0500',
  'UTC+1',
  'GMT+1:00',
  'Factory',
  'Etc/Unknown',
  'constructor',
  '../../etc/passwd',
  'x'.repeat(100_000),
  // The platform takes these for America/Los_Angeles, Asia/Dhaka and Asia/Calcutta.
  'PST',
  'BST',
  'ist',
])('%j is no time zone', (name) => {
  const found = findTimeZone(name);
  expect(found).toMatchObject({ ok: false, code: 'invalid_schedule', faults: [{ path: '/time_zone' }] });
  expect(!found.ok && found.detail.length).toBeLessThan(400);
});

test.each([
  ['Europe/Berln', 'Europe/Berlin'],
  ['Berlin', 'Europe/Berlin'],
  ['New York', 'America/New_York'],
  ['Europe/New York', 'America/New_York'],
  ['Los_Angeles', 'America/Los_Angeles'],
  ['Amerika/Chicago', 'America/Chicago'],
])('who writes %j is told of %s', (name, zone) => {
  const found = findTimeZone(name);
  expect(!found.ok && found.detail).toContain(zone);
});

test('who is nowhere near is told what a name looks like', () => {
  const found = findTimeZone('ü'.repeat(50));
  expect(!found.ok && found.detail).toMatch(/write UTC or a name such as Europe\/Berlin/);
});

describe('the clocks of a zone', () => {
  test.each([
    ['UTC', '2026-01-31T12:00:00.000Z', '2026-01-31T12:00:00.000Z'],
    ['Europe/Berlin', '2026-07-01T22:30:15.250Z', '2026-07-02T00:30:15.250Z'],
    ['America/New_York', '2026-01-01T04:59:59.999Z', '2025-12-31T23:59:59.999Z'],
    ['Australia/Lord_Howe', '2026-07-01T00:00:00.000Z', '2026-07-01T10:30:00.000Z'],
    ['Pacific/Kiritimati', '2026-01-01T10:00:00.000Z', '2026-01-02T00:00:00.000Z'],
    ['Asia/Kathmandu', '2026-01-01T00:00:00.000Z', '2026-01-01T05:45:00.000Z'],
    ['Europe/Berlin', '1969-12-31T23:59:59.999Z', '1970-01-01T00:59:59.999Z'],
  ])('in %s at %s show %s', (zone, instant, wall) => {
    const clock = new ZoneClock(zone);
    expect(new Date(clock.wallAt(Date.parse(instant))).toISOString()).toBe(wall);
    expect(new Date(clock.firstInstantOf(Date.parse(wall))).toISOString()).toBe(instant);
  });

  test.each([
    ['skip 02:30', 'Europe/Berlin', '2026-03-29T02:30:00Z', '2026-03-29T01:00:00.000Z'],
    ['skip 02:00', 'Europe/Berlin', '2026-03-29T02:00:00Z', '2026-03-29T01:00:00.000Z'],
    ['skip 02:59:59', 'Europe/Berlin', '2026-03-29T02:59:59Z', '2026-03-29T01:00:00.000Z'],
    ['do not skip 03:00', 'Europe/Berlin', '2026-03-29T03:00:00Z', '2026-03-29T01:00:00.000Z'],
    ['show 02:00 first', 'Europe/Berlin', '2026-10-25T02:00:00Z', '2026-10-25T00:00:00.000Z'],
    ['show 02:59:59 first', 'Europe/Berlin', '2026-10-25T02:59:59Z', '2026-10-25T00:59:59.000Z'],
    ['show 03:00 once', 'Europe/Berlin', '2026-10-25T03:00:00Z', '2026-10-25T02:00:00.000Z'],
    ['skip half an hour', 'Australia/Lord_Howe', '2026-10-04T02:10:00Z', '2026-10-03T15:30:00.000Z'],
    ['show half an hour twice', 'Australia/Lord_Howe', '2026-04-05T01:40:00Z', '2026-04-04T14:40:00.000Z'],
    ['skip a day', 'Pacific/Apia', '2011-12-30T17:00:00Z', '2011-12-30T10:00:00.000Z'],
  ])('%s: %s', (_, zone, wall, instant) => {
    expect(new Date(new ZoneClock(zone).firstInstantOf(Date.parse(wall))).toISOString()).toBe(instant);
  });
});
