import { beforeEach, describe, expect, test } from 'vitest';
import { z } from 'zod';
import { MOST_CAUGHT_UP } from '#domain/schedule.ts';
import { endRuns } from '#store/end-runs.ts';
import { findSchedule, type ScheduleRecord } from '#store/schedules.ts';
import { defineJob } from '../../../src/jobs/type/define.ts';
import { useDatabase } from '../../support/database.ts';
import { accepted, makeAccount, makeEndpoint, runEnd } from '../../support/fixtures.ts';
import { claimRuns } from '#store/claim-runs.ts';
import { runClaim } from '../../support/fixtures.ts';
import { jobsOf, makeKeeper, makeSchedule, makeSchedules, numbered, timesOf } from '../../support/schedules.ts';

const database = useDatabase();

/** 11:30, so that the first time of every hour is noon. */
const MADE = new Date('2026-01-31T11:30:00.000Z');
const NOON = new Date('2026-01-31T12:00:00.000Z');
const SECOND = 1000;
const HOUR = 3_600_000;
const later = (from: Date, ms: number) => new Date(from.getTime() + ms);

beforeEach(async () => {
  await database.sql`DELETE FROM ringback.job_schedules`;
  await database.sql`DELETE FROM ringback.run_queue`;
});

async function read({ accountId, id }: ScheduleRecord): Promise<ScheduleRecord> {
  const found = await findSchedule(database.db, accountId, { id });
  if (found === undefined) throw new Error(`${id} is gone`);
  return found;
}

/** Runs whatever waits, with success. */
async function endAll(): Promise<void> {
  const { jobs } = await claimRuns(database.db, runClaim({ pool: 'shared', limit: 1000 }));
  await endRuns(
    database.sql,
    jobs.map((job) => runEnd(job)),
  );
}

describe('a schedule whose time has come', () => {
  test('submits its job, and moves on to its next time', async () => {
    const { accountId } = await makeAccount(database.db);
    const endpoint = await makeEndpoint(database.db, accountId);
    const schedule = await makeSchedule(database, accountId, MADE, {
      job: {
        type: 'test.numbered',
        input: { n: 4711 },
        metadata: { a: 'b' },
        callback: { endpoint_id: endpoint.id, events: ['job.failed'] },
        priority: 5,
        timeout_ms: 1234,
        retry: { maxRuns: 7 },
      },
    });
    const keeper = makeKeeper(database);
    const now = later(NOON, 400);
    await keeper.fire(now);

    const [job, ...others] = await database.sql`SELECT * FROM ringback.jobs WHERE schedule_id = ${schedule.id}`;
    expect(others).toEqual([]);
    expect(job).toMatchObject({
      account_id: accountId,
      type: 'test.numbered',
      status: 'queued',
      input: { n: 4711 },
      metadata: { a: 'b' },
      callback_endpoint_id: endpoint.id,
      callback_url: endpoint.url,
      callback_events: ['job.failed'],
      priority: 5,
      timeout_ms: 1234,
      retry: { maxRuns: 7 },
      run_at: null,
      scheduled_for: NOON,
      created_at: now,
    });
    const queue = await database.sql`SELECT * FROM ringback.run_queue WHERE job_id = ${job!['id']}`;
    expect(queue).toMatchObject([{ pool: 'shared', state: 'ready', priority: 5, timeout_ms: 1234 }]);
    const events = await database.sql`SELECT type FROM ringback.events WHERE job_id = ${job!['id']}`;
    expect(events).toMatchObject([{ type: 'job.queued' }]);
    expect(await read(schedule)).toEqual({
      ...schedule,
      nextFireAt: later(NOON, HOUR),
      lastFireAt: now,
      lastJobId: job!['id'],
    });
    expect(keeper.woken).toEqual(['shared']);
    expect(keeper.lines).toMatchObject([
      { msg: 'schedule', schedule_id: schedule.id, jobs: 1, job_id: job!['id'], late_ms: 400 },
    ]);
  });

  test('fires at its time and not a millisecond before, and once', async () => {
    const { accountId } = await makeAccount(database.db);
    const schedule = await makeSchedule(database, accountId, MADE);
    const { fire } = makeKeeper(database);
    await fire(later(NOON, -1));
    expect(await timesOf(database, schedule)).toEqual([]);
    await fire(NOON);
    await fire(NOON);
    await fire(later(NOON, HOUR - 1));
    expect(await timesOf(database, schedule)).toEqual(['2026-01-31T12:00']);
    await fire(later(NOON, HOUR));
    expect(await timesOf(database, schedule)).toEqual(['2026-01-31T12:00', '2026-01-31T13:00']);
  });

  test('follows its time zone through a change of the clocks', async () => {
    const { accountId } = await makeAccount(database.db);
    const schedule = await makeSchedule(database, accountId, new Date('2026-03-27T12:00Z'), {
      cron: '30 2 * * *',
      time_zone: 'Europe/Berlin',
    });
    const { fire } = makeKeeper(database);
    // A keeper that looks every ten minutes, for four days.
    for (let at = Date.parse('2026-03-27T12:00Z'); at < Date.parse('2026-03-31T12:00Z'); at += 600_000)
      await fire(new Date(at));
    expect(await timesOf(database, schedule)).toEqual([
      '2026-03-28T01:30',
      '2026-03-29T01:00', // 02:30 is skipped: as soon as it is 03:00
      '2026-03-30T00:30',
      '2026-03-31T00:30',
    ]);
  });

  test('comes to no harm by one that is paused, nor by one of another account', async () => {
    const [one, other] = [await makeAccount(database.db), await makeAccount(database.db)];
    const paused = await makeSchedule(database, one.accountId, MADE, { name: 'paused', paused: true });
    const its = await makeSchedule(database, one.accountId, MADE);
    const others = await makeSchedule(database, other.accountId, MADE);
    await makeKeeper(database).fire(NOON);
    expect(await timesOf(database, paused)).toEqual([]);
    expect((await jobsOf(database, its)).length).toBe(1);
    const [job] = await database.sql`SELECT account_id FROM ringback.jobs WHERE schedule_id = ${others.id}`;
    expect(job).toEqual({ account_id: other.accountId });
  });

  test('is one of hundreds that are due at once: each fires', async () => {
    const { accountId } = await makeAccount(database.db);
    const schedules = makeSchedules(database);
    await Promise.all(
      Array.from({ length: 205 }, async (_, n) => {
        const job = { type: 'test.numbered', input: { n } };
        accepted(await schedules.create(accountId, { name: `number ${n}`, cron: '@hourly', job }, MADE));
      }),
    );
    await makeKeeper(database).fire(NOON);
    const jobs = await database.sql<{ n: number }[]>`
      SELECT (input ->> 'n')::int AS n FROM ringback.jobs WHERE account_id = ${accountId} ORDER BY n`;
    expect(jobs.map(({ n }) => n)).toEqual(Array.from({ length: 205 }, (_, n) => n));
  });
});

