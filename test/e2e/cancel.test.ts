import { describe, expect, it } from 'vitest';
import { useDatabase } from '../support/database.ts';
import { eventually } from '../support/eventually.ts';
import { makeAccount } from '../support/fixtures.ts';
import { startReceiver } from '../support/receiver.ts';
import { type Answer, client, submit, untilDone } from './support/api.ts';
import { claimRun, endsOf, tell } from './support/claims.ts';
import { JOB_SIDE, serviceEnv, useService } from './support/main-process.ts';
import { expectProblem } from './support/problem.ts';

const database = useDatabase();
const key = 'rbk_for-cancels';
const service = useService(() =>
  serviceEnv(database.url, {
    RINGBACK_BOOTSTRAP_KEY: key,
    RINGBACK_CONFIG: JOB_SIDE,
    RINGBACK_CANCEL_GRACE_MS: '300',
  }),
);
const ask = (...args: Parameters<ReturnType<typeof client>>) => client(service.url, key)(...args);

const CANCELED = { status: 'canceled', done: true, error: { code: 'canceled', message: expect.any(String) } };
const anHourOn = () => new Date(Date.now() + 3_600_000).toISOString();

async function cancel(id: string): Promise<Answer> {
  const answer = await ask('POST', `/v1/jobs/${id}/cancel`);
  expect(answer.status, answer.text).toBe(200);
  expect(answer.json.id).toBe(id);
  return answer;
}

const statusOf = async (id: string) => (await ask('GET', `/v1/jobs/${id}`)).json;

/** Until it shows that; answers its id. */
async function submitUntil(submission: object, shows: object): Promise<string> {
  const { id } = await submit(ask, submission);
  await eventually(async () => expect(await statusOf(id)).toMatchObject(shows));
  return id;
}

describe('a job that waits is canceled at once:', () => {
  it.each([
    ['for a worker', { type: 'remote.number', input: 1 }],
    ['for its time', { type: 'ringback.echo', input: 1, run_at: anHourOn() }],
    ['for its time, though it would expire', { type: 'remote.number', input: 1, expires_at: anHourOn() }],
  ])('%s', async (_for, submission) => {
    const { id } = await submit(ask, submission);
    const { json } = await cancel(id);
    expect(json).toMatchObject({ ...CANCELED, runs: 0, finished_at: expect.any(String) });
    for (const member of ['started_at', 'next_run_at', 'cancel_requested_at', 'output', 'result_url'])
      expect(json).not.toHaveProperty(member);
    expect(await statusOf(id)).toEqual(json);
    expect(await endsOf(ask, id)).toEqual([]);
    expect(expectProblem(await ask('GET', `/v1/jobs/${id}/result`), 'no_result')).toMatchObject({
      job_status: 'canceled',
    });
  });

  it('for its next run, which does not come any more', async () => {
    const failing = { type: 'ringback.fail', input: { times: 3 }, retry: { min_delay_ms: 3_600_000 } };
    const id = await submitUntil(failing, { next_run_at: expect.any(String) });
    const { json } = await cancel(id);
    expect(json).toMatchObject({ ...CANCELED, runs: 1, started_at: expect.any(String) });
    expect(json).not.toHaveProperty('next_run_at');
    expect(await endsOf(ask, id)).toEqual(['failed']);
  });

  it('and is not handed to a worker', async () => {
    const [canceled, other] = [1, 2].map(() => submit(ask, { type: 'remote.number', input: 1 }));
    const { id } = await canceled!;
    await cancel(id);
    const run = await claimRun(ask, 'remote.number');
    expect(run.job.id).toBe((await other!).id);
    await tell(ask, run, 'complete', { output: 1 });
  });
});

describe('a job that runs', () => {
  it('is told to stop, and is canceled once it has', async () => {
    const id = await submitUntil({ type: 'ringback.sleep', input: { ms: 600_000 } }, { status: 'in_progress' });
    const asked = await cancel(id);
    expect(asked.json).toHaveProperty('started_at');
    const ended = await untilDone(ask, id);
    expect(ended).toMatchObject({ ...CANCELED, runs: 1, started_at: asked.json.started_at });
    expect(await endsOf(ask, id)).toEqual(['canceled']);
  });

  it('and does not listen is canceled after the grace, and shows until then that it was called off', async () => {
    const id = await submitUntil({ type: 'stubborn.wait', input: { ms: 600_000 } }, { status: 'in_progress' });
    const asked = await cancel(id);
    expect(asked.json).toMatchObject({ status: 'in_progress', done: false, cancel_requested_at: expect.any(String) });
    const again = await cancel(id);
    expect(again.json.cancel_requested_at).toBe(asked.json.cancel_requested_at);
    const ended = await untilDone(ask, id);
    expect(ended).toMatchObject({ ...CANCELED, cancel_requested_at: asked.json.cancel_requested_at });
    const graceMs = Date.parse(ended.finished_at) - Date.parse(asked.json.cancel_requested_at);
    expect(graceMs).toBeGreaterThanOrEqual(250);
    expect(await endsOf(ask, id)).toEqual(['canceled']);
  });

  it('and ends well within the grace has ended well', async () => {
    const id = await submitUntil({ type: 'stubborn.wait', input: { ms: 200 } }, { started_at: expect.any(String) });
    await cancel(id);
    // However late it was called off, it succeeds.
    expect(await untilDone(ask, id)).toMatchObject({ status: 'succeeded', output: 200 });
  });

  it('leaves room for the next of its type once it is canceled', async () => {
    const sleepers = [1, 2].map(() =>
      submitUntil({ type: 'limited.sleep', input: { ms: 600_000 } }, { status: 'in_progress' }),
    );
    const [first, second] = await Promise.all(sleepers);
    const { id: third } = await submit(ask, { type: 'limited.sleep', input: { ms: 0 } });
    await cancel(first!);
    expect(await untilDone(ask, third)).toMatchObject({ status: 'succeeded' });
    expect((await statusOf(second!)).status).toBe('in_progress');
    await cancel(second!);
  });
});

