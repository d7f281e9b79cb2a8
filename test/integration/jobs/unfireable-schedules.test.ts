import { beforeEach, describe, expect, test } from 'vitest';
import { z } from 'zod';
import { findSchedule, type ScheduleRecord } from '#store/schedules.ts';
import { defineJob } from '../../../src/jobs/type/define.ts';
import { useDatabase } from '../../support/database.ts';
import { accepted, makeAccount } from '../../support/fixtures.ts';
import { makeKeeper, makeSchedule, makeSchedules, timesOf } from '../../support/schedules.ts';

const database = useDatabase();

const MADE = new Date('2026-01-31T11:30:00.000Z');
const NOON = new Date('2026-01-31T12:00:00.000Z');
const SECOND = 1000;
const MINUTE = 60_000;
const HOUR = 3_600_000;
const later = (from: Date, ms: number) => new Date(from.getTime() + ms);
/** The keeper of another release: it knows this type alone. */
const other = defineJob({ type: 'test.numbers', input: z.unknown(), run: () => null });

beforeEach(async () => {
  await database.sql`DELETE FROM ringback.job_schedules`;
  await database.sql`DELETE FROM ringback.run_queue`;
});

async function read({ accountId, id }: ScheduleRecord): Promise<ScheduleRecord> {
  return (await findSchedule(database.db, accountId, { id }))!;
}

/** Each way in which a process may be unable to fire a schedule that another one can. */
const OBSTACLES = [
  { what: 'job type', code: 'unknown_job_type', says: /Did you mean test\.numbers\?/, jobs: [other] },
  {
    what: 'time zone',
    code: 'invalid_schedule',
    says: /"Europe\/Atlantis"/,
    column: 'time_zone',
    value: 'Europe/Atlantis',
  },
  { what: 'cron expression', code: 'invalid_schedule', says: /five fields/, column: 'cron', value: '0 * * * * 2027' },
] as const;

