import { describe, expect, it } from 'vitest';
import { useDatabase } from '../support/database.ts';
import { errorsIn } from '../support/log.ts';
import { client, untilDone } from './support/api.ts';
import { beginRun, type ClaimedRun, claimRun, claimRuns, endsOf, tell } from './support/claims.ts';
import { serviceEnv, useService } from './support/main-process.ts';

/** What workers tell of their runs, and how these end. */

const database = useDatabase();
const key = 'rbk_for-worker-runs';
const service = useService(() =>
  serviceEnv(database.url, {
    RINGBACK_BOOTSTRAP_KEY: key,
    RINGBACK_CONFIG: 'test/e2e/support/remote.config.ts',
    RINGBACK_CANCEL_GRACE_MS: '0',
  }),
);
const ask = (...args: Parameters<ReturnType<typeof client>>) => client(service.url, key)(...args);

/** A job, and the run of it that is ours. */
const begin = (submission: object = {}, wish: object = {}) => beginRun(ask, submission, wish);

const jobOf = async ({ job }: ClaimedRun) => (await ask('GET', `/v1/jobs/${job.id}`)).json;

/** Whatever run the job is in, to its end. */
async function finish(id: string): Promise<void> {
  const { json } = await ask('GET', `/v1/jobs/${id}`);
  if (json.done) return;
  const run = await claimRun(ask, 'test.raw');
  await tell(ask, run, 'complete', { output: null });
  await untilDone(ask, id);
}

