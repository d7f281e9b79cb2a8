import { setImmediate as turn } from 'node:timers/promises';
import { describe, expect, test } from 'vitest';
import { isUnavailable } from '#store/database.ts';
import { FenceRefused, GroupCommit, type GroupCommitOptions, persist } from '#store/group-commit.ts';
import { insertJobs, type StorableJob } from '#store/jobs.ts';
import { helper, useDatabase } from '../../support/database.ts';
import { makeAccount, newJob } from '../../support/fixtures.ts';

const database = useDatabase();

/** Groups of real inserts; `groups` has the members of each transaction that was tried. */
function inserting(changes: Partial<GroupCommitOptions<StorableJob>> = {}) {
  const groups: StorableJob[][] = [];
  const group = new GroupCommit<StorableJob>({
    commit: async (jobs) => {
      groups.push([...jobs]);
      await database.db.transaction((tx) => insertJobs(tx, jobs));
    },
    maxMembers: 100,
    maxTransactions: 1,
    lingerMs: 0,
    failsAll: isUnavailable,
    ...changes,
  });
  return { group, groups };
}

/** A commit that waits until it is let go. */
function gated() {
  const started: Array<{ members: readonly number[]; finish: (error?: Error) => void }> = [];
  const commit = (members: readonly number[]) => {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    started.push({ members, finish: (error) => (error === undefined ? resolve() : reject(error)) });
    return promise;
  };
  return { started, commit };
}

const OPTIONS = { maxMembers: 3, maxTransactions: 2, lingerMs: 0, failsAll: () => false };

/** Some turns of the event loop: whatever was going to start without a timer has started. */
async function settled(): Promise<void> {
  for (let count = 0; count < 20; count++) await turn();
}

const stored = async (jobs: readonly StorableJob[]) => {
  const rows = await database.sql`SELECT id FROM ringback.jobs WHERE id IN ${helper(jobs.map(({ id }) => id))}`;
  return new Set(rows.map(({ id }) => id as string));
};

describe('one bad member', () => {
  test('fails alone, with its own error; its neighbours are committed', async () => {
    const { accountId } = await makeAccount(database.db);
    const { group, groups } = inserting();
    const jobs = [0, 1, 2, 3, 4].map((n) => newJob(accountId, n === 2 ? { inputText: '{' } : {}));
    const results = await Promise.allSettled(jobs.map((job) => group.add(job)));
    expect(results.map(({ status }) => status)).toEqual([
      'fulfilled',
      'fulfilled',
      'rejected',
      'fulfilled',
      'fulfilled',
    ]);
    expect(results[2]).toMatchObject({ reason: { code: '22P02' } });
    expect(groups.map((members) => members.length)).toEqual([5, 1, 1, 1, 1, 1]);
    expect(await stored(jobs)).toEqual(new Set(jobs.filter((_, n) => n !== 2).map(({ id }) => id)));
  });

  test('whose fence is refused answers false, and its neighbours true', async () => {
    const { group } = inserting({
      commit: async (jobs) => {
        if (jobs.some(({ type }) => type === 'stale')) throw new FenceRefused();
        await database.db.transaction((tx) => insertJobs(tx, jobs));
      },
    });
    const { accountId } = await makeAccount(database.db);
    const jobs = ['fresh', 'stale', 'fresh'].map((type) => newJob(accountId, { type }));
    expect(await Promise.all(jobs.map((job) => group.add(job)))).toEqual([true, false, true]);
    expect(await stored(jobs)).toEqual(new Set([jobs[0]!.id, jobs[2]!.id]));
  });

  test('does not disturb the groups that come after', async () => {
    const { accountId } = await makeAccount(database.db);
    const { group } = inserting({ maxMembers: 2 });
    const jobs = Array.from({ length: 9 }, (_, n) => newJob(accountId, n % 4 === 0 ? { inputText: '' } : {}));
    const results = await Promise.allSettled(jobs.map((job) => group.add(job)));
    const good = jobs.filter((_, n) => n % 4 !== 0);
    expect(results.filter(({ status }) => status === 'fulfilled')).toHaveLength(good.length);
    expect(await stored(jobs)).toEqual(new Set(good.map(({ id }) => id)));
  });
});

