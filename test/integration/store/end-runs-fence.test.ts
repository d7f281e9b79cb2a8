import { describe, expect, test } from 'vitest';
import { newId } from '#domain/ids.ts';
import type { JobError } from '#domain/job.ts';
import { endRuns, type RunEnd } from '#store/end-runs.ts';
import { useDatabase } from '../../support/database.ts';
import {
  claimRun,
  finalEvent,
  insertJob,
  makeAccount,
  makeRunning,
  RELEASED,
  runEnd,
  waitingEnd,
} from '../../support/fixtures.ts';

const database = useDatabase();

const end = async (...ends: RunEnd[]) => new Set((await endRuns(database.sql, ends)).keys());
const running = () => makeRunning(database.db);
const jobRow = async (id: string) => (await database.sql`SELECT * FROM ringback.jobs WHERE id = ${id}`)[0]!;
const queueRow = async (id: string) => (await database.sql`SELECT * FROM ringback.run_queue WHERE job_id = ${id}`)[0];
const runRows = (id: string) => database.sql`SELECT * FROM ringback.job_runs WHERE job_id = ${id} ORDER BY number`;

const ERROR: JobError = { code: 'handler_error', message: 'it broke' };
/** As the job of a run that failed for good. */
const OVER = { runStatus: 'failed', runError: ERROR, jobStatus: 'failed', jobError: ERROR } as const;

describe('the fence', () => {
  test('refuses another run of the job', async () => {
    const { job } = await running();
    const before = await jobRow(job.id);
    expect(await end(runEnd({ ...job, runId: newId('run', Date.now()) }))).toEqual(new Set());
    expect(await jobRow(job.id)).toEqual(before);
    expect(await runRows(job.id)).toEqual([]);
    expect(await queueRow(job.id)).toMatchObject({ state: 'leased', run_id: job.runId });
  });

  test('refuses to end as one that waits what is being run', async () => {
    const { job } = await running();
    const before = await jobRow(job.id);
    expect(await end(waitingEnd(job, 'canceled'))).toEqual(new Set());
    expect(await jobRow(job.id)).toEqual(before);
  });

  test('refuses to end the run of a job that waits', async () => {
    const { accountId } = await makeAccount(database.db);
    const waiting = await insertJob(database.db, accountId);
    const run = { ...(await running()).job, accountId, id: waiting.id };
    expect(await end(runEnd(run))).toEqual(new Set());
    expect(await queueRow(waiting.id)).toMatchObject({ state: 'ready' });
  });

  test('refuses a run that was given back, once another has begun', async () => {
    const { job } = await running();
    await end(runEnd(job, RELEASED));
    const again = await claimRun(database.db, job);
    expect(await end(runEnd(job))).toEqual(new Set());
    expect(await end(runEnd(again))).toEqual(new Set([job.id]));
  });

  test('of two ends of one run at once lets one through', async () => {
    for (let round = 0; round < 10; round++) {
      const { job, endpoint } = await running();
      const ends = [
        runEnd(job, finalEvent('job.succeeded', endpoint)),
        runEnd(job, { ...OVER, ...finalEvent('job.failed', endpoint) }),
        runEnd(job, RELEASED),
      ];
      const ended = await Promise.all(ends.map((one) => end(one)));
      expect(ended.filter((ids) => ids.has(job.id))).toHaveLength(1);
      expect(await runRows(job.id)).toHaveLength(1);
      expect(await database.sql`SELECT FROM ringback.events WHERE job_id = ${job.id}`).toHaveLength(3);
    }
  });

  test('refuses a second end of the same run, and writes nothing of it', async () => {
    const { job, endpoint } = await running();
    expect(await end(runEnd(job, finalEvent('job.succeeded', endpoint)))).toEqual(new Set([job.id]));
    const before = await jobRow(job.id);
    const again = runEnd(job, { ...OVER, ...finalEvent('job.failed', endpoint) });
    expect(await end(again)).toEqual(new Set());
    expect(await jobRow(job.id)).toEqual(before);
    expect(await runRows(job.id)).toHaveLength(1);
    expect(await database.sql`SELECT FROM ringback.deliveries WHERE job_id = ${job.id}`).toHaveLength(1);
    expect(await database.sql`SELECT FROM ringback.events WHERE job_id = ${job.id}`).toHaveLength(3);
  });

  test('refuses a run of another account', async () => {
    const { job } = await running();
    const { accountId } = await makeAccount(database.db);
    expect(await end(runEnd({ ...job, accountId }))).toEqual(new Set());
  });

  test('refuses one member of a group and lets its neighbours end', async () => {
    const [one, stale, other] = [await running(), await running(), await running()];
    const ends = [runEnd(one.job), runEnd({ ...stale.job, runId: newId('run', Date.now()) }), runEnd(other.job)];
    expect(await end(...ends)).toEqual(new Set([one.job.id, other.job.id]));
    expect(await jobRow(stale.job.id)).toMatchObject({ status: 'in_progress', run_id: stale.job.runId });
  });
});

test('a group with one row that breaks a constraint fails whole', async () => {
  const [one, other] = [await running(), await running()];
  const bad = runEnd(other.job, { runError: ERROR });
  await expect(end(runEnd(one.job), bad)).rejects.toMatchObject({ constraint_name: 'job_runs_error' });
  expect(await jobRow(one.job.id)).toMatchObject({ status: 'in_progress', run_id: one.job.runId });
  expect(await queueRow(one.job.id)).toMatchObject({ state: 'leased', run_id: one.job.runId });
});
