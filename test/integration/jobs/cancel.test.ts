import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { newId } from '#domain/ids.ts';
import { claimRuns } from '#store/claim-runs.ts';
import { endRuns } from '#store/end-runs.ts';
import { NonRetryableError } from '../../../src/jobs/type/define.ts';
import { useDatabase } from '../../support/database.ts';
import { eventually } from '../../support/eventually.ts';
import { accepted, claimRun, makeAccount, RELEASED, runClaim, runEnd } from '../../support/fixtures.ts';
import {
  callbackBody,
  endOfJob,
  type Handler,
  jobType,
  readJob,
  runsOfJob,
  type SubmittedJob,
  submitJob,
} from '../../support/job-life.ts';
import { errorsIn } from '../../support/log.ts';
import { makeCanceler, startRunner } from '../../support/workers.ts';

const database = useDatabase();

beforeEach(async () => {
  await database.sql`DELETE FROM ringback.run_queue`;
});

const parts = () => ({ database });
const submit = (options?: Parameters<typeof submitJob>[1]) => submitJob(database, { withCallback: true, ...options });
const cancel = ({ accountId, id }: SubmittedJob, canceler = makeCanceler(parts(), [])) =>
  canceler.cancel(accountId, id);
const read = (job: SubmittedJob) => readJob(database, job);
const ended = (job: SubmittedJob) => endOfJob(database, job);
const runs = (job: SubmittedJob) => runsOfJob(database, job);
const eventsOf = ({ id }: SubmittedJob) =>
  database.sql<{ type: string; sequence: number }[]>`
    SELECT type, sequence FROM ringback.events WHERE job_id = ${id} ORDER BY sequence`;

const CANCELED = { status: 'canceled', error: { code: 'canceled' } };
const HOUR_AWAY = new Date(Date.now() + 3_600_000);
const FOREVER: Handler = () => new Promise(() => {});
const UNTIL_TOLD: Handler = ({ signal }) =>
  new Promise((_, reject) => {
    signal.addEventListener('abort', () => reject(signal.reason as Error));
  });

/** A runner under way with the job, and a canceler that tells it, as one process has both. */
async function running(job: SubmittedJob, run: Handler, cancelGraceMs = 60_000) {
  const started = Promise.withResolvers<AbortSignal>();
  const handler: Handler = (context) => {
    started.resolve(context.signal);
    return run(context);
  };
  const runner = startRunner(parts(), [jobType(handler)], { cancelGraceMs });
  const canceler = makeCanceler(parts(), [], { signalCancel: (id) => runner.worker.cancel(id) });
  return { ...runner, canceler, signal: await started.promise, job };
}

describe('a job that waits is canceled at once, with its callback:', () => {
  test.each<[string, () => Promise<SubmittedJob>, string[], number]>([
    ['for a worker', () => submit(), ['job.queued'], 0],
    ['for its time', () => submit({ runAt: HOUR_AWAY }), ['job.queued'], 0],
    ['for its next run', () => failedOnce(), ['job.queued', 'job.started', 'job.retrying'], 1],
    ['for its next run, given back', () => givenBack(), ['job.queued', 'job.started', 'job.retrying'], 1],
  ])('%s', async (_for, make, before, runCount) => {
    const job = await make();
    const answer = accepted(await cancel(job));
    expect(answer).toMatchObject({ ...CANCELED, runCount, nextRunAt: null, cancelRequestedAt: null });
    expect(answer).toEqual(await read(job));
    expect((await eventsOf(job)).map(({ type }) => type)).toEqual([...before, 'job.canceled']);
    const callback = await callbackBody(database, job);
    expect(callback).toMatchObject({ type: 'job.canceled', sequence: before.length + 1 });
    expect(callback.data.job).toMatchObject({ ...CANCELED, runs: runCount });
    expect(await database.sql`SELECT FROM ringback.run_queue WHERE job_id = ${job.id}`).toHaveLength(0);
    const deliveries = await database.sql`
      SELECT FROM ringback.delivery_queue AS item JOIN ringback.deliveries AS delivery ON delivery.id = item.delivery_id
      WHERE delivery.job_id = ${job.id}`;
    expect(deliveries, 'it is to be told').toHaveLength(1);
  });

  async function failedOnce(): Promise<SubmittedJob> {
    const job = await submit();
    const failed = { runStatus: 'failed', runError: { code: 'handler_error', message: 'x' } } as const;
    const end = { ...failed, jobStatus: 'in_progress', nextRunAt: HOUR_AWAY } as const;
    await endRuns(database.sql, [runEnd(await claimRun(database.db, job), end)]);
    return job;
  }

  async function givenBack(): Promise<SubmittedJob> {
    const job = await submit();
    await endRuns(database.sql, [runEnd(await claimRun(database.db, job), RELEASED)]);
    return job;
  }

  test('and is not run any more', async () => {
    const [canceled, other] = [await submit(), await submit()];
    await cancel(canceled);
    const seen: string[] = [];
    startRunner(parts(), [jobType(({ job: { id } }) => void seen.push(id))]);
    await ended(other);
    expect(seen).toEqual([other.id]);
  });
});

