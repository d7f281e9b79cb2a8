import { describe, expect, it } from 'vitest';
import { useDatabase } from '../support/database.ts';
import { eventually } from '../support/eventually.ts';
import { makeAccount } from '../support/fixtures.ts';
import { startReceiver } from '../support/receiver.ts';
import { client, submit, untilDone } from './support/api.ts';
import { claimRun, endsOf, tell } from './support/claims.ts';
import { JOB_SIDE, serviceEnv, useService } from './support/main-process.ts';
import { expectProblem } from './support/problem.ts';

const database = useDatabase();
const key = 'rbk_for-times';
const service = useService(() => serviceEnv(database.url, { RINGBACK_BOOTSTRAP_KEY: key, RINGBACK_CONFIG: JOB_SIDE }));
const ask = (...args: Parameters<ReturnType<typeof client>>) => client(service.url, key)(...args);

const DAY = 86_400_000;
const echo = { type: 'ringback.echo', input: 1 };
const inMs = (ms: number) => new Date(Date.now() + ms).toISOString();
/** Of tomorrow, or of the day after. */
const NOON = new Date(Math.ceil(Date.now() / DAY) * DAY + DAY / 2);
const inDelhi = (at: Date) => new Date(at.getTime() + 5.5 * 3_600_000).toISOString().replace('Z', '+05:30');

describe('run_at', () => {
  it('keeps a job back until then', async () => {
    const run_at = inMs(1500);
    const job = await submit(ask, { ...echo, run_at });
    expect(job).toMatchObject({ status: 'queued', run_at });
    const others = await submit(ask, echo);
    await untilDone(ask, others.id);
    expect((await ask('GET', `/v1/jobs/${job.id}`)).json).toMatchObject({ status: 'queued', runs: 0 });
    const done = await untilDone(ask, job.id);
    expect(done).toMatchObject({ status: 'succeeded', run_at });
    expect(Date.parse(done.started_at)).toBeGreaterThanOrEqual(Date.parse(run_at));
  });

  it('may be told in any time zone', async () => {
    expect(await submit(ask, { ...echo, run_at: inDelhi(NOON) })).toMatchObject({ run_at: NOON.toISOString() });
  });

  it('that has just passed by our clock means now', async () => {
    const job = await submit(ask, { ...echo, run_at: inMs(-2000) });
    expect(job).not.toHaveProperty('run_at');
    expect(await untilDone(ask, job.id)).toMatchObject({ status: 'succeeded' });
  });

  it('may be a year away', async () => {
    expect(await submit(ask, { ...echo, run_at: inMs(365 * DAY) })).toMatchObject({ status: 'queued' });
  });
});

describe('expires_at', () => {
  it('ends a job that nobody has started by then, and its callback says so', async () => {
    const receiver = await startReceiver();
    const expires_at = inMs(700);
    const submission = { type: 'remote.number', input: 1, expires_at, callback: { url: receiver.url } };
    const { id } = await submit(ask, submission);
    const expired = await untilDone(ask, id);
    expect(expired).toMatchObject({ status: 'expired', runs: 0, error: { code: 'expired' }, expires_at });
    expect(expired).not.toHaveProperty('started_at');
    expect(Date.parse(expired.finished_at)).toBeGreaterThanOrEqual(Date.parse(expires_at));
    expect(expectProblem(await ask('GET', `/v1/jobs/${id}/result`), 'no_result')).toMatchObject({
      job_status: 'expired',
    });
    expect((await receiver.next()).json).toMatchObject({ type: 'job.expired', data: { job: expired } });
    expect((await ask('POST', `/v1/jobs/${id}/cancel`)).json).toEqual(expired);
  });

  it('leaves alone what was started in time', async () => {
    const job = await submit(ask, { type: 'remote.number', input: 1, expires_at: inMs(2500) });
    const run = await claimRun(ask, 'remote.number');
    expect(run.job.id).toBe(job.id);
    // Another one, which expires later, has: the keeper has been by.
    const other = await submit(ask, { type: 'remote.file', input: 1, expires_at: inMs(2600) });
    expect(await untilDone(ask, other.id)).toMatchObject({ status: 'expired' });
    expect((await tell(ask, run, 'complete', { output: 7 })).status).toBe(200);
    expect(await untilDone(ask, job.id)).toMatchObject({ status: 'succeeded', output: 7 });
  });

  it('may be as far away as years can be written', async () => {
    const { id } = await submit(ask, { ...echo, expires_at: '9999-12-31T23:59:59Z' });
    expect(await untilDone(ask, id)).toMatchObject({ status: 'succeeded', expires_at: '9999-12-31T23:59:59.000Z' });
  });
});