describe.each(OBSTACLES)('a schedule whose $what a process does not know', (obstacle) => {
  const keeperWithout = () => makeKeeper(database, 'jobs' in obstacle ? obstacle.jobs : undefined);
  /** Puts in place what is unknown, and back what is known. */
  async function set(schedule: ScheduleRecord, isKnown: boolean): Promise<void> {
    if (!('column' in obstacle)) return;
    const column = obstacle.column;
    const known = column === 'cron' ? schedule.cron : schedule.timeZone;
    await database.sql.unsafe(`UPDATE ringback.job_schedules SET ${column} = $1 WHERE id = $2`, [
      isKnown ? known : obstacle.value,
      schedule.id,
    ]);
  }

  test('stays due, and fires on time where it is known, though the other looks again and again', async () => {
    const { accountId } = await makeAccount(database.db);
    const schedule = await makeSchedule(database, accountId, MADE);
    await set(schedule, false);
    const without = keeperWithout();
    for (let n = 0; n < 30; n++) {
      await without.fire(later(NOON, n * SECOND));
      await without.tend(later(NOON, n * SECOND));
    }
    expect(await read(schedule)).toMatchObject({ nextFireAt: NOON, lastError: null, lastJobId: null });
    expect(without.lines, 'said once').toMatchObject([{ level: 40, error: obstacle.code }]);

    await set(schedule, true);
    await makeKeeper(database).fire(later(NOON, 30 * SECOND));
    expect(await timesOf(database, schedule)).toEqual(['2026-01-31T12:00']);
    expect(await read(schedule)).toMatchObject({ nextFireAt: later(NOON, HOUR), lastError: null });
  });

  test('says so on record and once in the log when nobody could fire it in time, and is made up for later', async () => {
    const { accountId } = await makeAccount(database.db);
    const schedule = await makeSchedule(database, accountId, MADE);
    await set(schedule, false);
    const [one, two] = [keeperWithout(), keeperWithout()];
    for (const keeper of [one, two, one, two]) {
      await keeper.fire(later(NOON, 2 * HOUR + 2 * MINUTE));
      await keeper.tend(later(NOON, 2 * HOUR + 2 * MINUTE));
    }
    expect(await read(schedule)).toMatchObject({
      nextFireAt: NOON,
      lastError: {
        code: obstacle.code,
        message: expect.stringMatching(obstacle.says),
        scheduled_for: NOON.toISOString(),
      },
    });
    const said = [...one.lines, ...two.lines].filter(({ msg }) => msg === 'schedule could not be fired by any process');
    expect(said).toMatchObject([{ level: 40, schedule_id: schedule.id, error: obstacle.code }]);

    await set(schedule, true);
    await makeKeeper(database).fire(later(NOON, 2 * HOUR + 3 * MINUTE));
    expect(await timesOf(database, schedule), 'one job for all that were missed').toEqual(['2026-01-31T14:00']);
    expect(await read(schedule)).toMatchObject({ nextFireAt: later(NOON, 3 * HOUR), lastError: null });
  });

  test('stands before no other, however many there are', async () => {
    const { accountId } = await makeAccount(database.db);
    for (let n = 0; n < 45; n++) {
      const early = await makeSchedule(database, accountId, later(MADE, -HOUR), { name: `early ${n}` });
      await set(early, false);
    }
    const known = await makeSchedules(database, [other]).create(
      accountId,
      { name: 'known', cron: '@hourly', job: { type: 'test.numbers' } },
      MADE,
    );
    const { fire } = makeKeeper(database, [other]);
    await fire(NOON);
    expect(await timesOf(database, accepted(known).schedule)).toEqual(['2026-01-31T12:00']);
  });

  test('can be paused, and is not resumed without a word', async () => {
    const { accountId } = await makeAccount(database.db);
    const schedule = await makeSchedule(database, accountId, MADE);
    await set(schedule, false);
    const schedules = makeSchedules(database, 'jobs' in obstacle ? obstacle.jobs : undefined);
    const now = later(NOON, MINUTE);
    if ('column' in obstacle)
      expect(await schedules.resume(accountId, schedule.id, now)).toMatchObject({ ok: false, code: obstacle.code });
    expect(accepted(await schedules.pause(accountId, schedule.id, now)).schedule).toMatchObject({ paused: true });
    expect(await schedules.resume(accountId, schedule.id, now)).toMatchObject({
      ok: false,
      code: obstacle.code,
      detail: expect.stringMatching(obstacle.says),
    });
    await set(schedule, true);
    const resumed = accepted(await makeSchedules(database).resume(accountId, schedule.id, now)).schedule;
    expect(resumed).toMatchObject({ paused: false, nextFireAt: later(NOON, HOUR) });
  });
});

test('a schedule that an earlier version ended goes on, by itself or when it is resumed', async () => {
  const { accountId } = await makeAccount(database.db);
  const [one, two, paused] = [
    await makeSchedule(database, accountId, MADE, { name: 'one' }),
    await makeSchedule(database, accountId, MADE, { name: 'two' }),
    await makeSchedule(database, accountId, MADE, { name: 'paused', paused: true }),
  ];
  await database.sql`UPDATE ringback.job_schedules SET next_fire_at = NULL`;
  const now = later(NOON, MINUTE);
  expect(accepted(await makeSchedules(database).resume(accountId, one.id, now)).schedule.nextFireAt).toEqual(
    later(NOON, HOUR),
  );
  await database.sql`UPDATE ringback.job_schedules SET time_zone = 'Europe/Atlantis' WHERE id = ${two.id}`;
  const { tend } = makeKeeper(database);
  await tend(now);
  expect(await read(two)).toMatchObject({ nextFireAt: null });
  await database.sql`UPDATE ringback.job_schedules SET time_zone = 'UTC' WHERE id = ${two.id}`;
  await tend(now);
  expect(await read(two)).toMatchObject({ nextFireAt: later(NOON, HOUR) });
  expect(await read(paused)).toMatchObject({ nextFireAt: null, paused: true });
});
