import { describe, expect, test } from 'vitest';
import type { AccountId, JobId } from '#domain/ids.ts';
import { findJob, listJobs, listRuns } from '#store/job-reads.ts';
import { endRuns, insertJobs } from '#store/jobs.ts';
import { useDatabase } from '../../support/database.ts';
import { claimRun, insertJob, makeAccount, newJob, runEnd } from '../../support/fixtures.ts';

const database = useDatabase();

async function makeJobs(accountId: AccountId, count: number): Promise<JobId[]> {
  const start = Date.parse('2026-01-01T00:00:00Z');
  const jobs = Array.from({ length: count }, (_, n) => newJob(accountId, { createdAt: new Date(start + n) }));
  await insertJobs(database.sql, jobs.toReversed());
  return jobs.map(({ id }) => id);
}

describe('finding a job', () => {
  test('finds it as its row has it, without its input', async () => {
    const { accountId } = await makeAccount(database.db);
    const job = await insertJob(database.db, accountId, { metadata: { a: '1' } });
    const found = await findJob(database.db, accountId, job.id);
    expect(found).toMatchObject({ id: job.id, status: 'queued', createdAt: job.createdAt, metadata: { a: '1' } });
    expect(found).not.toHaveProperty('input');
  });

  test('answers as the claim of the same job does', async () => {
    const { accountId } = await makeAccount(database.db);
    const {
      input: _input,
      runTimeoutMs: _timeout,
      ...claimed
    } = await claimRun(database.db, await insertJob(database.db, accountId));
    expect(claimed).toEqual(await findJob(database.db, accountId, claimed.id));
  });

  test('finds neither what is not there nor what is another account’s', async () => {
    const [one, other] = [await makeAccount(database.db), await makeAccount(database.db)];
    const job = await insertJob(database.db, one.accountId);
    expect(await findJob(database.db, other.accountId, job.id)).toBeUndefined();
    expect(await findJob(database.db, one.accountId, newJob(one.accountId).id)).toBeUndefined();
  });

  test('finds the moments to the millisecond, whatever the time zone of the session', async () => {
    const { accountId } = await makeAccount(database.db);
    const createdAt = new Date('2026-07-01T23:59:59.999Z');
    const job = await insertJob(database.db, accountId, { createdAt });
    const elsewhere = database.open({ max: 1 });
    await elsewhere.sql`SET TIME ZONE 'Pacific/Chatham'`;
    expect((await findJob(elsewhere, accountId, job.id))?.createdAt).toEqual(createdAt);
  });
});

describe('a list of jobs', () => {
  test('has every job once, newest first, page by page', async () => {
    const { accountId } = await makeAccount(database.db);
    const ids = await makeJobs(accountId, 25);
    const seen: JobId[] = [];
    for (let before: JobId | undefined; ;) {
      const page = await listJobs(database.db, accountId, { before, limit: 10 });
      seen.push(...page.map(({ id }) => id));
      if (page.length < 10) break;
      before = page.at(-1)!.id;
    }
    expect(seen).toEqual(ids.toReversed());
  });

  test('neither repeats nor misses a job when others come in between two pages', async () => {
    const { accountId } = await makeAccount(database.db);
    const ids = await makeJobs(accountId, 6);
    const first = await listJobs(database.db, accountId, { before: undefined, limit: 3 });
    await insertJob(database.db, accountId);
    const second = await listJobs(database.db, accountId, { before: first.at(-1)!.id, limit: 3 });
    expect([...first, ...second].map(({ id }) => id)).toEqual(ids.toReversed());
  });

  test('is empty past the end, and for an account without jobs', async () => {
    const [one, other] = [await makeAccount(database.db), await makeAccount(database.db)];
    const [oldest] = await makeJobs(one.accountId, 2);
    expect(await listJobs(database.db, one.accountId, { before: oldest, limit: 10 })).toEqual([]);
    expect(await listJobs(database.db, other.accountId, { before: undefined, limit: 10 })).toEqual([]);
  });
});

test('the runs of a job are listed in their order, with those that ended only', async () => {
  const { accountId } = await makeAccount(database.db);
  const job = await insertJob(database.db, accountId);
  const released = { runStatus: 'released', jobStatus: 'in_progress', outputText: null } as const;
  const ids = [];
  for (const _ of [1, 2, 3]) {
    const claimed = await claimRun(database.db, job);
    ids.push(claimed.runId);
    await endRuns(database.sql, [runEnd(claimed, released)]);
  }
  await claimRun(database.db, job);
  const runs = await listRuns(database.db, accountId, job.id);
  expect(runs.map(({ id, number, status }) => [id, number, status])).toEqual(
    ids.map((id, index) => [id, index + 1, 'released']),
  );
  const { accountId: other } = await makeAccount(database.db);
  expect(await listRuns(database.db, other, job.id)).toEqual([]);
});