describe('after a downtime of five hours and a half', () => {
  const now = later(NOON, 5.5 * HOUR);
  const hours = ['12', '13', '14', '15', '16', '17'].map((hour) => `2026-01-31T${hour}:00`);

  test.each([
    ['skip', [], { left_out_from: NOON.toISOString(), left_out_until: '2026-01-31T17:00:00.000Z' }],
    ['fire_once', ['2026-01-31T17:00'], {}],
    ['catch_up', hours, {}],
  ] as const)('%s', async (misfire, times, said) => {
    const { accountId } = await makeAccount(database.db);
    const schedule = await makeSchedule(database, accountId, MADE, { misfire });
    const { fire, lines } = makeKeeper(database);
    await fire(now);
    expect(await timesOf(database, schedule)).toEqual(times);
    expect(await read(schedule)).toMatchObject({ nextFireAt: new Date('2026-01-31T18:00:00Z'), lastError: null });
    expect(lines).toMatchObject([{ msg: 'schedule', jobs: times.length, ...said }]);
    // The time that comes next is on time, whatever was missed before.
    await fire(new Date('2026-01-31T18:00:01Z'));
    expect(await timesOf(database, schedule)).toEqual([...times, '2026-01-31T18:00']);
  });

  test('of a schedule of every minute, with large inputs, catch_up makes up for a hundred and says what it leaves out', async () => {
    const { accountId } = await makeAccount(database.db);
    const large = defineJob({ type: 'test.large', input: z.string(), run: () => null });
    const job = { type: 'test.large', input: 'x'.repeat(100_000) };
    const request = { name: 'minutes', cron: '* * * * *', misfire: 'catch_up' as const, job };
    const schedules = makeSchedules(database, [large]);
    const { schedule } = accepted(await schedules.create(accountId, request, MADE));
    const { fire, lines } = makeKeeper(database, [large]);
    await fire(later(NOON, 5 * HOUR + 30 * SECOND));
    const times = await timesOf(database, schedule);
    expect(times).toHaveLength(MOST_CAUGHT_UP + 1);
    expect([times[0], times[99], times[100]]).toEqual(['2026-01-31T11:31', '2026-01-31T13:10', '2026-01-31T17:00']);
    expect(lines).toMatchObject([
      { level: 40, left_out_from: '2026-01-31T13:11:00.000Z', left_out_until: '2026-01-31T16:59:00.000Z' },
    ]);
    expect(await read(schedule)).toMatchObject({ nextFireAt: new Date('2026-01-31T17:01:00Z') });
  });
});

