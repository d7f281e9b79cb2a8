import { afterEach, beforeEach, describe, expect, onTestFinished, test, vi } from 'vitest';
import { newId, timeOf } from '#domain/ids.ts';
import { claimRuns } from '#store/claim-runs.ts';
import { rescueRuns } from '../../../src/jobs/run/rescue.ts';
import { useDatabase } from '../../support/database.ts';
import { eventually } from '../../support/eventually.ts';
import { claimRun, makeDue, runClaim } from '../../support/fixtures.ts';
import {
  callbackBody,
  endOfJob,
  jobType,
  readJob,
  runsOfJob,
  type SubmittedJob,
  submitJob,
} from '../../support/job-life.ts';
import { makeEndings, rescueDeps, startRunner } from '../../support/workers.ts';

const database = useDatabase();

beforeEach(async () => {
  await database.sql`DELETE FROM ringback.delivery_queue`;
  await database.sql`DELETE FROM ringback.run_queue`;
});

const parts = () => ({ database });
const submit = (options?: Parameters<typeof submitJob>[1]) => submitJob(database, options);
const read = (job: SubmittedJob) => readJob(database, job);
const ended = (job: SubmittedJob) => endOfJob(database, job);
const statuses = async (job: SubmittedJob) =>
  (await runsOfJob(database, job)).map(([number, status]) => [number, status]);

/** A worker that claims the job and is never heard of again, for so long that its lease has run out. */
async function claimAndDie(job: SubmittedJob): Promise<void> {
  await claimRun(database.db, job, { workerId: newId('wrk', timeOf(job.id)) });
  await lapse();
}

const lapse = () =>
  database.sql`UPDATE ringback.run_queue SET lease_expires_at = now() - interval '1 hour' WHERE state = 'leased'`;

/** What the keeper does every few seconds, once; answers when the jobs that go on are due. */
async function keep(jobs = [jobType(() => null)]): Promise<number[]> {
  const dueAt: number[] = [];
  const endings = makeEndings(parts(), { dueAt: (at) => void dueAt.push(at) });
  await rescueRuns(rescueDeps(parts(), jobs, { endings }));
  return dueAt;
}

describe('a runner that stops', () => {
  test('lets what runs finish within the grace', async () => {
    const job = await submit();
    const gate = Promise.withResolvers<void>();
    const started = Promise.withResolvers<void>();
    const { worker } = startRunner(parts(), [
      jobType(async () => {
        started.resolve();
        await gate.promise;
        return 'done';
      }),
    ]);
    await started.promise;
    const stopping = worker.stop(60_000);
    gate.resolve();
    await stopping;
    expect(await read(job)).toMatchObject({ status: 'succeeded', outputText: '"done"' });
  });

  test('gives back what does not, and another runner runs it again, with no failure counted', async () => {
    const job = await submit();
    const started = Promise.withResolvers<AbortSignal>();
    const { worker } = startRunner(parts(), [
      jobType(({ signal }) => {
        started.resolve(signal);
        return new Promise(() => {});
      }),
    ]);
    const signal = await started.promise;
    await worker.stop(0);
    expect(signal.aborted).toBe(true);
    expect(await statuses(job)).toEqual([[1, 'released']]);
    expect(await read(job)).toMatchObject({ status: 'in_progress', failureCount: 0, runId: null });
    startRunner(parts(), [jobType(({ run: { number } }) => number, { retry: { maxRuns: 1 } })]);
    expect(await ended(job)).toMatchObject({ status: 'succeeded', outputText: '2', failureCount: 0 });
    expect(await statuses(job)).toEqual([
      [1, 'released'],
      [2, 'succeeded'],
    ]);
  });

  test('takes nothing new', async () => {
    const { worker } = startRunner(parts(), [jobType(() => null)]);
    await worker.stop(0);
    const job = await submit();
    for (const { loop } of worker.pools) loop.wake();
    await database.sql`SELECT 1`;
    expect(await read(job)).toMatchObject({ status: 'queued', runCount: 0 });
  });
});

