import { beforeEach, expect, test } from 'vitest';
import { ClockGuard } from '#keeper/clock-guard.ts';
import { useDatabase } from '../../support/database.ts';
import { errorsIn, memoryLog } from '../../support/log.ts';
import { REAL_CLOCK } from '../../support/workers.ts';

const database = useDatabase();
const HOUR = 3_600_000;

/** A keeper that has just started: it remembers no verdict. */
async function ask(clock = REAL_CLOCK) {
  const { log, lines } = memoryLog();
  const may = await new ClockGuard({ db: database.db, clock, log }).mayDestroy();
  return { may, errors: errorsIn(lines) };
}

/** The record of the clock as it would be: times in hours from now. */
async function record(confirmed: number, doubted: readonly [since: number, at: number] | null = null): Promise<void> {
  await database.sql`
    UPDATE ringback.database_clock SET
      confirmed_at = now() + ${confirmed} * interval '1 hour',
      doubted_since = now() + ${doubted?.[0] ?? null}::float8 * interval '1 hour',
      doubted_at = now() + ${doubted?.[1] ?? null}::float8 * interval '1 hour'`;
}

const recorded = async () =>
  (
    await database.sql<[{ confirmed: number; since: number | null }]>`
      SELECT round(extract(epoch FROM confirmed_at - now()) / 3600, 1)::float8 AS confirmed,
        round(extract(epoch FROM doubted_since - now()) / 3600, 1)::float8 AS since
      FROM ringback.database_clock`
  )[0];

beforeEach(() => record(0));

test('a clock that goes on from where it was is confirmed, each time anew', async () => {
  await record(-0.9);
  expect(await ask()).toEqual({ may: true, errors: [] });
  expect(await recorded()).toEqual({ confirmed: 0, since: null });
});

test.each([
  ['ahead by months', -60 * 24],
  ['ahead by an hour and a bit', -1.1],
  ['behind by a year', 365 * 24],
])('a clock that is %s is not confirmed, and the log says what to do', async (_, confirmed) => {
  await record(confirmed);
  const { may, errors } = await ask();
  expect(may).toBe(false);
  expect(errors).toHaveLength(1);
  expect(errors[0]!.msg).toMatch(/UPDATE ringback\.database_clock SET confirmed_at = now\(\)/);
  expect(Math.abs((errors[0]!['ahead_ms'] as number) + confirmed * HOUR)).toBeLessThan(60_000);
  expect(await recorded()).toEqual({ confirmed, since: 0 });
  expect((await ask()).may).toBe(false);
});

test('it is confirmed once it was seen to go on for as long as the time is that nobody saw', async () => {
  await record(-11, [-5.2, -0.1]); // 5.8 hours that nobody saw, 5.2 since
  expect((await ask()).may).toBe(false);
  await record(-11, [-5.6, -0.1]);
  expect(await ask()).toEqual({ may: true, errors: [] });
  expect(await recorded()).toEqual({ confirmed: 0, since: null });
});

test('it is confirmed after three days at most', async () => {
  await record(-10_000, [-71.9, -0.1]);
  expect((await ask()).may).toBe(false);
  await record(-10_000, [-72.1, -0.1]);
  expect((await ask()).may).toBe(true);
});

test('a gap, or another jump, begins the time anew', async () => {
  for (const doubtedAt of [-2, 2, 400]) {
    await record(-10_000, [-80, doubtedAt]);
    expect((await ask()).may).toBe(false);
    expect(await recorded()).toEqual({ confirmed: -10_000, since: 0 });
  }
});

test('a clock that comes back to where the record ends is confirmed at once', async () => {
  await record(-0.1, [960, 960.1]);
  expect(await ask()).toEqual({ may: true, errors: [] });
  expect(await recorded()).toEqual({ confirmed: 0, since: null });
});

test("an operator's word confirms it", async () => {
  await record(-1440);
  expect((await ask()).may).toBe(false);
  await database.sql`UPDATE ringback.database_clock SET confirmed_at = now()`;
  expect((await ask()).may).toBe(true);
});

test("a process whose time is not the clock's confirms nothing, and moves nothing", async () => {
  for (const hours of [-2, 2]) {
    await record(-0.5);
    const away = { now: () => new Date(Date.now() + hours * HOUR), random: Math.random };
    expect((await ask(away)).may).toBe(false);
    expect(await recorded()).toEqual({ confirmed: -0.5, since: null });
  }
});

test('keepers that ask at once do not refuse each other', async () => {
  const all = await Promise.all(Array.from({ length: 20 }, () => ask()));
  expect(all.map(({ may }) => may)).toEqual(Array.from({ length: 20 }, () => true));
});