describe('a cancel', () => {
  it.each([
    ['succeeded', { type: 'ringback.echo', input: 'done' }],
    ['failed', { type: 'ringback.fail', input: { times: 1 }, retry: { max_runs: 1 } }],
  ])('of a job that has %s changes nothing, as often as it is asked', async (status, submission) => {
    const { id } = await submit(ask, submission);
    const before = await untilDone(ask, id);
    expect(before.status).toBe(status);
    for (const _ of [1, 2]) expect((await cancel(id)).json).toEqual(before);
    expect(await statusOf(id)).toEqual(before);
  });

  it('asked twice, or twenty times at once, cancels once', async () => {
    const { id } = await submit(ask, { type: 'remote.number', input: 1 });
    const answers = await Promise.all(Array.from({ length: 20 }, () => cancel(id)));
    const canceled = await statusOf(id);
    for (const { json } of answers) expect(json).toEqual(canceled);
    expect((await cancel(id)).json).toEqual(canceled);
    const events = await database.sql`SELECT type FROM ringback.events WHERE job_id = ${id} ORDER BY sequence`;
    expect(events.map(({ type }) => type as string)).toEqual(['job.queued', 'job.canceled']);
  });

  it('of a job that is not there is refused, and so is that of another account’s, which goes on', async () => {
    const { id } = await submit(ask, { type: 'remote.number', input: 1 });
    const stranger = client(service.url, (await makeAccount(database.db)).key);
    expectProblem(await stranger('POST', `/v1/jobs/${id}/cancel`), 'job_not_found');
    expect((await statusOf(id)).status).toBe('queued');
    expectProblem(await ask('POST', `/v1/jobs/job_${'0'.repeat(26)}/cancel`), 'job_not_found');
    expectProblem(await ask('POST', '/v1/jobs/4711/cancel'), 'invalid_id');
    expectProblem(await ask('GET', `/v1/jobs/${id}/cancel`), 'method_not_allowed');
    await cancel(id);
  });

  it('may come with a body, which is not read', async () => {
    const { id } = await submit(ask, { type: 'ringback.echo', input: 1, run_at: anHourOn() });
    const answer = await ask('POST', `/v1/jobs/${id}/cancel`, '{"reason":');
    expect(answer).toMatchObject({ status: 200, json: { status: 'canceled' } });
  });
});

describe('the callback of a canceled job', () => {
  it.each([
    ['that waited', { type: 'remote.number', input: 1 }, 'queued', 2],
    ['that ran', { type: 'ringback.sleep', input: { ms: 600_000 } }, 'in_progress', 3],
    ['that did not listen', { type: 'stubborn.wait', input: { ms: 600_000 } }, 'in_progress', 3],
  ])('%s says so, and shows the job as its status does', async (_which, submission, status, sequence) => {
    const receiver = await startReceiver();
    const id = await submitUntil({ ...submission, callback: { url: receiver.url } }, { status });
    await cancel(id);
    const { json } = await receiver.next();
    const job = await statusOf(id);
    expect(json).toEqual({ type: 'job.canceled', timestamp: job.finished_at, sequence, data: { job } });
    expect(job).toMatchObject(CANCELED);
  });

  it('comes to those who asked for it, and not to those who asked for others', async () => {
    const receiver = await startReceiver();
    const events = [['job.succeeded'], ['job.failed', 'job.canceled']];
    const jobs = await Promise.all(
      events.map((some) =>
        submit(ask, { type: 'remote.number', input: 1, callback: { url: receiver.url, events: some } }),
      ),
    );
    for (const { id } of jobs) await cancel(id);
    const { json } = await receiver.next();
    expect(json).toMatchObject({ type: 'job.canceled', data: { job: { id: jobs[1].id } } });
    const deliveries = await ask('GET', `/v1/jobs/${jobs[0].id}/deliveries`);
    expect(deliveries.json.items).toEqual([]);
  });
});
