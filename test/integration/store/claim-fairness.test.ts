import { describe, expect, test } from 'vitest';
import type { AccountId } from '#domain/ids.ts';
import { type Claimed, type ClaimedJob, claimRuns, type RunClaim } from '#store/claim-runs.ts';
import type { Database } from '#store/database.ts';
import { insertJobs } from '#store/jobs.ts';
import { endRuns } from '#store/end-runs.ts';
import { useDatabase } from '../../support/database.ts';
import { makeAccount, newJob, runClaim, runEnd } from '../../support/fixtures.ts';

const database = useDatabase();

let pools = 0;
const freshPool = () => `test:${++pools}`;

async function makeAccounts(count: number): Promise<AccountId[]> {
  const accounts = [];
  for (let made = 0; made < count; made++) accounts.push((await makeAccount(database.db)).accountId);
  return accounts.toSorted();
}

async function enqueue(pool: string, accountId: AccountId, count: number): Promise<void> {
  for (let made = 0; made < count; made += 500) {
    const jobs = Array.from({ length: Math.min(500, count - made) }, () => newJob(accountId, { pool }));
    await insertJobs(database.sql, jobs);
  }
}

const limitTo = (accountId: AccountId, maxRunning: number) =>
  database.sql`UPDATE ringback.accounts SET max_running = ${maxRunning} WHERE account_id = ${accountId}`;

const end = (jobs: readonly ClaimedJob[]) =>
  endRuns(
    database.sql,
    jobs.map((job) => runEnd(job)),
  );

/** Claims one after the other, each going on where the one before ended, as a runner does. */
function claimer(pool: string, changes: Partial<RunClaim> = {}, db: Database = database.db) {
  let afterAccount = '';
  return async (limit: number): Promise<Claimed> => {
    const answer = await claimRuns(db, runClaim({ pool, limit, afterAccount, ...changes }));
    afterAccount = answer.nextAccount;
    return answer;
  };
}

const countBy = (jobs: readonly ClaimedJob[], accounts: readonly AccountId[]) =>
  accounts.map((accountId) => jobs.filter((job) => job.accountId === accountId).length);

describe('between accounts', () => {
  test('what there is to take is shared, and what one does not need goes to the others', async () => {
    const pool = freshPool();
    const accounts = await makeAccounts(3);
    for (const [index, accountId] of accounts.entries()) await enqueue(pool, accountId, [100, 2, 100][index]!);
    const claim = claimer(pool);
    const first = await claim(30);
    expect(countBy(first.jobs, accounts)).toEqual([10, 2, 10]);
    expect(first.more, 'places are left').toBe(true);
    const second = await claim(8);
    expect(countBy(second.jobs, accounts)).toEqual([4, 0, 4]);
  });

  test.each([1, 2, 5])('a single job comes first, before somebody’s 10,000: %d places', async (places) => {
    const pool = freshPool();
    const [one, many, other] = await makeAccounts(3);
    await enqueue(pool, many!, 10_000);
    const claim = claimer(pool);
    const running = [...(await claim(places)).jobs];
    expect(running).toHaveLength(places);
    // All places are taken by the one with the backlog; now two more have a job each.
    await enqueue(pool, one!, 1);
    await enqueue(pool, other!, 1);
    const seen: AccountId[] = [];
    for (let ended = 0; ended < 3; ended++) {
      await end([running.shift()!]);
      const { jobs } = await claim(1);
      running.push(...jobs);
      seen.push(...jobs.map(({ accountId }) => accountId));
    }
    expect(seen.toSorted(), 'of the next three places each gets one').toEqual([one, many, other]);
    expect(seen.slice(0, 2)).toEqual(expect.arrayContaining([places === 1 ? other : one]));
  });

  test('they take turns when few may run at once, whatever their ids and backlogs', async () => {
    const pool = freshPool();
    const accounts = await makeAccounts(5);
    for (const accountId of accounts) await enqueue(pool, accountId, 20);
    const claim = claimer(pool);
    const turns: AccountId[] = [];
    for (let count = 0; count < 20; count++) {
      const { jobs } = await claim(1);
      turns.push(jobs[0]!.accountId);
      await end(jobs);
    }
    for (let round = 0; round < 20; round += 5) expect(turns.slice(round, round + 5).toSorted()).toEqual(accounts);
  });

  test('who has little running comes before who has much', async () => {
    const pool = freshPool();
    const [busy, idle] = await makeAccounts(2);
    await enqueue(pool, busy!, 20);
    expect((await claimer(pool)(8)).jobs).toHaveLength(8);
    await enqueue(pool, idle!, 20);
    expect(countBy((await claimer(pool)(1)).jobs, [busy!, idle!])).toEqual([0, 1]);
    expect(countBy((await claimer(pool, { afterAccount: idle! })(1)).jobs, [busy!, idle!])).toEqual([0, 1]);
  });
});

