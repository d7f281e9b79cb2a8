import { beforeEach, describe, expect, test } from 'vitest';
import type { AccountId } from '#domain/ids.ts';
import { type StorableJob } from '#store/jobs.ts';
import { endRuns } from '#store/end-runs.ts';
import { findExpiredJobs, promoteDue } from '#store/run-queue.ts';
import { useDatabase } from '../../support/database.ts';
import { claimRun, insertJob, makeAccount, RELEASED, runEnd } from '../../support/fixtures.ts';
import { jobIn, pass, type Place, rowOf } from './run-queue-rows.ts';

const database = useDatabase();

let accountId: AccountId;
beforeEach(async () => {
  await database.sql`DELETE FROM ringback.run_queue`;
  ({ accountId } = await makeAccount(database.db));
});

/** Seconds from now; negative ones are over. */
const at = (seconds: number) => new Date(Date.now() + seconds * 1000);
const insert = (changes: Partial<StorableJob> = {}) => insertJob(database.db, accountId, changes);
const promote = async (limit = 1000) => Object.fromEntries(await promoteDue(database.db, new Date(), limit));
const row = ({ id: jobId }: StorableJob) => rowOf(database, { jobId });
const states = async () => {
  const rows = await database.sql<{ pool: string; state: string }[]>`
    SELECT pool, state FROM ringback.run_queue ORDER BY due_at, pool`;
  return rows.map(({ pool, state }) => `${pool} ${state}`);
};

describe('what is due', () => {
  test('becomes ready, and the pools that got something are told', async () => {
    const due = await insert({ pool: 'one', runAt: at(-1) });
    await insert({ pool: 'one', runAt: at(-2) });
    await insert({ pool: 'two', runAt: at(-3) });
    const later = await insert({ pool: 'three', runAt: at(60) });
    const before = [(await row(due))!, (await row(later))!];
    expect(await promote()).toEqual({ one: 2, two: 1 });
    expect(await row(due)).toEqual({ ...before[0], state: 'ready' });
    expect(await row(later)).toEqual(before[1]);
    expect(await promote(), 'once').toEqual({});
  });

  test('is that whose time has come first, when there is more than asked for', async () => {
    for (const seconds of [-1, -3, -2, -4]) await insert({ pool: `p${-seconds}`, runAt: at(seconds) });
    expect(await promote(2)).toEqual({ p4: 1, p3: 1 });
    expect(await states()).toEqual(['p4 ready', 'p3 ready', 'p2 delayed', 'p1 delayed']);
  });

  test.each<Place>(['ready', 'runner', 'worker', 'backend'])('is not what is in the place “%s”', async (place) => {
    const job = await jobIn(database, place);
    await pass(database, job, 3600);
    const before = await rowOf(database, job);
    expect(await promote()).toEqual({});
    expect(await rowOf(database, job)).toEqual(before);
  });

  test('is promoted once by many at the same time', async () => {
    for (let count = 0; count < 50; count++) await insert({ pool: 'many', runAt: at(-1) });
    const promoted = await Promise.all(Array.from({ length: 8 }, () => promote(20)));
    expect(promoted.reduce((sum, { many = 0 }) => sum + many, 0)).toBe(50);
  });

  test('is left out while somebody else has hold of it, and nobody waits for them', async () => {
    const held = await insert({ pool: 'held', runAt: at(-2) });
    await insert({ pool: 'free', runAt: at(-1) });
    await database.db.transaction(async (tx) => {
      await tx`SELECT FROM ringback.run_queue WHERE job_id = ${held.id} FOR UPDATE`;
      expect(await promote()).toEqual({ free: 1 });
    });
    expect(await promote()).toEqual({ held: 1 });
  });
});

describe('a job that was not started in time', () => {
  const expired = async (limit = 100) =>
    (await findExpiredJobs(database.db, new Date(), limit)).map(({ jobId }) => jobId);

  test('is found, whether it was ready or not due yet, the earliest first', async () => {
    const ready = await insert({ expiresAt: at(-1) });
    const delayed = await insert({ expiresAt: at(-2), runAt: at(60) });
    const early = await insert({ expiresAt: at(-3) });
    await insert({ expiresAt: at(60) });
    await insert();
    expect(await findExpiredJobs(database.db, new Date(), 100)).toEqual(
      [early, delayed, ready].map(({ id: jobId }) => ({ accountId, jobId })),
    );
    expect(await expired(2)).toEqual([early.id, delayed.id]);
  });

  test('is none that was started before: its next run may start at any time', async () => {
    const job = await jobIn(database, 'runner');
    await database.sql`UPDATE ringback.run_queue SET expires_at = now() - interval '1 s' WHERE job_id = ${job.jobId}`;
    expect(await expired(), 'held by a run').toEqual([]);
    const claimed = await insert({ expiresAt: at(3600) });
    await claimAndRelease(claimed);
    await pass(database, { jobId: claimed.id }, 7200);
    expect(await row(claimed)).toMatchObject({ state: 'ready', expires_at: null });
    expect(await expired()).toEqual([]);
  });

  async function claimAndRelease(job: StorableJob): Promise<void> {
    const run = await claimRun(database.db, job);
    await endRuns(database.sql, [runEnd(run, RELEASED)]);
  }
});