test('an error that hits every member alike is not tried again one by one', async () => {
  const { started, commit } = gated();
  const group = new GroupCommit<number>({ ...OPTIONS, commit, failsAll: () => true });
  const results = Promise.allSettled([1, 2, 3].map((n) => group.add(n)));
  await settled();
  const gone = new Error('the database is gone');
  started[0]!.finish(gone);
  expect(await results).toEqual([1, 2, 3].map(() => ({ status: 'rejected', reason: gone })));
  expect(started).toHaveLength(1);
});

test('a database that cannot be reached is such an error', async () => {
  const pool = database.open({ max: 1, url: 'postgres://nobody@127.0.0.1:1/nothing' });
  const refused = await pool.sql`SELECT 1`.catch((error: unknown) => error);
  expect(isUnavailable(refused)).toBe(true);
  const faulty = await database.sql`SELECT 1/0`.catch((error: unknown) => error);
  expect(isUnavailable(faulty)).toBe(false);
});

describe('members', () => {
  test('that come together share a transaction, in their order, as many as fit', async () => {
    const { started, commit } = gated();
    const group = new GroupCommit<number>({ ...OPTIONS, maxTransactions: 1, commit });
    const all = Promise.all([1, 2, 3, 4, 5, 6, 7].map((n) => group.add(n)));
    for (const index of [0, 1, 2]) {
      await settled();
      expect(started, 'one at a time').toHaveLength(index + 1);
      started[index]!.finish();
    }
    await all;
    expect(started.map(({ members }) => members)).toEqual([[1, 2, 3], [4, 5, 6], [7]]);
  });

  test('that come while all transactions are busy gather for the next', async () => {
    const { started, commit } = gated();
    const group = new GroupCommit<number>({ ...OPTIONS, commit });
    const results = [group.add(1)];
    await settled();
    results.push(group.add(2));
    await settled();
    results.push(group.add(3), group.add(4));
    await settled();
    expect(started.map(({ members }) => members)).toEqual([[1], [2]]);
    started[1]!.finish();
    await settled();
    expect(started.map(({ members }) => members)).toEqual([[1], [2], [3, 4]]);
    for (const index of [0, 2]) started[index]!.finish();
    expect(await Promise.all(results)).toEqual([true, true, true, true]);
  });

  test('never have more transactions under way than allowed', async () => {
    let underWay = 0;
    let most = 0;
    const { accountId } = await makeAccount(database.db);
    const { group } = inserting({
      maxMembers: 2,
      maxTransactions: 3,
      commit: async (jobs) => {
        most = Math.max(most, ++underWay);
        await database.db.transaction((tx) => insertJobs(tx, jobs));
        underWay -= 1;
      },
    });
    const jobs = Array.from({ length: 40 }, () => newJob(accountId));
    await Promise.all(jobs.map((job) => group.add(job)));
    expect(most).toBe(3);
    expect((await stored(jobs)).size).toBe(40);
  });

  test('wait for company as long as asked, so that one that comes a turn later still shares', async () => {
    const { started, commit } = gated();
    const group = new GroupCommit<number>({ ...OPTIONS, lingerMs: 20, commit });
    const first = group.add(1);
    await settled();
    const second = group.add(2);
    expect(started).toEqual([]);
    while (started.length === 0) await turn();
    started[0]!.finish();
    await Promise.all([first, second]);
    expect(started.map(({ members }) => members)).toEqual([[1, 2]]);
  });
});

describe('writing down what must not be lost', () => {
  const passing = Object.assign(new Error('starting up'), { code: '57P03' });

  test('goes on while the database is away, and answers what the write answers', async () => {
    let tries = 0;
    const write = () => (++tries < 2 ? Promise.reject(passing) : Promise.resolve('written'));
    expect(await persist(write, isUnavailable, new AbortController().signal)).toBe('written');
    expect(tries).toBe(2);
  });

  test('gives up at once for a fault of its own', async () => {
    const fault = Object.assign(new Error('check'), { code: '23514' });
    let tries = 0;
    const write = () => Promise.reject((tries++, fault));
    await expect(persist(write, isUnavailable, new AbortController().signal)).rejects.toBe(fault);
    expect(tries).toBe(1);
  });

  test('gives up, with the last error, when it is told to stop in the middle of a pause', async () => {
    const abort = new AbortController();
    let tries = 0;
    const failing = persist(() => Promise.reject((tries++, passing)), isUnavailable, abort.signal);
    await settled();
    abort.abort();
    await expect(failing).rejects.toBe(passing);
    expect(tries).toBe(2);
  });
});
