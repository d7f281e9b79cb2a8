import { describe, expect, test } from 'vitest';
import { newId } from '#domain/ids.ts';
import { findSchedule } from '#store/schedules.ts';
import { Admission } from '../../../src/jobs/submit/admission.ts';
import { QueueDepth } from '../../../src/jobs/submit/queue-depth.ts';
import type { NewSchedule } from '../../../src/jobs/schedule/schedule-request.ts';
import { useDatabase } from '../../support/database.ts';
import { accepted, makeAccount, makeEndpoint } from '../../support/fixtures.ts';
import { jobsOf, makeKeeper, makeSchedule, makeSchedules, timesOf } from '../../support/schedules.ts';

const database = useDatabase();

const MADE = new Date('2026-01-31T11:30:00.000Z');
const NOON = new Date('2026-01-31T12:00:00.000Z');
const MINUTE = 60_000;
const HOUR = 60 * MINUTE;
const later = (from: Date, ms: number) => new Date(from.getTime() + ms);
const hourly: NewSchedule = { name: 'every hour', cron: '@hourly', job: { type: 'test.numbered', input: { n: 1 } } };
const schedules = () => makeSchedules(database);
const rowsOf = async (accountId: string) =>
  database.sql`SELECT name FROM ringback.job_schedules WHERE account_id = ${accountId} ORDER BY name`;

describe('a schedule is refused, and nothing is stored,', () => {
  test.each<[string, Partial<NewSchedule>, object]>([
    ['when its expression is wrong', { cron: '61 * * * *' }, { code: 'invalid_schedule', faults: [{ path: '/cron' }] }],
    ['when it never comes due', { cron: '0 0 30 2 *' }, { code: 'invalid_schedule', faults: [{ path: '/cron' }] }],
    [
      'when its time zone is unknown',
      { time_zone: 'Europe/Berln' },
      { code: 'invalid_schedule', faults: [{ path: '/time_zone' }] },
    ],
    ['when its job type is unknown', { job: { type: 'test.nothing' } }, { code: 'unknown_job_type' }],
    [
      'when its input does not fit',
      { job: { type: 'test.numbered', input: { n: 'x' } } },
      { code: 'invalid_input', faults: [{ path: '/job/input/n' }] },
    ],
    [
      'when its input cannot be stored',
      { job: { type: 'test.numbered', input: { n: 1, 'x\0': 1 } } },
      { code: 'invalid_input' },
    ],
    [
      'when its runs may not take that long',
      { job: { ...hourly.job, timeout_ms: 10_001 } },
      { code: 'invalid_body', faults: [{ path: '/job/timeout_ms' }] },
    ],
    [
      'when its callback may not be reached',
      { job: { ...hourly.job, callback: { url: 'https://10.0.0.1/' } } },
      { code: 'invalid_callback_url', faults: [{ path: '/job/callback/url' }] },
    ],
    [
      'when its endpoint is not there',
      { job: { ...hourly.job, callback: { endpoint_id: newId('ep', 1) } } },
      { code: 'endpoint_not_found' },
    ],
  ])('%s', async (_, request, refusal) => {
    const { accountId } = await makeAccount(database.db);
    expect(await schedules().create(accountId, { ...hourly, ...request }, MADE)).toMatchObject({
      ok: false,
      ...refusal,
    });
    expect(await rowsOf(accountId)).toEqual([]);
  });

  test('when its name is taken, with whose it is, and without an endpoint whose secret nobody saw', async () => {
    const { accountId } = await makeAccount(database.db);
    const first = await makeSchedule(database, accountId, MADE);
    const callback = { url: 'https://127.0.0.1/never-made' };
    const again = { ...hourly, cron: '@daily', job: { ...hourly.job, callback } };
    expect(await schedules().create(accountId, again, MADE)).toMatchObject({
      code: 'schedule_name_taken',
      extra: { schedule_id: first.id },
    });
    expect(await findSchedule(database.db, accountId, { id: first.id })).toEqual(first);
    expect(await database.sql`SELECT FROM ringback.endpoints WHERE account_id = ${accountId}`).toHaveLength(0);
  });
});

test('of many at once under one name one is made', async () => {
  const { accountId } = await makeAccount(database.db);
  const made = await Promise.all(Array.from({ length: 20 }, () => schedules().create(accountId, hourly, MADE)));
  expect(made.filter(({ ok }) => ok)).toHaveLength(1);
  expect(made.filter((each) => !each.ok && each.code === 'schedule_name_taken')).toHaveLength(19);
});