describe('a worker that died', () => {
  test('leaves a run on record as lost, and the job is run again after a pause', async () => {
    const job = await submit();
    await claimAndDie(job);
    const now = Date.now();
    const [dueAt] = await keep();
    expect(await read(job)).toMatchObject({ status: 'in_progress', runId: null, nextRunAt: new Date(dueAt!) });
    expect(dueAt! - now, 'a second, less a fifth').toBeGreaterThanOrEqual(800);
    startRunner(parts(), [jobType(({ run: { number } }) => number)]);
    await makeDue(database.db, job);
    expect(await ended(job)).toMatchObject({ status: 'succeeded', outputText: '2', failureCount: 1, runCount: 2 });
    expect(await statuses(job)).toEqual([
      [1, 'lost'],
      [2, 'succeeded'],
    ]);
    expect(await keep(), 'nothing is left to rescue').toEqual([]);
  });

  test('is not held against a job for ever: after as many losses as it may have runs, it fails and tells so', async () => {
    const job = await submit({ withCallback: true });
    const type = jobType(() => expect.fail('it was run again'), { retry: { maxRuns: 2 } });
    await claimAndDie(job);
    await keep([type]);
    await makeDue(database.db, job);
    await claimAndDie(job);
    expect(await keep([type])).toEqual([]);
    expect(await read(job)).toMatchObject({ status: 'failed', error: { code: 'worker_lost' }, failureCount: 2 });
    expect(await statuses(job)).toEqual([
      [1, 'lost'],
      [2, 'lost'],
    ]);
    expect(await callbackBody(database, job)).toMatchObject({ type: 'job.failed', sequence: 4 });
    expect(await database.sql`SELECT endpoint_id AS endpoint FROM ringback.delivery_queue`).toEqual([
      { endpoint: job.endpoint!.id },
    ]);
    expect(await database.sql`SELECT FROM ringback.run_queue`).toHaveLength(0);
  });
});

describe('a worker that was only slow', () => {
  /** Runs the job in one runner, takes its lease away, and lets a second runner claim it. */
  async function overtaken(firstEnds: Promise<unknown>) {
    const job = await submit();
    const signals: AbortSignal[] = [];
    const handler = jobType(async ({ run: { number }, signal }) => {
      signals.push(signal);
      if (number === 1) await firstEnds;
      return `run ${number}`;
    });
    const first = startRunner(parts(), [handler], { pollMs: 3_600_000 });
    await eventually(() => expect(signals).toHaveLength(1));
    await lapse();
    await keep();
    await makeDue(database.db, job);
    const second = startRunner(parts(), [handler]);
    return { job, first, second, signals };
  }

  test('is refused when it comes back after the job has ended, and writes nothing', async () => {
    const gate = Promise.withResolvers<void>();
    const { job, first } = await overtaken(gate.promise);
    const before = await ended(job);
    expect(before).toMatchObject({ status: 'succeeded', outputText: '"run 2"' });
    gate.resolve();
    await eventually(() => expect(first.lines.filter(({ msg }) => msg === 'run')).toMatchObject([{ run: 'refused' }]));
    expect(await read(job)).toEqual(before);
    expect(await statuses(job)).toEqual([
      [1, 'lost'],
      [2, 'succeeded'],
    ]);
    const events = await database.sql`SELECT type FROM ringback.events WHERE job_id = ${job.id} ORDER BY sequence`;
    expect(events.map(({ type }) => type as string)).toEqual([
      'job.queued',
      'job.started',
      'job.retrying',
      'job.succeeded',
    ]);
  });
});

describe('a handler whose lease was lost', () => {
  beforeEach(() => void vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval'] }));
  afterEach(() => void vi.useRealTimers());

  test('is told by its signal, as its documentation promises', async () => {
    const job = await submit();
    const started = Promise.withResolvers<AbortSignal>();
    startRunner(parts(), [
      jobType(({ signal }) => {
        started.resolve(signal);
        return new Promise(() => {});
      }),
    ]);
    const signal = await started.promise;
    await lapse();
    await keep();
    await database.sql`UPDATE ringback.run_queue SET pool = 'elsewhere' WHERE job_id = ${job.id}`;
    await makeDue(database.db, job);
    const again = await claimRuns(database.db, runClaim({ pool: 'elsewhere' }));
    expect(again.jobs, 'a pool that the runner does not look at').toHaveLength(1);
    const tick = setInterval(() => {}, 1);
    onTestFinished(() => clearInterval(tick));
    await eventually(() => {
      vi.advanceTimersByTime(5000);
      expect(signal.aborted).toBe(true);
    }, 3000);
  });
});

test('many runners share a queue, and run each job once', async () => {
  const jobs = await Promise.all(Array.from({ length: 60 }, () => submit()));
  const runs = new Map<string, number>();
  const counting = jobType(({ job: { id } }) => void runs.set(id, (runs.get(id) ?? 0) + 1));
  for (let count = 0; count < 3; count++) startRunner(parts(), [counting]);
  for (const job of jobs) await ended(job);
  expect(new Set(runs.values())).toEqual(new Set([1]));
  expect(runs.size).toBe(60);
});
