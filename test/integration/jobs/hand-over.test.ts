import { afterEach, beforeEach, describe, expect, onTestFinished, test, vi } from 'vitest';
import { newId, timeOf } from '#domain/ids.ts';
import { Keeper } from '../../../src/keeper/keeper.ts';
import { useDatabase } from '../../support/database.ts';
import { eventually } from '../../support/eventually.ts';
import { claimRun, inTransaction } from '../../support/fixtures.ts';
import { endOfJob, jobType, readJob, runsOfJob, type SubmittedJob, submitJob } from '../../support/job-life.ts';
import { memoryLog } from '../../support/log.ts';
import { useQueues } from '../../support/queues.ts';
import { startRunner } from '../../support/workers.ts';

const database = useDatabase();
const queues = useQueues(database);

beforeEach(async () => {
  await database.sql`DELETE FROM pgboss.job`;
});

const parts = () => ({ database, queues: queues.get() });
const submit = () => submitJob(parts());
const read = (job: SubmittedJob) => readJob(database, job);
const ended = (job: SubmittedJob) => endOfJob(database, job);
const statuses = async (job: SubmittedJob) =>
  (await runsOfJob(database, job)).map(([number, status]) => [number, status]);

/** A worker that claims the job and is never heard of again, for so long that its lease has run out. */
async function claimAndDie(job: SubmittedJob, earlierLost = false): Promise<void> {
  await inTransaction(database.db, async (tx) => {
    const [item] = await queues.get().runs.claim(tx, 1);
    expect(item?.data.jobId).toBe(job.id);
  });
  await claimRun(database.db, job, { earlierLost, workerId: newId('wrk', timeOf(job.id)) });
  await lapse();
}

const lapse = () => database.sql`UPDATE pgboss.job SET heartbeat_on = now() - interval '1 hour' WHERE state = 'active'`;

/** What the keeper does every few seconds, once. */
async function keep(): Promise<string[]> {
  const announced: string[] = [];
  const { log } = memoryLog();
  const keeper = new Keeper({ db: database.db, queues: queues.get(), log, announce: (queue) => announced.push(queue) });
  keeper.start();
  await keeper.stop();
  return announced;
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
    expect(await read(job)).toMatchObject({ status: 'succeeded', output: 'done' });
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
    startRunner(parts(), [jobType(({ run: { number } }) => number, { maxRuns: 1 })]);
    expect(await ended(job)).toMatchObject({ status: 'succeeded', output: 2, failureCount: 0 });
    expect(await statuses(job)).toEqual([
      [1, 'released'],
      [2, 'succeeded'],
    ]);
  });

  test('takes nothing new', async () => {
    const { worker } = startRunner(parts(), [jobType(() => null)]);
    await worker.stop(0);
    const job = await submit();
    worker.loop.wake();
    await database.sql`SELECT 1`;
    expect(await read(job)).toMatchObject({ status: 'queued', runCount: 0 });
  });
});

describe('a worker that died', () => {
  test('leaves a run on record as lost, and the job is run again', async () => {
    const job = await submit();
    await claimAndDie(job);
    expect(await keep()).toEqual(['run']);
    const { worker } = startRunner(parts(), [jobType(({ run: { number } }) => number)]);
    worker.loop.wake();
    expect(await ended(job)).toMatchObject({ status: 'succeeded', output: 2, failureCount: 1, runCount: 2 });
    expect(await statuses(job)).toEqual([
      [1, 'lost'],
      [2, 'succeeded'],
    ]);
    expect(await keep(), 'nothing is left to rescue').toEqual([]);
  });

  test('is not held against a job for ever: after as many losses as it may have runs, it fails', async () => {
    const job = await submit();
    await claimAndDie(job);
    await keep();
    await claimAndDie(job, true);
    await keep();
    startRunner(parts(), [jobType(() => expect.fail('it was run again'), { maxRuns: 2 })]);
    expect(await ended(job)).toMatchObject({ status: 'failed', error: { code: 'worker_lost' } });
    expect(await database.sql`SELECT FROM pgboss.job`).toHaveLength(0);
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
    const second = startRunner(parts(), [handler]);
    return { job, first, second, signals };
  }

  test('is refused when it comes back after the job has ended, and writes nothing', async () => {
    const gate = Promise.withResolvers<void>();
    const { job, first } = await overtaken(gate.promise);
    const before = await ended(job);
    expect(before).toMatchObject({ status: 'succeeded', output: 'run 2' });
    gate.resolve();
    await eventually(() => expect(first.lines.filter(({ msg }) => msg === 'run')).toMatchObject([{ run: 'refused' }]));
    expect(await read(job)).toEqual(before);
    expect(await statuses(job)).toEqual([
      [1, 'lost'],
      [2, 'succeeded'],
    ]);
    expect(await database.sql`SELECT FROM ringback.events WHERE job_id = ${job.id}`).toHaveLength(3);
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
    await inTransaction(database.db, (tx) => queues.get().runs.claim(tx, 1));
    await claimRun(database.db, job, { earlierLost: true });
    const tick = setInterval(() => {}, 1);
    onTestFinished(() => clearInterval(tick));
    await eventually(() => {
      vi.advanceTimersByTime(5000);
      expect(signal.aborted).toBe(true);
    }, 3000);
  });
});

test('many runners share a queue, and run each job once', async () => {
  const jobs = await Promise.all(Array.from({ length: 60 }, submit));
  const runs = new Map<string, number>();
  const counting = jobType(({ job: { id } }) => void runs.set(id, (runs.get(id) ?? 0) + 1));
  for (let count = 0; count < 3; count++) startRunner(parts(), [counting]);
  for (const job of jobs) await ended(job);
  expect(new Set(runs.values())).toEqual(new Set([1]));
  expect(runs.size).toBe(60);
});