describe('while a job of the schedule has not ended', () => {
  test('`skip` leaves its times out and counts them, and goes on once it has ended', async () => {
    const { accountId } = await makeAccount(database.db);
    const schedule = await makeSchedule(database, accountId, MADE, { overlap: 'skip' });
    const { fire, lines } = makeKeeper(database);
    await fire(NOON);
    await fire(later(NOON, HOUR));
    await fire(later(NOON, 2 * HOUR));
    expect(await timesOf(database, schedule)).toEqual(['2026-01-31T12:00']);
    expect(await read(schedule)).toMatchObject({
      overlapSkips: 2,
      nextFireAt: later(NOON, 3 * HOUR),
      lastFireAt: NOON,
    });
    expect(lines.slice(1)).toMatchObject([
      { jobs: 0, overlap_skips: 1 },
      { jobs: 0, overlap_skips: 1 },
    ]);
    await endAll();
    await fire(later(NOON, 3 * HOUR));
    expect(await timesOf(database, schedule)).toEqual(['2026-01-31T12:00', '2026-01-31T15:00']);
  });

  test('`skip` minds one that runs as well as one that waits, and one that was triggered', async () => {
    const { accountId } = await makeAccount(database.db);
    const schedule = await makeSchedule(database, accountId, MADE, { overlap: 'skip' });
    const { fire } = makeKeeper(database);
    accepted(await makeSchedules(database).trigger(accountId, schedule.id, MADE));
    await fire(NOON);
    const { jobs } = await claimRuns(database.db, runClaim({ pool: 'shared' }));
    await fire(later(NOON, HOUR));
    expect(await timesOf(database, schedule)).toEqual(['by hand']);
    await endRuns(database.sql, [runEnd(jobs[0]!)]);
    await fire(later(NOON, 2 * HOUR));
    expect(await timesOf(database, schedule)).toEqual(['2026-01-31T14:00', 'by hand']);
  });

  test('`skip` makes up for one time at most: the others would overlap', async () => {
    const { accountId } = await makeAccount(database.db);
    const schedule = await makeSchedule(database, accountId, MADE, { overlap: 'skip', misfire: 'catch_up' });
    await makeKeeper(database).fire(later(NOON, 5.5 * HOUR));
    expect(await timesOf(database, schedule)).toEqual(['2026-01-31T12:00']);
    expect(await read(schedule)).toMatchObject({ overlapSkips: 5, nextFireAt: later(NOON, 6 * HOUR) });
  });

  test('`allow` fires all the same, and so does another schedule', async () => {
    const { accountId } = await makeAccount(database.db);
    const one = await makeSchedule(database, accountId, MADE, { overlap: 'allow' });
    const other = await makeSchedule(database, accountId, later(NOON, SECOND), { name: 'other', overlap: 'skip' });
    const { fire } = makeKeeper(database);
    await fire(NOON);
    await fire(later(NOON, HOUR));
    expect(await timesOf(database, one)).toEqual(['2026-01-31T12:00', '2026-01-31T13:00']);
    expect(await timesOf(database, other)).toEqual(['2026-01-31T13:00']);
  });
});

describe('of many keepers', () => {
  test('one fires each time, round after round', async () => {
    const { accountId } = await makeAccount(database.db);
    const schedules = makeSchedules(database);
    const request = { cron: '* * * * *', job: { type: 'test.numbered', input: null } };
    const made = await Promise.all(
      Array.from({ length: 45 }, async (_, n) =>
        accepted(await schedules.create(accountId, { ...request, name: `number ${n}` }, NOON)),
      ),
    );
    const keepers = [1, 2, 3, 4].map(() => makeKeeper({ db: database.open() }));
    for (let round = 1; round <= 25; round++) {
      // Their clocks differ a little.
      await Promise.all(keepers.map(({ fire }, index) => fire(later(NOON, round * 60 * SECOND + index * 7))));
    }
    const expected = Array.from({ length: 25 }, (_, round) => later(NOON, (round + 1) * 60 * SECOND));
    for (const { schedule } of made) {
      expect((await jobsOf(database, schedule)).map(({ scheduledFor }) => scheduledFor)).toEqual(expected);
    }
    const fired = keepers.map(({ lines }) => lines.filter(({ msg }) => msg === 'schedule').length);
    expect(fired.reduce((sum, count) => sum + count, 0)).toBe(45 * 25);
    expect(fired.filter((count) => count > 0).length, `who fired: ${fired.join(' ')}`).toBeGreaterThan(1);
  });

  test('one that dies before it commits leaves the time to the next, and no half of a firing', async () => {
    const { accountId } = await makeAccount(database.db);
    const schedule = await makeSchedule(database, accountId, MADE);
    const { db } = database;
    const dying = database.open({ max: 1 });
    await database.sql.unsafe(`
      CREATE FUNCTION die() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); RETURN NEW; END $$;
      CREATE TRIGGER die BEFORE UPDATE ON ringback.job_schedules FOR EACH ROW EXECUTE FUNCTION die();`);
    try {
      // Its jobs are inserted, its schedule is about to be moved on: then its connection is gone.
      await expect(makeKeeper({ db: dying }).fire(NOON)).rejects.toThrow();
    } finally {
      await database.sql.unsafe('DROP TRIGGER die ON ringback.job_schedules; DROP FUNCTION die()');
    }
    expect(await timesOf(database, schedule)).toEqual([]);
    expect(await read(schedule)).toEqual(schedule);
    await makeKeeper({ db }).fire(later(NOON, SECOND));
    expect(await timesOf(database, schedule)).toEqual(['2026-01-31T12:00']);
  });
});