test('two accounts may use one name', async () => {
  const [one, other] = [await makeAccount(database.db), await makeAccount(database.db)];
  await makeSchedule(database, one.accountId, MADE);
  await makeSchedule(database, other.accountId, MADE);
  expect([await rowsOf(one.accountId), await rowsOf(other.accountId)].map((rows) => rows.length)).toEqual([1, 1]);
});

test('the first schedule for a callback URL makes its endpoint and is shown the secret; its jobs call back there', async () => {
  const { accountId } = await makeAccount(database.db);
  const request = { ...hourly, job: { ...hourly.job, callback: { url: 'https://127.0.0.1/hook#x' } } };
  const made = accepted(await schedules().create(accountId, request, MADE));
  expect(made.signingSecret).toMatch(/^whsec_/);
  const endpoints = await database.sql`SELECT id, url FROM ringback.endpoints WHERE account_id = ${accountId}`;
  expect(endpoints).toEqual([{ id: made.schedule.callbackEndpointId, url: 'https://127.0.0.1/hook' }]);
  const second = accepted(await schedules().create(accountId, { ...request, name: 'second' }, MADE));
  expect(second).toMatchObject({ signingSecret: undefined, schedule: { callbackEndpointId: endpoints[0]!['id'] } });
  await makeKeeper(database).fire(NOON);
  const jobs = await database.sql`SELECT callback_url FROM ringback.jobs WHERE account_id = ${accountId}`;
  expect(jobs).toEqual([{ callback_url: 'https://127.0.0.1/hook' }, { callback_url: 'https://127.0.0.1/hook' }]);
});

test('what is stored is what was asked for', async () => {
  const { accountId } = await makeAccount(database.db);
  const made = await makeSchedule(database, accountId, MADE, {
    cron: ' 30  8 * * mon-fri',
    time_zone: 'europe/berlin',
    overlap: 'skip',
    misfire: 'catch_up',
    job: { type: 'test.numbered', metadata: { a: 'ä"\\' }, priority: -100, retry: { maxRuns: 1, jitter: 0.5 } },
  });
  expect(made).toMatchObject({
    cron: '30 8 * * mon-fri',
    timeZone: 'Europe/Berlin',
    inputText: 'null',
    nextFireAt: new Date('2026-02-02T07:30:00Z'),
  });
  expect(await findSchedule(database.db, accountId, { id: made.id })).toEqual(made);
});

describe('another account', () => {
  test('finds no schedule, whatever it asks', async () => {
    const [one, other] = [await makeAccount(database.db), await makeAccount(database.db)];
    const schedule = await makeSchedule(database, one.accountId, MADE);
    const { id } = schedule;
    const all = schedules();
    for (const asked of [
      all.find(other.accountId, id),
      all.change(other.accountId, id, { cron: '@daily' }, MADE),
      all.pause(other.accountId, id, MADE),
      all.resume(other.accountId, id, MADE),
      all.trigger(other.accountId, id, MADE),
      all.remove(other.accountId, id),
    ])
      expect(await asked).toMatchObject({ ok: false, code: 'schedule_not_found' });
    expect(await all.list(other.accountId, { after: undefined, limit: 10 })).toEqual([]);
    expect(await findSchedule(database.db, one.accountId, { id })).toEqual(schedule);
    expect(await jobsOf(database, schedule)).toHaveLength(0);
  });
});

