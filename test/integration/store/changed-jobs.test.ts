import { describe, expect, test } from 'vitest';
import { findChangedJobs, findJobs, type SeenJob } from '#store/job-reads.ts';
import { type JobRecord, setProgress } from '#store/jobs.ts';
import { endRuns } from '#store/end-runs.ts';
import { requestCancel } from '#store/run-queue.ts';
import { useDatabase } from '../../support/database.ts';
import { claimRun, insertJob, makeAccount, newJob, runEnd } from '../../support/fixtures.ts';

const database = useDatabase();
const later = () => new Date(Date.now() + 5);

async function insertedJob(): Promise<JobRecord> {
  const { accountId } = await makeAccount(database.db);
  return read(await insertJob(database.db, accountId));
}

async function read({ accountId, id: jobId }: Pick<JobRecord, 'accountId' | 'id'>): Promise<JobRecord> {
  const [job] = await findJobs(database.db, [{ accountId, jobId }]);
  return job!;
}

const seen = ({ accountId, id: jobId, sequence, updatedAt }: JobRecord): SeenJob => ({
  accountId,
  jobId,
  sequence,
  updatedAt,
});

describe('of jobs that were seen', () => {
  test('those are found that have started, progressed, been called off or ended since', async () => {
    const job = await insertedJob();
    const states = [job];
    const claimed = await claimRun(database.db, job, { now: later() });
    const run = { ...claimed, jobId: job.id };
    states.push(await read(job));
    await setProgress(database.sql, run, { percent: 1 }, { now: later(), tellEveryMs: 0 });
    states.push(await read(job));
    await requestCancel(database.db, run, later());
    states.push(await read(job));
    await endRuns(database.sql, [runEnd(claimed)]);
    for (const state of states) expect(await findChangedJobs(database.db, [seen(state)])).toEqual([job.id]);
    expect(await findChangedJobs(database.db, [seen(await read(job))])).toEqual([]);
  });

  test('those are found that are gone', async () => {
    const job = await insertedJob();
    const never = newJob(job.accountId);
    const gone = { accountId: job.accountId, jobId: never.id, sequence: 1, updatedAt: never.createdAt };
    expect(await findChangedJobs(database.db, [seen(job), gone])).toEqual([never.id]);
  });

  test('a thousand cost one statement, which looks each up by its key', async () => {
    const { accountId } = await makeAccount(database.db);
    const inserted = await Promise.all(Array.from({ length: 1000 }, () => insertJob(database.db, accountId)));
    const jobs = await findJobs(
      database.db,
      inserted.map(({ id: jobId }) => ({ accountId, jobId })),
    );
    expect(jobs).toHaveLength(1000);
    expect(await findChangedJobs(database.db, jobs.map(seen))).toEqual([]);
  });
});

test('jobs of several accounts are found together, and each in its own account only', async () => {
  const [one, other] = [await insertedJob(), await insertedJob()];
  const refs = [one, other].map(({ accountId, id: jobId }) => ({ accountId, jobId }));
  const foreign = { accountId: one.accountId, jobId: other.id };
  const found = await findJobs(database.db, [...refs, foreign]);
  expect(found.map(({ id }) => id).toSorted()).toEqual([one.id, other.id].toSorted());
  expect(found.find(({ id }) => id === one.id)).toEqual(one);
  expect(await findJobs(database.db, [foreign])).toEqual([]);
  expect(await findJobs(database.db, [])).toEqual([]);
});