describe('a job that runs', () => {
  test('is told to stop, shows that, and is canceled once it has', async () => {
    const job = await submit();
    const gate = Promise.withResolvers<void>();
    const { canceler, signal, lines } = await running(job, async ({ signal: told }) => {
      await gate.promise;
      told.throwIfAborted();
    });
    const answer = accepted(await cancel(job, canceler));
    expect(answer).toMatchObject({ status: 'in_progress', cancelRequestedAt: expect.any(Date), finishedAt: null });
    await eventually(() => expect(signal.aborted).toBe(true));
    expect(signal.reason).toMatchObject({ name: 'AbortError', message: 'The job was canceled.' });
    gate.resolve();
    expect(await ended(job)).toMatchObject({ ...CANCELED, cancelRequestedAt: answer.cancelRequestedAt });
    expect(await runs(job)).toEqual([[1, 'canceled', 'canceled']]);
    expect(await callbackBody(database, job)).toMatchObject({ type: 'job.canceled', sequence: 3 });
    expect(errorsIn(lines)).toEqual([]);
  });

  test('and does not listen is canceled after the grace, and nobody waits for it', async () => {
    const job = await submit();
    const { canceler } = await running(job, FOREVER, 50);
    await cancel(job, canceler);
    expect(await ended(job)).toMatchObject(CANCELED);
    expect(await runs(job)).toEqual([[1, 'canceled', 'canceled']]);
  });

  test('and ends well before it could be stopped has ended well', async () => {
    const job = await submit();
    const gate = Promise.withResolvers<string>();
    const { canceler } = await running(job, () => gate.promise);
    await cancel(job, canceler);
    gate.resolve('done');
    expect(await ended(job)).toMatchObject({ status: 'succeeded', outputText: '"done"', error: null });
    expect(await runs(job)).toEqual([[1, 'succeeded', null]]);
  });

  test('is canceled however it fails, whatever runs are left', async () => {
    for (const reason of [new Error('broken'), new NonRetryableError('for good'), 'nothing']) {
      const job = await submit();
      const gate = Promise.withResolvers<never>();
      const { canceler, worker } = await running(job, () => gate.promise);
      await cancel(job, canceler);
      gate.reject(reason);
      expect(await ended(job)).toMatchObject(CANCELED);
      await worker.stop(0);
    }
  });

  test('in a process that is told to stop meanwhile is canceled, not given back', async () => {
    const job = await submit();
    const { canceler, worker } = await running(job, FOREVER);
    await cancel(job, canceler);
    await worker.stop(0);
    expect(await read(job)).toMatchObject(CANCELED);
    expect(await runs(job)).toEqual([[1, 'canceled', 'canceled']]);
  });

  test.each<[string, Handler, number, string, string]>([
    ['fails', () => Promise.reject(new Error('x')), 60_000, 'failed', 'handler_error'],
    ['takes too long', FOREVER, 20, 'timed_out', 'timeout'],
  ])('and %s before the word reaches its worker is canceled: no run follows', async (_how, run, ms, status, code) => {
    const job = await submit({ runTimeoutMs: ms });
    const gate = Promise.withResolvers<void>();
    const silent = makeCanceler(parts(), []);
    await running(job, async (context) => {
      await gate.promise;
      return run(context);
    });
    expect(accepted(await cancel(job, silent))).toMatchObject({ status: 'in_progress' });
    gate.resolve();
    expect(await ended(job)).toMatchObject({ ...CANCELED, failureCount: 1, runCount: 1 });
    expect(await runs(job)).toEqual([[1, status, code]]);
    expect(await callbackBody(database, job)).toMatchObject({ type: 'job.canceled', sequence: 3 });
  });
});