describe('a schedule that cannot make a job', () => {
  const stored = async (schedule: ScheduleRecord) => {
    const { lastError, nextFireAt, lastFireAt, lastJobId } = await read(schedule);
    return { lastError, nextFireAt, lastFireAt, lastJobId };
  };

  test('because its type takes the input no more is left to others while it is on time, and then says where', async () => {
    const { accountId } = await makeAccount(database.db);
    const schedule = await makeSchedule(database, accountId, MADE);
    const changed = { ...numbered, input: z.strictObject({ n: z.string() }) };
    const { fire } = makeKeeper(database, [changed]);
    await fire(NOON);
    await fire(later(NOON, SECOND));
    expect(await stored(schedule)).toMatchObject({ lastError: null, nextFireAt: NOON });
    await fire(later(NOON, 61 * SECOND));
    expect(await stored(schedule)).toMatchObject({
      lastError: { code: 'invalid_input', message: expect.stringMatching(/\/job\/input\/n .*string/) },
      nextFireAt: later(NOON, HOUR),
    });
    // During a roll-out the process with the other version fires it.
    await fire(later(NOON, HOUR));
    await makeKeeper(database).fire(later(NOON, HOUR + SECOND));
    expect(await timesOf(database, schedule)).toEqual(['2026-01-31T13:00']);
    expect(await stored(schedule)).toMatchObject({ lastError: null, nextFireAt: later(NOON, 2 * HOUR) });
  });

  test('because its type’s schema throws does not keep the others from their times', async () => {
    const { accountId } = await makeAccount(database.db);
    const throwing = defineJob({
      type: 'test.throwing',
      input: z.unknown().refine(() => {
        if (broken) throw new Error('the schema is broken');
        return true;
      }),
      run: () => null,
    });
    let broken = false;
    const jobs = [numbered, throwing];
    const schedules = makeSchedules(database, jobs);
    const request = { name: 'bad', cron: '@hourly', job: { type: 'test.throwing', input: 1 } };
    const bad = accepted(await schedules.create(accountId, request, MADE)).schedule;
    const good = await makeSchedule(database, accountId, MADE);
    broken = true;
    const { fire, lines } = makeKeeper(database, jobs);
    await fire(NOON);
    expect(await timesOf(database, good)).toEqual(['2026-01-31T12:00']);
    expect(await stored(bad)).toMatchObject({ lastError: { code: 'internal_error' }, nextFireAt: later(NOON, HOUR) });
    expect(JSON.stringify(lines)).toContain('the schema is broken');
  });

  test('because the database refuses it does not keep the others from their times', async () => {
    const { accountId } = await makeAccount(database.db);
    const bad = await makeSchedule(database, accountId, MADE, {
      name: 'bad',
      job: { type: 'test.numbered', input: { n: 666 } },
    });
    const good = await makeSchedule(database, accountId, MADE);
    await database.sql.unsafe(`ALTER TABLE ringback.jobs ADD CONSTRAINT no_666 CHECK (input::text NOT LIKE '%666%')`);
    const { fire, lines } = makeKeeper(database);
    try {
      await fire(NOON);
    } finally {
      await database.sql.unsafe('ALTER TABLE ringback.jobs DROP CONSTRAINT no_666');
    }
    expect(await timesOf(database, good)).toEqual(['2026-01-31T12:00']);
    expect(await timesOf(database, bad)).toEqual([]);
    expect(await stored(bad)).toMatchObject({ lastError: { code: 'internal_error' }, nextFireAt: later(NOON, HOUR) });
    expect(JSON.stringify(lines)).toContain('no_666');
    await fire(later(NOON, HOUR));
    expect(await timesOf(database, bad)).toEqual(['2026-01-31T13:00']);
  });
});