describe('what a submission asks for goes before what its type has:', () => {
  it.each([
    ['fewer runs', { max_runs: 1 }, 100, 'failed', 1],
    ['more runs', { max_runs: 5, min_delay_ms: 5, factor: 1, jitter: 0 }, 4, 'succeeded', 5],
    ['more runs, no delay', { max_runs: 6, min_delay_ms: 0 }, 100, 'failed', 6],
  ])('%s', async (_what, retry, times, status, runs) => {
    const job = await submit(ask, { type: 'ringback.fail', input: { times }, retry });
    expect(job.retry).toEqual(retry);
    expect(await untilDone(ask, job.id)).toMatchObject({ status, runs, retry });
    expect(await endsOf(ask, job.id)).toHaveLength(runs);
  });

  it('a delay before the next run', async () => {
    const retry = { min_delay_ms: 3_600_000, max_delay_ms: 7_200_000, jitter: 0 };
    const { id } = await submit(ask, { type: 'ringback.fail', input: { times: 1 }, retry });
    const waiting = await eventually(async () => {
      const { json } = await ask('GET', `/v1/jobs/${id}`);
      expect(json).toHaveProperty('next_run_at');
      return json;
    });
    const [run] = (await ask('GET', `/v1/jobs/${id}/runs`)).json.items;
    expect(Date.parse(waiting.next_run_at) - Date.parse(run.finished_at)).toBe(3_600_000);
  });

  it('less time for a run', async () => {
    const limits = { timeout_ms: 100, retry: { max_runs: 2, min_delay_ms: 0 } };
    const job = await submit(ask, { type: 'ringback.sleep', input: { ms: 600_000 }, ...limits });
    expect(job).toMatchObject(limits);
    const failed = await untilDone(ask, job.id);
    expect(failed).toMatchObject({
      status: 'failed',
      error: { code: 'timeout', message: expect.stringContaining('100') },
    });
    expect(await endsOf(ask, job.id)).toEqual(['timed_out', 'timed_out']);
  });
});

it('of the jobs of an account the higher priority is run first, then the older', async () => {
  const own = client(service.url, (await makeAccount(database.db)).key);
  const ids: string[] = [];
  for (const priority of [0, -100, 7, 0, 100, 7]) {
    const job = await submit(own, { type: 'remote.number', input: 1, priority });
    expect(job.priority).toBe(priority === 0 ? undefined : priority);
    ids.push(job.id);
  }
  const claimed: string[] = [];
  while (claimed.length < ids.length) claimed.push((await claimRun(own, 'remote.number')).job.id);
  expect(claimed.map((id) => ids.indexOf(id))).toEqual([4, 2, 5, 0, 3, 1]);
});

describe('a submission is refused, with the place of what is wrong,', () => {
  const FAR = 367 * DAY;
  it.each<[string, () => object, string[]]>([
    ['a run_at that has passed', () => ({ run_at: inMs(-10_000) }), ['/run_at']],
    ['a run_at that is too far away', () => ({ run_at: inMs(FAR) }), ['/run_at']],
    ['a run_at that is no time', () => ({ run_at: 'tomorrow' }), ['/run_at']],
    ['a run_at without a time zone', () => ({ run_at: '2100-01-01T00:00:00' }), ['/run_at']],
    ['a run_at on a day that is none', () => ({ run_at: '2100-02-30T00:00:00Z' }), ['/run_at']],
    ['a run_at in milliseconds', () => ({ run_at: Date.now() + 1000 }), ['/run_at']],
    ['a run_at of null', () => ({ run_at: null }), ['/run_at']],
    ['an expires_at that has passed', () => ({ expires_at: inMs(-1) }), ['/expires_at']],
    ['an expires_at beyond the year 9999', () => ({ expires_at: '9999-12-31T23:59:59-23:59' }), ['/expires_at']],
    ['an expires_at before run_at', () => ({ run_at: inMs(DAY), expires_at: inMs(DAY - 1) }), ['/expires_at']],
    [
      'an expires_at that is its run_at',
      () => ({ run_at: inDelhi(NOON), expires_at: NOON.toISOString() }),
      ['/expires_at'],
    ],
    ['a timeout over its type’s', () => ({ timeout_ms: 60_001 }), ['/timeout_ms']],
    ['no time at all', () => ({ timeout_ms: 0 }), ['/timeout_ms']],
    ['half a millisecond', () => ({ timeout_ms: 0.5 }), ['/timeout_ms']],
    ['a timeout as text', () => ({ timeout_ms: '1000' }), ['/timeout_ms']],
    ['an unknown member of retry', () => ({ retry: { max_run: 1 } }), ['/retry']],
    ['a retry that is a number', () => ({ retry: 3 }), ['/retry']],
    [
      'every member of retry out of range',
      () => ({ retry: { max_runs: 0, min_delay_ms: -1, factor: 0.5, max_delay_ms: DAY + 1, jitter: 1.1 } }),
      ['/retry/factor', '/retry/jitter', '/retry/max_delay_ms', '/retry/max_runs', '/retry/min_delay_ms'],
    ],
    ['too many runs', () => ({ retry: { max_runs: 101 } }), ['/retry/max_runs']],
    ['a priority too high', () => ({ priority: 101 }), ['/priority']],
    ['a priority too low', () => ({ priority: -101 }), ['/priority']],
    ['a priority between two', () => ({ priority: 0.5 }), ['/priority']],
    ['a priority as text', () => ({ priority: 'high' }), ['/priority']],
    [
      'all its times wrong',
      () => ({ run_at: inMs(-60_000), expires_at: inMs(-120_000), timeout_ms: DAY }),
      ['/expires_at', '/expires_at', '/run_at', '/timeout_ms'],
    ],
  ])('for %s', async (_what, wrong, paths) => {
    const { key: own, accountId } = await makeAccount(database.db);
    const answer = await client(service.url, own)('POST', '/v1/jobs', { ...echo, ...wrong() });
    const document = expectProblem(answer, 'invalid_body');
    expect(document.errors.map(({ path }: { path: string }) => path).toSorted()).toEqual(paths);
    for (const path of paths) expect(document.detail).toContain(path);
    expect(await database.sql`SELECT FROM ringback.jobs WHERE account_id = ${accountId}`).toHaveLength(0);
  });

  it('with what the unknown member was', async () => {
    const { errors } = expectProblem(await ask('POST', '/v1/jobs', { ...echo, retry: { max_run: 1 } }), 'invalid_body');
    expect(errors[0].message).toContain('max_run');
  });
});