describe('a run whose worker did not get the word', () => {
  beforeEach(() => void vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval', 'Date'] }));
  afterEach(() => void vi.useRealTimers());

  test('hears it when its lease is renewed', async () => {
    const job = await submit();
    const { signal } = await running(job, UNTIL_TOLD);
    await cancel(job, makeCanceler(parts(), []));
    await eventually(() => {
      vi.advanceTimersByTime(5000);
      expect(signal.aborted).toBe(true);
    });
    expect(await ended(job)).toMatchObject(CANCELED);
  });
});

describe('a cancel', () => {
  test('of a job that is over answers it unchanged, as often as it is asked', async () => {
    const job = await submit();
    await endRuns(database.sql, [runEnd(await claimRun(database.db, job))]);
    const before = await read(job);
    for (const _ of [1, 2]) expect(accepted(await cancel(job))).toEqual(before);
    expect(await read(job)).toEqual(before);
    expect(await eventsOf(job)).toHaveLength(3);
  });

  test('asked twice, or ten times at once, cancels once', async () => {
    const job = await submit();
    const answers = await Promise.all(Array.from({ length: 10 }, () => cancel(job)));
    const after = await read(job);
    expect(answers.map((answer) => accepted(answer))).toEqual(answers.map(() => after));
    expect((await eventsOf(job)).map(({ type }) => type)).toEqual(['job.queued', 'job.canceled']);
  });

  test('asked twice of a run keeps the time of the first', async () => {
    const job = await submit();
    await claimRun(database.db, job);
    const first = accepted(await cancel(job));
    expect(accepted(await cancel(job))).toEqual(first);
  });

  test('of another account’s job finds none, and changes nothing', async () => {
    const job = await submit();
    const { accountId } = await makeAccount(database.db);
    expect(await cancel({ ...job, accountId })).toMatchObject({ ok: false, code: 'job_not_found' });
    expect(await cancel({ ...job, id: newId('job', 1) })).toMatchObject({ ok: false, code: 'job_not_found' });
    expect(await read(job)).toMatchObject({ status: 'queued' });
  });

  test('that meets a claim in the same moment is either first, or of a run: never lost, never both', async () => {
    const seen = new Set<string>();
    for (let round = 0; round < 40; round++) {
      const job = await submit({ pool: `test:${round}` });
      const [answer, { jobs }] = await Promise.all([
        cancel(job).then(accepted),
        claimRuns(database.db, runClaim({ pool: `test:${round}` })),
      ]);
      const [run] = jobs;
      seen.add(answer.status);
      if (answer.status === 'canceled') {
        expect(run).toBeUndefined();
      } else {
        expect(answer).toMatchObject({ status: 'in_progress', runId: run!.runId, cancelRequestedAt: expect.any(Date) });
        const again = { runStatus: 'failed', runError: { code: 'x', message: 'x' }, nextRunAt: HOUR_AWAY } as const;
        const refused = await endRuns(database.sql, [runEnd(run!, { ...again, jobStatus: 'in_progress' })]);
        expect(refused.size, 'what was called off is not run again').toBe(0);
      }
    }
    expect(seen.size, 'both ways were seen').toBeGreaterThan(0);
  });

  test('that meets runs which fail and are tried again at once wins in the end, and says what happened', async () => {
    const failing = jobType(() => Promise.reject(new Error('x')), { retry: { maxRuns: 100, minDelayMs: 0 } });
    const { worker } = startRunner(parts(), [failing], { pollMs: 5 });
    const canceler = makeCanceler(parts(), [failing], { signalCancel: (id) => worker.cancel(id) });
    const jobs = await Promise.all(Array.from({ length: 30 }, () => submit()));
    await eventually(async () => {
      const all = await Promise.all(jobs.map(read));
      expect(Math.min(...all.map(({ runCount }) => runCount))).toBeGreaterThan(0);
    });
    await Promise.all(jobs.map((job) => cancel(job, canceler)));
    for (const job of jobs) {
      const row = await ended(job);
      expect(row).toMatchObject(CANCELED);
      const events = await eventsOf(job);
      expect(events.map(({ sequence }) => sequence)).toEqual(events.map((_, index) => index + 1));
      const callback = await callbackBody(database, job);
      expect(callback).toMatchObject({ type: 'job.canceled', sequence: events.length });
      expect(callback.data.job).toMatchObject({ runs: row.runCount });
      expect(await runs(job)).toHaveLength(row.runCount);
    }
  });
});