describe('a paused schedule', () => {
  test('fires nothing, and goes on with its first time after it is resumed', async () => {
    const { accountId } = await makeAccount(database.db);
    const schedule = await makeSchedule(database, accountId, MADE, { misfire: 'catch_up' });
    const { fire } = makeKeeper(database);
    const paused = accepted(await schedules().pause(accountId, schedule.id, later(MADE, MINUTE)));
    expect(paused.schedule).toMatchObject({ paused: true, nextFireAt: null, updatedAt: later(MADE, MINUTE) });
    for (let hour = 0; hour < 5; hour++) await fire(later(NOON, hour * HOUR));
    const resumed = accepted(await schedules().resume(accountId, schedule.id, later(NOON, 4.5 * HOUR)));
    expect(resumed.schedule).toMatchObject({ paused: false, nextFireAt: later(NOON, 5 * HOUR) });
    await fire(later(NOON, 4.6 * HOUR));
    await fire(later(NOON, 5 * HOUR));
    expect(await timesOf(database, schedule)).toEqual(['2026-01-31T17:00']);
  });

  test('stays as it is when it is paused again, as one that runs does when it is resumed', async () => {
    const { accountId } = await makeAccount(database.db);
    const schedule = await makeSchedule(database, accountId, MADE);
    expect(accepted(await schedules().resume(accountId, schedule.id, NOON)).schedule).toEqual(schedule);
    const { schedule: paused } = accepted(await schedules().pause(accountId, schedule.id, NOON));
    expect(accepted(await schedules().pause(accountId, schedule.id, later(NOON, HOUR))).schedule).toEqual(paused);
    expect(await findSchedule(database.db, accountId, { id: schedule.id })).toEqual(paused);
  });

  test('can be made', async () => {
    const { accountId } = await makeAccount(database.db);
    const made = await makeSchedule(database, accountId, MADE, { paused: true });
    expect(made).toMatchObject({ paused: true, nextFireAt: null });
    expect(schedules().upcoming(made)).toEqual([]);
  });

  test('does not fire a time again that a keeper with a fast clock has fired already', async () => {
    const { accountId } = await makeAccount(database.db);
    const { id } = await makeSchedule(database, accountId, MADE);
    const { fire } = makeKeeper(database);
    await fire(later(NOON, 20));
    // By our clock it is not noon yet.
    const early = later(NOON, -30);
    accepted(await schedules().pause(accountId, id, early));
    const { schedule } = accepted(await schedules().resume(accountId, id, early));
    expect(schedule.nextFireAt).toEqual(later(NOON, HOUR));
    const daily = accepted(await schedules().change(accountId, id, { cron: '0 12 * * *' }, early));
    expect(daily.schedule.nextFireAt).toEqual(later(NOON, 24 * HOUR));
  });
});

describe('a schedule that is triggered', () => {
  test('submits a job at once, and keeps its next time', async () => {
    const { accountId } = await makeAccount(database.db);
    const endpoint = await makeEndpoint(database.db, accountId);
    const job = { ...hourly.job, callback: { endpoint_id: endpoint.id }, metadata: { a: 'b' } };
    const schedule = await makeSchedule(database, accountId, MADE, { job });
    const woken: string[] = [];
    const all = makeSchedules(database, undefined, { announceRuns: (pool) => woken.push(pool) });
    const triggered = accepted(await all.trigger(accountId, schedule.id, later(MADE, MINUTE)));
    expect(triggered).toMatchObject({
      status: 'queued',
      scheduleId: schedule.id,
      scheduledFor: null,
      metadata: { a: 'b' },
      callbackUrl: endpoint.url,
    });
    expect(await jobsOf(database, schedule)).toMatchObject([{ id: triggered.id, queued: true, scheduledFor: null }]);
    expect(woken).toEqual(['shared']);
    expect(await findSchedule(database.db, accountId, { id: schedule.id })).toEqual({
      ...schedule,
      lastFireAt: later(MADE, MINUTE),
      lastJobId: triggered.id,
    });
  });

  test('does so while it is paused, and while another job of it has not ended', async () => {
    const { accountId } = await makeAccount(database.db);
    const schedule = await makeSchedule(database, accountId, MADE, { paused: true, overlap: 'skip' });
    accepted(await schedules().trigger(accountId, schedule.id, MADE));
    accepted(await schedules().trigger(accountId, schedule.id, MADE));
    expect(await jobsOf(database, schedule)).toHaveLength(2);
    expect(await findSchedule(database.db, accountId, { id: schedule.id })).toMatchObject({ paused: true });
  });

  test('is limited as any submission is, unlike what it fires by the clock', async () => {
    const { accountId } = await makeAccount(database.db);
    const schedule = await makeSchedule(database, accountId, MADE);
    await database.sql`UPDATE ringback.accounts SET max_pending = 1 WHERE account_id = ${accountId}`;
    const { db } = database;
    const onError = (error: unknown) => expect.fail(String(error));
    const depth = new QueueDepth({ db, max: 1_000_000, onError });
    const admission = new Admission({ db, defaults: { perSecond: null, maxPending: null }, depth, onError });
    const limited = makeSchedules(database, undefined, { admission });
    accepted(await limited.trigger(accountId, schedule.id, MADE));
    expect(await limited.trigger(accountId, schedule.id, MADE)).toMatchObject({ ok: false, code: 'too_many_jobs' });
    await makeKeeper(database).fire(NOON);
    expect(await timesOf(database, schedule)).toEqual(['2026-01-31T12:00', 'by hand']);
  });

  test('is refused when its type takes the input no more, and nothing is stored', async () => {
    const { accountId } = await makeAccount(database.db);
    const schedule = await makeSchedule(database, accountId, MADE);
    await database.sql`UPDATE ringback.job_schedules SET input = '{"n":"x"}' WHERE id = ${schedule.id}`;
    expect(await schedules().trigger(accountId, schedule.id, MADE)).toMatchObject({
      code: 'invalid_input',
      faults: [{ path: '/job/input/n' }],
    });
    expect(await jobsOf(database, schedule)).toHaveLength(0);
  });
});

