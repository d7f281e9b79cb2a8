import { describe, expect, test } from 'vitest';
import { findJob, listRuns } from '#store/job-reads.ts';
import { endRuns } from '#store/end-runs.ts';
import { useDatabase } from '../../support/database.ts';
import { claimRun, insertJob, makeAccount, newJob, runEnd } from '../../support/fixtures.ts';

const database = useDatabase();

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
      inputText: _inputText,
      runTimeoutMs: _timeout,
      ...claimed
    } = await claimRun(database.db, await insertJob(database.db, accountId));
    // The claim answers a few members more.
    expect(claimed).toMatchObject({ ...(await findJob(database.db, accountId, claimed.id)) });
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
