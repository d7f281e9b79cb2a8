import { describe, expect, it } from 'vitest';
import { useDatabase } from '../support/database.ts';
import { eventually } from '../support/eventually.ts';
import { makeAccount } from '../support/fixtures.ts';
import { startReceiver } from '../support/receiver.ts';
import { type Ask, client, untilDone } from './support/api.ts';
import { serviceEnv, useService } from './support/main-process.ts';
import { faultsOf } from './support/json-schema.ts';
import { expectProblem } from './support/problem.ts';

const database = useDatabase();
const service = useService(() => serviceEnv(database.url));

const echo = { type: 'ringback.echo', input: { a: 1 } };
/** Not due while a test runs. */
const yearly = { name: 'yearly', cron: '@yearly', job: echo };
const UNKNOWN = 'sch_01h455vb4pex5vsknk084sn02q';

/** A client of an account of its own. */
async function newClient(): Promise<Ask> {
  return client(service.url, (await makeAccount(database.db)).key);
}

async function create(ask: Ask, schedule: object) {
  const created = await ask('POST', '/v1/schedules', schedule);
  expect(created.status, created.text).toBe(201);
  return created.json;
}

/** As if its next time had come. */
async function makeDue(id: string): Promise<void> {
  await database.sql`UPDATE ringback.job_schedules SET next_fire_at = now() WHERE id = ${id}`;
}

describe('a schedule', () => {
  it('is made, read, listed, changed and deleted', async () => {
    const ask = await newClient();
    const schedule = {
      name: 'morning report',
      cron: '30 8 * * MON-FRI',
      time_zone: 'Europe/Berlin',
      overlap: 'skip',
      misfire: 'catch_up',
      job: { ...echo, metadata: { order: '4711' }, priority: 5, timeout_ms: 1000, retry: { max_runs: 2 } },
    };
    const created = await ask('POST', '/v1/schedules', schedule);
    expect(created.status, created.text).toBe(201);
    expect(created.json).toEqual({
      ...schedule,
      id: expect.stringMatching(/^sch_/),
      paused: false,
      next_fire_at: created.json.next_times[0],
      next_times: expect.any(Array),
      last_fire_at: null,
      last_job_id: null,
      overlap_skips: 0,
      created_at: expect.any(String),
      updated_at: created.json.created_at,
    });
    expect(created.json.next_times).toHaveLength(5);
    const { id } = created.json;
    const path = `/v1/schedules/${id}`;
    expect(created.headers.get('location')).toBe(path);
    expect((await ask('GET', path)).json).toEqual(created.json);

    const other = await create(ask, { ...yearly, paused: true });
    const { job, next_times: _nextTimes, ...listed } = created.json;
    const { input: _input, ...listedJob } = job;
    const first = (await ask('GET', '/v1/schedules?limit=1')).json;
    expect(first).toEqual({ items: [{ ...listed, job: listedJob }], next_cursor: expect.any(String) });
    const second = (await ask('GET', `/v1/schedules?limit=1&cursor=${first.next_cursor}`)).json;
    expect(second.items).toMatchObject([{ id: other.id, time_zone: 'UTC', paused: true, next_fire_at: null }]);

    const changes = { time_zone: 'UTC', cron: '0 0 1 1 *', job: { input: 'new', timeout_ms: null, retry: null } };
    const changed = await ask('PATCH', path, changes);
    expect(changed.status, changed.text).toBe(200);
    expect(changed.json).toMatchObject({
      cron: '0 0 1 1 *',
      next_fire_at: expect.stringMatching(/-01-01T00:00:00/),
      overlap: 'skip',
    });
    expect(changed.json.job).toEqual({ type: 'ringback.echo', input: 'new', metadata: { order: '4711' }, priority: 5 });
    expect((await ask('GET', path)).json).toEqual(changed.json);

    const deleted = await ask('DELETE', path);
    expect([deleted.status, deleted.text]).toEqual([204, '']);
    for (const method of ['GET', 'DELETE']) expectProblem(await ask(method, path), 'schedule_not_found');
  });

  it('submits its job when its time has come, which says so and calls back', async () => {
    const ask = await newClient();
    const receiver = await startReceiver();
    const schedule = { ...yearly, job: { ...echo, callback: { url: receiver.url } } };
    const made = await create(ask, schedule);
    expect(made.job.callback).toMatchObject({ signing_secret: expect.stringMatching(/^whsec_/) });
    expect((await ask('GET', `/v1/schedules/${made.id}`)).json.job.callback).not.toHaveProperty('signing_secret');
    await makeDue(made.id);
    const { job } = ((await receiver.next()).json as { data: { job: { id: string; created_at: string } } }).data;
    expect(job).toMatchObject({
      status: 'succeeded',
      output: { a: 1 },
      schedule_id: made.id,
      scheduled_for: expect.any(String),
    });
    const after = (await ask('GET', `/v1/schedules/${made.id}`)).json;
    expect(after).toMatchObject({ last_job_id: job.id, last_fire_at: job.created_at });
    expect(after.next_fire_at).toMatch(/-01-01T00:00:00/);
    expect((await ask('GET', `/v1/jobs/${job.id}`)).json).toEqual(job);
  });

  it('fires nothing while it is paused, and what is triggered all the same', async () => {
    const ask = await newClient();
    const { id } = await create(ask, { ...yearly, cron: '* * * * *', job: { ...echo, metadata: { by: 'hand' } } });
    const paused = await ask('POST', `/v1/schedules/${id}/pause`);
    expect(paused).toMatchObject({ status: 200, json: { paused: true, next_fire_at: null, next_times: [] } });
    const again = await ask('POST', `/v1/schedules/${id}/pause`);
    expect([again.status, again.json]).toEqual([200, paused.json]);

    const triggered = await ask('POST', `/v1/schedules/${id}/trigger`);
    expect(triggered.status, triggered.text).toBe(202);
    expect(triggered.headers.get('location')).toBe(`/v1/jobs/${triggered.json.id}`);
    expect(Number(triggered.headers.get('retry-after'))).toBeGreaterThanOrEqual(1);
    expect(triggered.json).toMatchObject({ status: 'queued', schedule_id: id, metadata: { by: 'hand' } });
    expect(triggered.json).not.toHaveProperty('scheduled_for');
    expect(await untilDone(ask, triggered.json.id)).toMatchObject({ status: 'succeeded', output: { a: 1 } });

    const resumed = (await ask('POST', `/v1/schedules/${id}/resume`)).json;
    expect(resumed).toMatchObject({ paused: false, last_job_id: triggered.json.id });
    expect(Date.parse(resumed.next_fire_at)).toBeGreaterThan(Date.parse(resumed.updated_at));
  });

  it('says why nobody could fire it, stays due, and fires once it can', { timeout: 60_000 }, async () => {
    const ask = await newClient();
    const { id } = await create(ask, yearly);
    await database.sql`
      UPDATE ringback.job_schedules SET type = 'ringback.ecko', next_fire_at = now() - interval '2 min' WHERE id = ${id}`;
    await eventually(async () => {
      const { json } = await ask('GET', `/v1/schedules/${id}`);
      expect(json).toMatchObject({ last_error: { code: 'unknown_job_type' }, last_job_id: null });
      expect(Date.parse(json.next_fire_at)).toBeLessThan(Date.now());
    }, 30_000);
    await database.sql`UPDATE ringback.job_schedules SET type = 'ringback.echo' WHERE id = ${id}`;
    await eventually(async () => {
      const { json } = await ask('GET', `/v1/schedules/${id}`);
      expect(json.last_job_id).toMatch(/^job_/);
      expect(json).not.toHaveProperty('last_error');
      expect(json.next_fire_at).toMatch(/-01-01T00:00:00/);
    });
  });

  it('of another account is not there', async () => {
    const [ask, other] = [await newClient(), await newClient()];
    const { id } = await create(ask, yearly);
    const path = `/v1/schedules/${id}`;
    for (const [method, rest] of [
      ['GET', ''],
      ['PATCH', ''],
      ['DELETE', ''],
      ['POST', '/pause'],
      ['POST', '/resume'],
      ['POST', '/trigger'],
    ] as const) {
      expectProblem(await other(method, `${path}${rest}`, method === 'PATCH' ? {} : undefined), 'schedule_not_found');
    }
    expect((await other('GET', '/v1/schedules')).json).toEqual({ items: [], next_cursor: null });
    expect((await ask('GET', path)).status).toBe(200);
  });
});

