import { beforeEach, expect, test } from 'vitest';
import { ScheduleCorrection } from '../../../src/jobs/schedule/correct-schedules.ts';
import { useDatabase } from '../../support/database.ts';
import { accepted, makeAccount } from '../../support/fixtures.ts';
import { memoryLog } from '../../support/log.ts';
import { makeKeeper, makeSchedule, makeSchedules } from '../../support/schedules.ts';

const database = useDatabase();
const NOW = new Date('2026-03-10T10:00:30Z');
const AHEAD = new Date('2026-03-10T11:00:30Z');
const at = (time: string) => new Date(`2026-03-10T${time}:00Z`);

beforeEach(async () => {
  await database.sql`DELETE FROM ringback.job_schedules`;
});

const nextTimes = async () => {
  const rows = await database.sql<{ name: string; at: Date | null }[]>`
    SELECT name, next_fire_at AS at FROM ringback.job_schedules ORDER BY name`;
  return Object.fromEntries(rows.map(({ name, at: next }) => [name, next]));
};

test('what fired, or was made, by a clock that was an hour ahead comes back; what is right, due or paused stays', async () => {
  const { accountId } = await makeAccount(database.db);
  await makeSchedule(database, accountId, at('10:00'), { name: 'fired', cron: '* * * * *' });
  await makeKeeper(database).fire(AHEAD);
  await makeSchedule(database, accountId, AHEAD, { name: 'made', cron: '*/5 * * * *' });
  await makeSchedule(database, accountId, NOW, { name: 'right', cron: '30 * * * *' });
  await makeSchedule(database, accountId, at('09:00'), { name: 'due', cron: '30 9 * * *' });
  await makeSchedule(database, accountId, AHEAD, { name: 'paused', cron: '* * * * *', paused: true });
  expect(await nextTimes()).toMatchObject({ fired: at('11:01'), made: at('11:05') });
  const { log, lines } = memoryLog();
  const clock = { now: () => NOW, random: () => 0.5, steps: 0 };
  const start = () => new ScheduleCorrection({ db: database.db, clock, log }).run();
  await start();
  const corrected = { due: at('09:30'), fired: at('10:01'), made: at('10:05'), paused: null, right: at('10:30') };
  expect(await nextTimes()).toEqual(corrected);
  expect(lines.map(({ msg }) => msg)).toEqual(Array.from({ length: 2 }, () => 'schedule was ahead of its time'));
  await start();
  expect(await nextTimes()).toEqual(corrected);
});

test('it looks when it begins and when the clock has moved, not each time', async () => {
  const { accountId } = await makeAccount(database.db);
  const { log } = memoryLog();
  const clock = { now: () => NOW, random: () => 0.5, steps: 0 };
  const looking = new ScheduleCorrection({ db: database.db, clock, log });
  await looking.run();
  await makeSchedule(database, accountId, AHEAD, { name: 'made', cron: '* * * * *' });
  await looking.run();
  expect(await nextTimes()).toEqual({ made: at('11:01') });
  clock.steps = 1;
  await looking.run();
  expect(await nextTimes()).toEqual({ made: at('10:01') });
});

test('a schedule that is resumed after it fired by a clock that was ahead goes on with the next time', async () => {
  const { accountId } = await makeAccount(database.db);
  const { id } = await makeSchedule(database, accountId, at('10:00'), { cron: '* * * * *' });
  await makeKeeper(database).fire(AHEAD);
  const schedules = makeSchedules(database);
  accepted(await schedules.pause(accountId, id, NOW));
  expect(accepted(await schedules.resume(accountId, id, NOW)).schedule.nextFireAt).toEqual(at('10:01'));
});
