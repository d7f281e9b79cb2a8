import { beforeEach, describe, expect, test } from 'vitest';
import { insertJobs } from '#store/jobs.ts';
import { endRuns } from '#store/end-runs.ts';
import { expireJobs } from '../../../src/jobs/run/rescue.ts';
import { useDatabase } from '../../support/database.ts';
import { claimRun, makeAccount, newJob, RELEASED, runEnd } from '../../support/fixtures.ts';
import {
  callbackBody,
  endOfJob,
  jobType,
  readJob,
  runsOfJob,
  type SubmittedJob,
  submitJob,
} from '../../support/job-life.ts';
import { makeCanceler, rescueDeps, startRunner } from '../../support/workers.ts';

const database = useDatabase();

beforeEach(async () => {
  await database.sql`DELETE FROM ringback.run_queue`;
});

const parts = () => ({ database });
const expire = () => expireJobs(rescueDeps(parts(), [jobType(() => null)]));
const read = (job: SubmittedJob) => readJob(database, job);
const eventsOf = async ({ id }: SubmittedJob) => {
  const events = await database.sql<{ type: string }[]>`
    SELECT type FROM ringback.events WHERE job_id = ${id} ORDER BY sequence`;
  return events.map(({ type }) => type);
};

const AGO = () => new Date(Date.now() - 1000);
const LATER = () => new Date(Date.now() + 3_600_000);
const submit = (changes: Parameters<typeof submitJob>[1]) => submitJob(database, { withCallback: true, ...changes });

describe('a job that was not started before its expires_at', () => {
  test.each([
    ['ready', {}],
    ['delayed', { runAt: LATER() }],
  ])('expires, with an event and a callback: %s', async (_how, changes) => {
    const job = await submit({ expiresAt: AGO(), ...changes });
    await expire();
    const row = await read(job);
    expect(row).toMatchObject({ status: 'expired', error: { code: 'expired' }, runCount: 0, startedAt: null });
    expect(await eventsOf(job)).toEqual(['job.queued', 'job.expired']);
    const callback = await callbackBody(database, job);
    expect(callback).toMatchObject({ type: 'job.expired', sequence: 2 });
    expect(callback.data.job).toMatchObject({ status: 'expired', done: true, error: row.error, runs: 0 });
    expect(await runsOfJob(database, job)).toEqual([]);
    expect(await database.sql`SELECT FROM ringback.run_queue`).toHaveLength(0);
  });

  test('is not started any more, though nobody has looked yet', async () => {
    const [late, other] = [await submit({ expiresAt: AGO(), priority: 100 }), await submit({})];
    const seen: string[] = [];
    startRunner(parts(), [jobType(({ job: { id } }) => void seen.push(id))]);
    await endOfJob(database, other);
    expect(seen).toEqual([other.id]);
    await expire();
    expect(await read(late)).toMatchObject({ status: 'expired' });
  });

  test('among hundreds does not wait for the next round', async () => {
    const { accountId } = await makeAccount(database.db);
    await insertJobs(
      database.sql,
      Array.from({ length: 1100 }, () => newJob(accountId, { expiresAt: AGO() })),
    );
    await expire();
    expect(await database.sql`SELECT FROM ringback.run_queue`).toHaveLength(0);
    const rows = await database.sql`
      SELECT status, count(*)::int FROM ringback.jobs WHERE account_id = ${accountId} GROUP BY status`;
    expect(rows).toEqual([{ status: 'expired', count: 1100 }]);
  });

  test('is ended once, by many keepers and its client at the same time', async () => {
    const jobs = await Promise.all(Array.from({ length: 20 }, () => submit({ expiresAt: AGO() })));
    const canceler = makeCanceler(parts(), []);
    await Promise.all([
      expire(),
      expire(),
      expire(),
      ...jobs.map(({ accountId, id }) => canceler.cancel(accountId, id)),
    ]);
    for (const job of jobs) {
      const { status } = await read(job);
      expect(['expired', 'canceled']).toContain(status);
      expect(await eventsOf(job)).toEqual(['job.queued', `job.${status}`]);
    }
  });
});

describe('a job does not expire', () => {
  test('before its time', async () => {
    const job = await submit({ expiresAt: LATER() });
    await expire();
    expect(await read(job)).toMatchObject({ status: 'queued' });
  });

  test('once it was started: neither while it runs nor while it waits for its next run', async () => {
    const job = await submit({ expiresAt: LATER() });
    const run = await claimRun(database.db, job);
    await database.sql`UPDATE ringback.jobs SET expires_at = now() - interval '1 s' WHERE id = ${job.id}`;
    await expire();
    expect(await read(job)).toMatchObject({ status: 'in_progress', runId: run.runId });
    await endRuns(database.sql, [runEnd(run, RELEASED)]);
    await expire();
    expect(await read(job)).toMatchObject({ status: 'in_progress' });
    expect(await claimRun(database.db, job)).toMatchObject({ runCount: 2 });
  });
});