describe('a run', { timeout: 40_000 }, () => {
  it('is kept by heartbeats, which show progress and tell of a cancel', async () => {
    const run = await begin({}, { lease_s: 5 });
    const beat = await tell(ask, run, 'heartbeat', {
      lease_s: 60,
      progress: { percent: 40, message: 'x'.repeat(600) },
    });
    expect(beat.json).toMatchObject({ cancel_requested: false, heartbeat_after_s: 19.98 });
    expect(Date.parse(beat.json.lease_expires_at) - Date.now()).toBeGreaterThan(50_000);
    expect((await jobOf(run)).progress).toEqual({ percent: 40, message: 'x'.repeat(500) });
    expect((await tell(ask, run, 'progress', { percent: 41 })).status).toBe(204);
    await ask('POST', `/v1/jobs/${run.job.id}/cancel`);
    expect((await tell(ask, run, 'heartbeat', {})).json.cancel_requested).toBe(true);
    const ended = await tell(ask, run, 'fail', { error: { message: 'stopped' } });
    expect(ended.json).toEqual({ run_id: run.run_id, run_status: 'canceled', job_status: 'canceled' });
    expect(await jobOf(run)).toMatchObject({ status: 'canceled', progress: { percent: 41 } });
  });

  it('keeps no lease beyond its time', async () => {
    const run = await begin({ timeout_ms: 5000 }, { lease_s: 300 });
    expect(run.lease_expires_at).toBe(run.deadline_at);
    const beat = await tell(ask, run, 'heartbeat', { lease_s: 300 });
    expect(beat.json.lease_expires_at).toBe(run.deadline_at);
    await tell(ask, run, 'complete', { output: null });
  });

  it('ends once; the end may be told again', async () => {
    const run = await begin();
    const output = { text: 'ü\u0001', list: [1, null] };
    const first = await tell(ask, run, 'complete', { output });
    expect(first.json).toEqual({ run_id: run.run_id, run_status: 'succeeded', job_status: 'succeeded' });
    expect((await tell(ask, run, 'complete', { output: 'other' })).json).toEqual(first.json);
    expect((await jobOf(run)).output).toEqual(output);
    for (const [what, body] of [
      ['fail', { error: { message: 'no' } }],
      ['release', {}],
      ['heartbeat', {}],
      ['progress', { percent: 1 }],
      ['log', { lines: [{ level: 'info', message: 'late' }] }],
    ] as const) {
      const refused = await tell(ask, run, what, body);
      expect(refused.json, what).toMatchObject({ status: 409, code: 'run_over', run_status: 'succeeded' });
    }
    expect((await jobOf(run)).progress).toBeUndefined();
    expect(await endsOf(ask, run.job.id)).toEqual(['succeeded']);
  });

  it('ends once when everything is told at once', async () => {
    const run = await begin();
    const told = await Promise.all([
      ...Array.from({ length: 5 }, (_, n) => tell(ask, run, 'complete', { output: n })),
      ...Array.from({ length: 5 }, () => tell(ask, run, 'fail', { error: { message: 'no' } })),
      ...Array.from({ length: 5 }, () => tell(ask, run, 'release')),
    ]);
    for (const { status, text } of told) expect([200, 409], text).toContain(status);
    const statuses = told.filter(({ status }) => status === 200).map(({ json }) => json.run_status);
    expect(new Set(statuses).size, 'all are told of one end').toBe(1);
    await finish(run.job.id);
    expect((await endsOf(ask, run.job.id))[0]).toBe(statuses[0]);
  });

  it('that was called off can still succeed', async () => {
    const run = await begin();
    await ask('POST', `/v1/jobs/${run.job.id}/cancel`);
    expect((await tell(ask, run, 'complete', { output: 1 })).json).toMatchObject({ job_status: 'succeeded' });
  });

  it('that was called off and given back is not begun again', async () => {
    const run = await begin();
    await ask('POST', `/v1/jobs/${run.job.id}/cancel`);
    expect((await tell(ask, run, 'release')).json).toMatchObject({ run_status: 'canceled', job_status: 'canceled' });
    expect(await claimRuns(ask, ['test.raw'])).toEqual([]);
  });

  it('that does not stop when it is called off is stopped, and its end refused', async () => {
    const run = await begin({}, { lease_s: 300 });
    await ask('POST', `/v1/jobs/${run.job.id}/cancel`);
    expect(await untilDone(ask, run.job.id, 30_000)).toMatchObject({ status: 'canceled' });
    const late = await tell(ask, run, 'complete', { output: 1 });
    expect(late.json).toMatchObject({ status: 409, code: 'run_over', run_status: 'canceled', job_status: 'canceled' });
    expect((await tell(ask, run, 'fail', { error: { message: 'stopped' } })).status, 'that it is').toBe(200);
  });

  it('that is given back is claimed again at once, and counts as no failure', async () => {
    const run = await begin({ retry: { max_runs: 1 } });
    expect((await tell(ask, run, 'release')).json).toMatchObject({ run_status: 'released', job_status: 'in_progress' });
    const next = await claimRun(ask, 'test.raw');
    expect(next).toMatchObject({ number: 2, job: { id: run.job.id } });
    const stale = await tell(ask, run, 'complete', { output: 'stale' });
    expect(stale.json).toMatchObject({ status: 409, code: 'run_over', run_status: 'released' });
    expect((await tell(ask, next, 'complete', { output: 'fresh' })).status).toBe(200);
    expect((await jobOf(run)).output).toBe('fresh');
  });

  it('that fails waits as long as it asks to', async () => {
    const run = await begin();
    await tell(ask, run, 'fail', { error: { code: 'busy', message: 'later' }, retry_after_s: 600 });
    const job = await jobOf(run);
    expect(job).toMatchObject({ status: 'in_progress' });
    expect(Date.parse(job.next_run_at) - Date.now()).toBeGreaterThan(590_000);
    await ask('POST', `/v1/jobs/${run.job.id}/cancel`);
  });

  it('has a log with a place for each line, however many calls it comes in, and not more than it may have', async () => {
    const run = await begin({}, { lease_s: 300 });
    const lines = Array.from({ length: 100 }, (_, n) => ({ level: 'debug', message: `line ${n}` }));
    const kept: number[] = [];
    for (let n = 0; n < 17; n++)
      kept.push(
        ...(await Promise.all(Array.from({ length: 6 }, () => tell(ask, run, 'log', { lines })))).map(
          ({ json }) => json.kept,
        ),
      );
    expect(kept.reduce((sum, count) => sum + count)).toBe(10_000);
    const [log] = await database.sql`
      SELECT count(*)::int AS lines, count(DISTINCT position)::int AS positions, max(position)::int AS last
      FROM ringback.job_logs WHERE job_id = ${run.job.id}`;
    expect(log).toEqual({ lines: 10_001, positions: 10_001, last: 1_010_001 });
    const [last] = await database.sql`
      SELECT level, message FROM ringback.job_logs WHERE job_id = ${run.job.id} ORDER BY position DESC LIMIT 1`;
    expect(last).toMatchObject({ level: 'warn', message: expect.stringContaining('10000') });
    await tell(ask, run, 'complete', { output: null });
  });

  it('has long lines cut, and odd ones made storable', async () => {
    const run = await begin();
    const message = `${'x'.repeat(3999)}\u{1f600}`;
    const lines = [
      { level: 'info', message },
      { level: 'warn', message: 'a\0b', fields: { big: 'y'.repeat(20_000) } },
      { level: 'error', message: '', fields: { lone: 'ok', nested: { a: [1] } } },
    ];
    expect((await tell(ask, run, 'log', { lines })).json).toEqual({ kept: 3 });
    const log = await database.sql`
      SELECT level, message, fields FROM ringback.job_logs WHERE job_id = ${run.job.id} ORDER BY position`;
    expect([...log]).toEqual([
      { level: 'info', message: `${'x'.repeat(3999)}\ufffd`, fields: null },
      { level: 'warn', message: 'a\ufffdb', fields: { ringback: expect.any(String) } },
      { level: 'error', message: '', fields: { lone: 'ok', nested: { a: [1] } } },
    ]);
    await tell(ask, run, 'complete', { output: null });
  });
});

it('leaves no error in the log, and one line for each end', () => {
  expect(errorsIn(service.main.logs)).toEqual([]);
  const ends = service.main.logs.filter(({ msg, worker_id: worker }) => msg === 'run' && worker === 'test');
  expect(ends.length).toBeGreaterThan(5);
  expect(ends[0]).toMatchObject({ run: 'canceled', job: 'canceled', type: 'test.raw', number: 1 });
});