describe('more accounts than one claim looks at', () => {
  test.each([1, 10, 100])(
    'are all served within so many claims as it takes to serve each once: %d places',
    async (places) => {
      const pool = freshPool();
      const accounts = await makeAccounts(150);
      const jobs = accounts.flatMap((accountId) => [0, 1, 2].map(() => newJob(accountId, { pool })));
      await insertJobs(database.sql, jobs);
      const claim = claimer(pool);
      const served = new Set<AccountId>();
      let claims = 0;
      while (served.size < accounts.length && claims < 200) {
        const got = await claim(places);
        for (const { accountId } of got.jobs) served.add(accountId);
        expect(got.more).toBe(true);
        await end(got.jobs);
        claims += 1;
      }
      expect(claims).toBeLessThanOrEqual(Math.max(3, 150 / places));
    },
  );

  test('are found behind a hundred that may run nothing more, within one round that ends', async () => {
    const pool = freshPool();
    const accounts = await makeAccounts(140);
    for (const accountId of accounts) await enqueue(pool, accountId, 1);
    const last = accounts.at(-1)!;
    await Promise.all(accounts.filter((accountId) => accountId !== last).map((accountId) => limitTo(accountId, 0)));
    const claim = claimer(pool);
    const answers = [];
    for (let count = 0; count < 3; count++) answers.push(await claim(10));
    expect(answers.map(({ jobs, more }) => [jobs.length, more])).toEqual([
      [0, true],
      [0, true],
      [1, true],
    ]);
    // One more round to find out that there is nothing else; then the claimer may sleep.
    const rest = [];
    for (let count = 0; count < 3; count++) rest.push((await claim(10)).more);
    expect(rest.filter((more) => !more).length).toBeGreaterThan(0);
  });
});

describe('limits', () => {
  test('an account has no more running than it may, in all pools together', async () => {
    const [one, other] = [freshPool(), freshPool()];
    const [accountId] = await makeAccounts(1);
    await limitTo(accountId!, 3);
    await enqueue(one, accountId!, 10);
    await enqueue(other, accountId!, 10);
    const first = await claimer(one)(2);
    expect(first.jobs).toHaveLength(2);
    expect((await claimer(other)(10)).jobs).toHaveLength(1);
    expect((await claimer(one)(10)).jobs).toEqual([]);
    await end(first.jobs);
    expect((await claimer(other)(10)).jobs).toHaveLength(2);
  });

  test('an account whose row says nothing has the limit of all, and one whose row says more has that', async () => {
    const pool = freshPool();
    const accounts = await makeAccounts(3);
    await limitTo(accounts[1]!, 5);
    await limitTo(accounts[2]!, 0);
    for (const accountId of accounts) await enqueue(pool, accountId, 20);
    const claim = claimer(pool, { accountLimit: 2 });
    const jobs = [...(await claim(60)).jobs, ...(await claim(60)).jobs];
    expect(countBy(jobs, accounts)).toEqual([2, 5, 0]);
    expect((await claim(60)).more).toBe(false);
  });

  test('of an account and of a pool are held exactly by two processes that claim at the same time', async () => {
    const pool = freshPool();
    const accounts = await makeAccounts(3);
    await Promise.all(accounts.map((accountId) => limitTo(accountId, 4)));
    for (const accountId of accounts) await enqueue(pool, accountId, 200);
    const processes = [database.open({ max: 3 }), database.open({ max: 3 })];
    const claim = (db: Database) => claimer(pool, { exclusive: true, poolLimit: 10 }, db);
    for (let round = 0; round < 15; round++) {
      const claims = processes.flatMap((db) => [claim(db), claim(db), claim(db)]);
      const jobs = (await Promise.all(claims.map((take) => take(7)))).flatMap((answer) => answer.jobs);
      expect(jobs, 'the pool’s limit').toHaveLength(10);
      expect(Math.max(...countBy(jobs, accounts)), 'an account’s limit').toBeLessThanOrEqual(4);
      await end(jobs);
    }
  });
});
