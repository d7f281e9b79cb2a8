import { beforeEach, describe, expect, test } from 'vitest';
import type { AccountId } from '#domain/ids.ts';
import { insertJobs, type StorableJob } from '#store/jobs.ts';
import { findReadyPools, listReadyPools, moveToPool } from '#store/run-queue.ts';
import { useDatabase } from '../../support/database.ts';
import { claimRun, insertJob, makeAccount, newJob } from '../../support/fixtures.ts';
import { rowOf } from './run-queue-rows.ts';

const database = useDatabase();

let accountId: AccountId;
beforeEach(async () => {
  await database.sql`DELETE FROM ringback.run_queue`;
  ({ accountId } = await makeAccount(database.db));
});

const FAR = new Date('2030-01-01T00:00:00Z');
const insert = (changes: Partial<StorableJob>) => insertJob(database.db, accountId, changes);
const row = ({ id: jobId }: StorableJob) => rowOf(database, { jobId });

/** A pool with something ready in it, one with something delayed, one with a run under way. */
async function threePools(): Promise<void> {
  await insert({ pool: 'ready' });
  await insert({ pool: 'delayed', runAt: FAR });
  await claimRun(database.db, await insert({ pool: 'leased' }));
}

describe('the pools that hold something ready', () => {
  test('are each named once, in order, whatever they are called and whoever waits there', async () => {
    const names = ['shared', 'limited:a', 'limited:A', 'limited:a.b', 'remote:a', 'ä', 'a', 'a b'];
    const other = await makeAccount(database.db);
    for (const pool of names) {
      await insertJobs(database.sql, [newJob(accountId, { pool }), newJob(accountId, { pool })]);
      await insertJobs(database.sql, [newJob(other.accountId, { pool })]);
    }
    const listed = await listReadyPools(database.db);
    expect(listed).toHaveLength(names.length);
    expect(new Set(listed)).toEqual(new Set(names));
  });

  test('are not those that hold what is delayed or under way', async () => {
    await threePools();
    expect(await listReadyPools(database.db)).toEqual(['ready']);
  });

  test('are none when nothing waits', async () => {
    expect(await listReadyPools(database.db)).toEqual([]);
    expect(await findReadyPools(database.db, ['shared'])).toEqual([]);
  });

  test('are told apart from others that are asked about', async () => {
    await threePools();
    await insert({ pool: 'quoted "{,}\\ pool' });
    await insert({ pool: 'unasked' });
    const asked = ['leased', 'quoted "{,}\\ pool', 'nothing', 'ready', 'delayed'];
    expect(new Set(await findReadyPools(database.db, asked))).toEqual(new Set(['quoted "{,}\\ pool', 'ready']));
    expect(await findReadyPools(database.db, [])).toEqual([]);
  });
});

describe('a move to another pool', () => {
  const move = (limit = 100) => moveToPool(database.db, { from: 'old', type: 'test.job', to: 'new', limit });

  test('takes what is ready of its type, and changes nothing else of it', async () => {
    const job = await insert({ pool: 'old', priority: 7 });
    const before = (await row(job))!;
    expect(await move()).toBe(1);
    expect(await row(job)).toEqual({ ...before, pool: 'new' });
    expect(await move()).toBe(0);
  });

  test.each<[string, () => Promise<StorableJob>]>([
    ['of another type', () => insert({ pool: 'old', type: 'test.other' })],
    ['in another pool', () => insert({ pool: 'older' })],
    ['that is not due', () => insert({ pool: 'old', runAt: FAR })],
    [
      'that is under way',
      async () => {
        const job = await insert({ pool: 'old' });
        await claimRun(database.db, job);
        return job;
      },
    ],
  ])('leaves what is %s', async (_what, make) => {
    const job = await make();
    const before = await row(job);
    expect(await move()).toBe(0);
    expect(await row(job)).toEqual(before);
  });

  test('takes as many as it is told to, and what is left the next time', async () => {
    for (let count = 0; count < 5; count++) await insert({ pool: 'old' });
    expect([await move(3), await move(3), await move(3)]).toEqual([3, 2, 0]);
  });

  test('leaves what a claim is taking just now, and does not wait for it', async () => {
    const held = await insert({ pool: 'old' });
    await insert({ pool: 'old' });
    await database.db.transaction(async (tx) => {
      await tx`SELECT FROM ringback.run_queue WHERE job_id = ${held.id} FOR UPDATE`;
      expect(await move()).toBe(1);
    });
    expect(await row(held)).toMatchObject({ pool: 'old' });
  });
});
