import { beforeEach, describe, expect, test } from 'vitest';
import { type ClaimedJob, claimRuns } from '#store/claim-runs.ts';
import { insertJobs } from '#store/jobs.ts';
import { insertChunk } from '#store/result-chunks.ts';
import { deferRun, findLapsedRuns, requestCancel } from '#store/run-queue.ts';
import { rescueRuns } from '../../../src/jobs/run/rescue.ts';
import { useDatabase } from '../../support/database.ts';
import { claimRun, makeAccount, newJob, runClaim } from '../../support/fixtures.ts';
import { callbackBody, jobType, readJob, runsOfJob, type SubmittedJob, submitJob } from '../../support/job-life.ts';
import { rescueDeps } from '../../support/workers.ts';

const database = useDatabase();

beforeEach(async () => {
  await database.sql`DELETE FROM ringback.run_queue`;
});

const deps = () => rescueDeps({ database }, [jobType(() => null)]);
const runs = (job: SubmittedJob) => runsOfJob(database, job);
const refOf = ({ accountId, id: jobId, runId }: ClaimedJob) => ({ accountId, jobId, runId });

/** As if so many seconds had passed for everything in the queue. */
const pass = (seconds: number) => database.sql`
  UPDATE ringback.run_queue SET lease_expires_at = lease_expires_at - ${seconds} * interval '1 s',
    deadline_at = deadline_at - ${seconds} * interval '1 s',
    cancel_requested_at = cancel_requested_at - ${seconds} * interval '1 s'`;

let pools = 0;

async function underWay(changes: Parameters<typeof claimRun>[2] = {}) {
  const job = await submitJob(database, { withCallback: true, pool: `test:${++pools}` });
  return { job, run: await claimRun(database.db, job, changes) };
}

describe('a run that is spoken for', () => {
  test('is left alone while its lease lasts, whoever holds it', async () => {
    for (const heldBy of ['runner', 'worker'] as const) await underWay({ heldBy, leaseMs: 15_000 });
    await pass(10);
    expect(await findLapsedRuns(database.db, { limit: 10, cancelGraceMs: 1000, before: new Date() })).toEqual([]);
    const { lines, ...rescue } = deps();
    await rescueRuns(rescue);
    expect(lines).toEqual([]);
    expect(await database.sql`SELECT FROM ringback.run_queue WHERE state = 'leased'`).toHaveLength(2);
  });

  test('by a runner has no deadline but that of its runner, which keeps its own time', async () => {
    const { run } = await underWay({ leaseMs: 600_000 });
    await pass(120);
    await rescueRuns(deps());
    expect(await readJob(database, { ...run, endpoint: undefined })).toMatchObject({ runId: run.runId });
  });

  test('is left alone for the grace and a little more when it was called off', async () => {
    const { job, run } = await underWay({ leaseMs: 600_000 });
    await requestCancel(database.db, refOf(run), new Date());
    await pass(15);
    await rescueRuns(deps());
    expect(await readJob(database, job)).toMatchObject({ status: 'in_progress', runId: run.runId });
  });
});

describe('a run that nobody speaks for', () => {
  test.each(['runner', 'worker'] as const)('of a %s is lost, and the job goes on', async (heldBy) => {
    const { job, run } = await underWay({ heldBy });
    await insertChunk(database.sql, refOf(run), 0, Buffer.from('half a result'));
    await pass(16);
    const { lines, ...rescue } = deps();
    await rescueRuns(rescue);
    expect(await runs(job)).toEqual([[1, 'lost', 'worker_lost']]);
    expect(await readJob(database, job)).toMatchObject({ status: 'in_progress', failureCount: 1, runId: null });
    expect(lines).toMatchObject([{ msg: 'rescued', job_id: job.id, run_id: run.runId, run: 'lost' }]);
    const chunks = await database.sql`SELECT FROM ringback.result_chunks WHERE run_id = ${run.runId}`;
    expect(chunks, 'what it had stored').toHaveLength(0);
  });

  test.each([
    ['worker', /not finished within 60000 ms/],
    ['backend', /back end did not tell the end of the run within 60000 ms/],
  ] as const)('of a %s had all the time it may take: it has timed out', async (heldBy, message) => {
    const { job, run } = await underWay({ heldBy: 'worker', leaseMs: 60_000 });
    if (heldBy === 'backend') await deferRun(database.sql, refOf(run));
    await pass(61);
    await rescueRuns(deps());
    const [ended] = await database.sql`SELECT status, error FROM ringback.job_runs WHERE job_id = ${job.id}`;
    expect(ended).toEqual({ status: 'timed_out', error: { code: 'timeout', message: expect.stringMatching(message) } });
    expect(await readJob(database, job)).toMatchObject({ status: 'in_progress', failureCount: 1 });
  });

  test('of a back end is not taken for lost before its time is up', async () => {
    const { run } = await underWay({ leaseMs: 1000 });
    await deferRun(database.sql, refOf(run));
    await pass(59);
    expect(await findLapsedRuns(database.db, { limit: 10, cancelGraceMs: 1000, before: new Date() })).toEqual([]);
  });

  test.each([
    ['has lost its worker', 15_000, 16],
    ['does not stop, though its lease is renewed', 600_000, 17],
  ])('because it was called off and %s is canceled, with its callback', async (_why, leaseMs, seconds) => {
    const { job, run } = await underWay({ leaseMs });
    await requestCancel(database.db, refOf(run), new Date());
    await pass(seconds);
    await rescueRuns(deps());
    expect(await readJob(database, job)).toMatchObject({ status: 'canceled', error: { code: 'canceled' } });
    expect(await runs(job)).toEqual([[1, 'canceled', 'canceled']]);
    expect(await callbackBody(database, job)).toMatchObject({ type: 'job.canceled', sequence: 3 });
  });

  test('is ended once by many keepers at the same time', async () => {
    const lost = await Promise.all(Array.from({ length: 20 }, () => underWay()));
    await pass(16);
    await Promise.all(Array.from({ length: 6 }, () => rescueRuns(deps())));
    for (const { job } of lost) {
      expect(await runs(job)).toEqual([[1, 'lost', 'worker_lost']]);
      expect(await readJob(database, job)).toMatchObject({ failureCount: 1, sequence: 3 });
    }
  });

  test('among hundreds of a dead worker does not wait for the next round', async () => {
    const { accountId } = await makeAccount(database.db);
    const jobs = Array.from({ length: 1100 }, () => newJob(accountId, { pool: 'test:many' }));
    await insertJobs(database.sql, jobs);
    for (const limit of [1000, 100]) {
      expect((await claimRuns(database.db, runClaim({ pool: 'test:many', limit }))).jobs).toHaveLength(limit);
    }
    await pass(16);
    await rescueRuns(deps());
    const states = await database.sql`SELECT state, count(*)::int FROM ringback.run_queue GROUP BY state`;
    expect(states).toEqual([{ state: 'delayed', count: 1100 }]);
  });

  test('and has no job any more that is its own is left as it is, and keeps nobody busy', async () => {
    const { run } = await underWay();
    await database.sql`UPDATE ringback.jobs SET run_id = 'run_another' WHERE id = ${run.id}`;
    await pass(16);
    await rescueRuns(deps());
    expect(await database.sql`SELECT FROM ringback.run_queue WHERE state = 'leased'`).toHaveLength(1);
  });
});