describe('a schedule that is changed', () => {
  test('counts a new expression or time zone from now, and keeps its time otherwise', async () => {
    const { accountId } = await makeAccount(database.db);
    const { id } = await makeSchedule(database, accountId, MADE, { cron: '0 12 * * *' });
    const change = async (changes: object) => accepted(await schedules().change(accountId, id, changes, MADE)).schedule;
    expect((await change({ time_zone: 'Europe/Berlin' })).nextFireAt).toEqual(new Date('2026-02-01T11:00Z'));
    expect((await change({ cron: '0 13 * * *' })).nextFireAt).toEqual(NOON);
    // Due by now, but not fired yet: no reason to lose the time.
    const { schedule } = accepted(await schedules().change(accountId, id, { misfire: 'skip' }, later(NOON, HOUR)));
    expect(schedule).toMatchObject({ misfire: 'skip', nextFireAt: NOON, cron: '0 13 * * *' });
  });

  test('while it is paused has no next time until it is resumed', async () => {
    const { accountId } = await makeAccount(database.db);
    const { id } = await makeSchedule(database, accountId, MADE, { paused: true });
    const changed = accepted(await schedules().change(accountId, id, { cron: '@daily' }, MADE)).schedule;
    expect(changed).toMatchObject({ cron: '@daily', paused: true, nextFireAt: null });
    const resumed = accepted(await schedules().resume(accountId, id, MADE)).schedule;
    expect(resumed.nextFireAt).toEqual(new Date('2026-02-01T00:00Z'));
  });

  test('keeps what is left out, and loses what is null', async () => {
    const { accountId } = await makeAccount(database.db);
    const job = { ...hourly.job, timeout_ms: 1000, retry: { maxRuns: 2 }, callback: { url: 'https://127.0.0.1/a' } };
    const before = await makeSchedule(database, accountId, MADE, { job });
    const change = (members: object) => schedules().change(accountId, before.id, { job: members }, later(MADE, MINUTE));
    const one = accepted(await change({ input: { n: 2 }, priority: 3, metadata: { c: 'd' } })).schedule;
    expect(one).toEqual({
      ...before,
      inputText: '{"n":2}',
      priority: 3,
      metadata: { c: 'd' },
      updatedAt: later(MADE, MINUTE),
    });
    expect(await findSchedule(database.db, accountId, { id: before.id })).toEqual(one);
    const two = accepted(await change({ input: null, timeout_ms: null, retry: null, callback: null })).schedule;
    expect(two).toMatchObject({
      inputText: 'null',
      timeoutMs: null,
      retry: null,
      callbackUrl: null,
      callbackEndpointId: null,
    });
    expect(await findSchedule(database.db, accountId, { id: before.id })).toEqual(two);
    const three = accepted(await change({ callback: { url: 'https://127.0.0.1/b', events: ['job.failed'] } }));
    expect(three).toMatchObject({
      signingSecret: expect.stringMatching(/^whsec_/),
      schedule: { callbackUrl: 'https://127.0.0.1/b', callbackEvents: ['job.failed'] },
    });
  });

  test.each([
    [{ cron: 'nonsense' }, 'invalid_schedule'],
    [{ time_zone: 'Nowhere' }, 'invalid_schedule'],
    [{ job: { input: { n: 'x' } } }, 'invalid_input'],
    [{ job: { timeout_ms: 999_999 } }, 'invalid_body'],
    [{ cron: '@daily', job: { callback: { url: 'ftp://x' } } }, 'invalid_callback_url'],
  ])('to %j is refused, and stays as it was', async (changes, code) => {
    const { accountId } = await makeAccount(database.db);
    const before = await makeSchedule(database, accountId, MADE);
    expect(await schedules().change(accountId, before.id, changes, NOON)).toMatchObject({ ok: false, code });
    expect(await findSchedule(database.db, accountId, { id: before.id })).toEqual(before);
  });

  test('by many at once loses none of their changes', async () => {
    const { accountId } = await makeAccount(database.db);
    const { id } = await makeSchedule(database, accountId, MADE);
    const all = schedules();
    await Promise.all([
      all.change(accountId, id, { cron: '@daily' }, NOON),
      all.change(accountId, id, { time_zone: 'Europe/Berlin' }, NOON),
      all.change(accountId, id, { overlap: 'skip' }, NOON),
      all.change(accountId, id, { misfire: 'catch_up' }, NOON),
      all.change(accountId, id, { job: { priority: 7 } }, NOON),
      all.pause(accountId, id, NOON),
    ]);
    expect(await findSchedule(database.db, accountId, { id })).toMatchObject({
      cron: '@daily',
      timeZone: 'Europe/Berlin',
      overlap: 'skip',
      misfire: 'catch_up',
      priority: 7,
      paused: true,
      nextFireAt: null,
    });
  });

  test('while keepers fire it loses no time and repeats none', async () => {
    const { accountId } = await makeAccount(database.db);
    const schedule = await makeSchedule(database, accountId, NOON, { cron: '* * * * *' });
    const all = schedules();
    const keepers = [makeKeeper(database), makeKeeper(database)];
    for (let round = 1; round <= 30; round++) {
      const now = later(NOON, round * MINUTE);
      const zone = round % 2 === 0 ? 'UTC' : 'Europe/Berlin';
      await Promise.all([
        ...keepers.map(({ fire }) => fire(now)),
        // Its clock is behind: what the change works out from it, the keepers have fired.
        all.change(accountId, schedule.id, { time_zone: zone }, later(now, -10)),
        all.trigger(accountId, schedule.id, now),
      ]);
      // While the change holds it, keepers pass over it: they come back.
      await keepers[0]!.fire(now);
    }
    const times = (await jobsOf(database, schedule)).flatMap(({ scheduledFor }) => scheduledFor?.getTime() ?? []);
    expect(times).toEqual(Array.from({ length: 30 }, (_, round) => NOON.getTime() + (round + 1) * MINUTE));
    expect((await jobsOf(database, schedule)).length).toBe(60);
  });
});

