import { beforeEach, describe, expect, test } from 'vitest';
import { z } from 'zod';
import { insertJobs } from '#store/jobs.ts';
import { type AnyJobDefinition, defineJob } from '../../../src/jobs/type/define.ts';
import { moveStrays } from '../../../src/jobs/run/rescue.ts';
import { useDatabase } from '../../support/database.ts';
import { eventually } from '../../support/eventually.ts';
import { makeAccount, newJob } from '../../support/fixtures.ts';
import { endOfJob, jobType, readJob, submitJob } from '../../support/job-life.ts';
import { rescueDeps, startRunner } from '../../support/workers.ts';

const database = useDatabase();

beforeEach(async () => {
  await database.sql`DELETE FROM ringback.run_queue`;
});

const parts = () => ({ database });
const poolsNow = async () => {
  const rows = await database.sql<{ pool: string; type: string; count: number }[]>`
    SELECT pool, type, count(*)::int FROM ringback.run_queue GROUP BY pool, type ORDER BY pool, type`;
  return rows.map(({ pool, type, count }) => [pool, type, count]);
};
const remote = (type: string): AnyJobDefinition => defineJob({ type, input: z.unknown(), remote: true });

describe('what waits where nobody looks any more', () => {
  test('because its type lost its limit, or got one, moves to where its type is now', async () => {
    const { accountId } = await makeAccount(database.db);
    const jobs = [
      newJob(accountId, { type: 'test.job', pool: 'limited:test.job' }),
      newJob(accountId, { type: 'test.far', pool: 'limited:test.far' }),
      newJob(accountId, { type: 'test.near', pool: 'remote:test.near' }),
      newJob(accountId, { type: 'test.gone', pool: 'limited:test.gone' }),
      newJob(accountId, { type: 'test.job', pool: 'shared' }),
    ];
    await insertJobs(database.sql, jobs);
    const announced: string[] = [];
    const types = [jobType(() => null), remote('test.far'), jobType(() => null, { type: 'test.near', concurrency: 2 })];
    await moveStrays(rescueDeps(parts(), types, { announceRuns: (pool) => void announced.push(pool) }));
    expect(await poolsNow()).toEqual([
      ['limited:test.gone', 'test.gone', 1],
      ['limited:test.near', 'test.near', 1],
      ['remote:test.far', 'test.far', 1],
      ['shared', 'test.job', 2],
    ]);
    expect(new Set(announced)).toEqual(new Set(['limited:test.near', 'remote:test.far', 'shared']));
  });

  test('moves all at once, however many there are', async () => {
    const { accountId } = await makeAccount(database.db);
    const jobs = Array.from({ length: 1100 }, () => newJob(accountId, { pool: 'limited:test.job' }));
    await insertJobs(database.sql, jobs);
    await moveStrays(rescueDeps(parts(), [jobType(() => null)]));
    expect(await poolsNow()).toEqual([['shared', 'test.job', 1100]]);
  });
});

describe('a job whose type went elsewhere after it was queued', () => {
  test('to remote workers, is left to them by the runner that finds it', async () => {
    const job = await submitJob(database);
    startRunner(parts(), [remote('test.job')]);
    await eventually(async () => expect(await poolsNow()).toEqual([['remote:test.job', 'test.job', 1]]));
    expect(await readJob(database, job)).toMatchObject({ status: 'in_progress', runId: null, failureCount: 1 });
  });

  test('to nobody that this runner knows, stays where it is', async () => {
    const job = await submitJob(database);
    startRunner(parts(), [jobType(() => null, { type: 'test.other' })]);
    await eventually(async () => expect(await readJob(database, job)).toMatchObject({ failureCount: 1, runId: null }));
    expect(await poolsNow()).toEqual([['shared', 'test.job', 1]]);
  });
});

test('a type with a limit has no more runs at once than that, in all runners together', async () => {
  let [running, most] = [0, 0];
  const gate = Promise.withResolvers<void>();
  const limited = jobType(
    async () => {
      most = Math.max(most, ++running);
      await gate.promise;
      running -= 1;
    },
    { concurrency: 3 },
  );
  const jobs = [];
  for (let count = 0; count < 12; count++) jobs.push(await submitJob(database, { pool: 'limited:test.job' }));
  for (let count = 0; count < 3; count++) startRunner(parts(), [limited], { pollMs: 10 });
  await eventually(() => expect(running).toBe(3));
  // Each of the nine other places polls, and finds the limit used up.
  const [before] = await database.sql`SELECT count(*)::int FROM ringback.run_queue WHERE state = 'leased'`;
  expect(before).toEqual({ count: 3 });
  gate.resolve();
  for (const job of jobs) await endOfJob(database, job);
  expect(most).toBe(3);
});