it('answers what the OpenAPI document says of it', async () => {
  const ask = await newClient();
  const document = (await ask('GET', '/openapi.json')).json;
  const check = async (method: string, path: string, body?: object) => {
    const answer = await ask(method, path, body);
    const declared = path.replace(/sch_[0-9a-z]+/, '{id}');
    const response = document.paths[declared][method.toLowerCase()].responses[answer.status];
    expect(response, `${method} ${declared}: ${answer.status} ${answer.text}`).toBeDefined();
    if (answer.status === 204) return undefined;
    const schema = response.content[answer.headers.get('content-type')!].schema;
    expect(faultsOf(document, schema, answer.json), `${method} ${declared}: ${answer.text}`).toEqual([]);
    return answer.json;
  };
  const callback = { url: 'http://127.0.0.1:9/hook' };
  const job = { ...echo, timeout_ms: 1000, retry: { max_runs: 1 }, callback };
  const path = `/v1/schedules/${(await check('POST', '/v1/schedules', { ...yearly, job })).id}`;
  await check('POST', '/v1/schedules', yearly);
  await check('POST', '/v1/schedules', { ...yearly, cron: 'x' });
  await check('PATCH', path, { overlap: 'skip' });
  for (const verb of ['pause', 'trigger', 'resume']) await check('POST', `${path}/${verb}`);
  for (const each of ['/v1/schedules', path]) await check('GET', each);
  await check('DELETE', path);
  await check('GET', path);
});