test('a deleted schedule fires no more; its jobs stay, and its name is free', async () => {
  const { accountId } = await makeAccount(database.db);
  const schedule = await makeSchedule(database, accountId, MADE);
  const { fire } = makeKeeper(database);
  await fire(NOON);
  expect(await schedules().remove(accountId, schedule.id)).toMatchObject({ ok: true });
  expect(await schedules().remove(accountId, schedule.id)).toMatchObject({ code: 'schedule_not_found' });
  await fire(later(NOON, HOUR));
  expect(await timesOf(database, schedule)).toEqual(['2026-01-31T12:00']);
  await makeSchedule(database, accountId, MADE);
});

test('the next times of a schedule are its own, the one that is due first', async () => {
  const { accountId } = await makeAccount(database.db);
  const schedule = await makeSchedule(database, accountId, new Date('2026-03-27T12:00Z'), {
    cron: '30 2 * * *',
    time_zone: 'Europe/Berlin',
  });
  expect(
    schedules()
      .upcoming(schedule)
      .map((time) => time.toISOString()),
  ).toEqual([
    '2026-03-28T01:30:00.000Z',
    '2026-03-29T01:00:00.000Z',
    '2026-03-30T00:30:00.000Z',
    '2026-03-31T00:30:00.000Z',
    '2026-04-01T00:30:00.000Z',
  ]);
});

test('a list goes through all of them, oldest first', async () => {
  const { accountId } = await makeAccount(database.db);
  for (let n = 0; n < 5; n++) await makeSchedule(database, accountId, later(MADE, n), { name: `number ${n}` });
  const all = schedules();
  const first = await all.list(accountId, { after: undefined, limit: 3 });
  const rest = await all.list(accountId, { after: first.at(-1)!.id, limit: 3 });
  expect([...first, ...rest].map(({ name }) => name)).toEqual([0, 1, 2, 3, 4].map((n) => `number ${n}`));
  expect(first[0]).not.toHaveProperty('inputText');
});