describe('refused is', () => {
  const long = 'x'.repeat(101);
  it.each([
    [{ cron: '60 8 * * *' }, 'invalid_schedule', ['/cron'], /minute: 60 is not within 0 to 59/],
    [{ cron: '0 8 * * FOO' }, 'invalid_schedule', ['/cron'], /day of week: "FOO"/],
    [{ cron: '0 0 8 * * *' }, 'invalid_schedule', ['/cron'], /five fields/],
    [{ cron: '0 0 30 2 *' }, 'invalid_schedule', ['/cron'], /never comes due/],
    [{ cron: '' }, 'invalid_schedule', ['/cron'], /five fields/],
    [{ time_zone: 'Europe/Berln' }, 'invalid_schedule', ['/time_zone'], /did you mean Europe\/Berlin/],
    [{ time_zone: 'New York' }, 'invalid_schedule', ['/time_zone'], /America\/New_York/],
    [{ time_zone: 'PST' }, 'invalid_schedule', ['/time_zone'], /"PST" is not the name/],
    [{ cron: 'x', time_zone: 'y' }, 'invalid_schedule', ['/cron', '/time_zone'], /five fields.*"y"/],
    [{ cron: 5 }, 'invalid_body', ['/cron'], /cron/],
    [{ cron: undefined }, 'invalid_body', ['/cron'], /cron/],
    [{ name: '' }, 'invalid_body', ['/name'], /name/],
    [{ name: ' ' }, 'invalid_body', ['/name'], /blank/],
    [{ name: 'a\0' }, 'invalid_body', ['/name'], /U\+0000/],
    [{ name: long }, 'invalid_body', ['/name'], /name/],
    [{ overlap: 'queue' }, 'invalid_body', ['/overlap'], /overlap/],
    [{ misfire: 'panic' }, 'invalid_body', ['/misfire'], /misfire/],
    [{ paused: 'yes' }, 'invalid_body', ['/paused'], /paused/],
    [{ timezone: 'UTC' }, 'invalid_body', [''], /timezone/],
    [{ job: undefined }, 'invalid_body', ['/job'], /job/],
    [{ job: { ...echo, run_at: '2036-01-01T00:00:00Z' } }, 'invalid_body', ['/job'], /run_at/],
    [{ job: { ...echo, priority: 101 } }, 'invalid_body', ['/job/priority'], /priority/],
    [{ job: { ...echo, timeout_ms: 60_001 } }, 'invalid_body', ['/job/timeout_ms'], /60000 at most/],
    [{ job: { type: 'ringback.ecko' } }, 'unknown_job_type', undefined, /ringback\.echo/],
    [{ job: { type: 'ringback.sleep', input: { ms: -1 } } }, 'invalid_input', ['/job/input/ms'], /ringback\.sleep/],
    [
      { job: { ...echo, callback: { url: 'http://10.0.0.1/' } } },
      'invalid_callback_url',
      ['/job/callback/url'],
      /10\./,
    ],
    [
      { job: { ...echo, callback: { endpoint_id: UNKNOWN.replace('sch', 'ep') } } },
      'endpoint_not_found',
      undefined,
      /ep_/,
    ],
  ] as const)('%j: %s', async (changes, code, at, saying) => {
    const ask = await newClient();
    const refused = expectProblem(await ask('POST', '/v1/schedules', { ...yearly, ...changes }), code);
    expect(refused.errors?.map(({ path }: { path: string }) => path)).toEqual(at);
    expect(refused.detail).toMatch(saying);
    expect((await ask('GET', '/v1/schedules')).json.items).toEqual([]);
  });

  it('a second schedule of that name, with the id of the first', async () => {
    const ask = await newClient();
    const { id } = await create(ask, yearly);
    const refused = expectProblem(
      await ask('POST', '/v1/schedules', { ...yearly, cron: '@daily' }),
      'schedule_name_taken',
    );
    expect(refused.schedule_id).toBe(id);
  });

  it.each([
    [{ name: 'other' }, 'invalid_body'],
    [{ paused: true }, 'invalid_body'],
    [{ job: { type: 'ringback.sleep' } }, 'invalid_body'],
    [{ cron: null }, 'invalid_body'],
    [{ cron: '* * *' }, 'invalid_schedule'],
    [[], 'invalid_body'],
  ] as const)('to change %j', async (changes, code) => {
    const ask = await newClient();
    const made = await create(ask, yearly);
    expectProblem(await ask('PATCH', `/v1/schedules/${made.id}`, changes), code);
    expect((await ask('GET', `/v1/schedules/${made.id}`)).json).toEqual(made);
  });

  it('an id that is none, one of another kind, and one that nothing has', async () => {
    const ask = await newClient();
    for (const id of ['4711', UNKNOWN.replace('sch', 'job'), UNKNOWN.toUpperCase()])
      expectProblem(await ask('GET', `/v1/schedules/${id}`), 'invalid_id');
    expectProblem(await ask('GET', `/v1/schedules/${UNKNOWN}`), 'schedule_not_found');
    expectProblem(await ask('POST', `/v1/schedules/${UNKNOWN}/trigger`), 'schedule_not_found');
  });
});
