import { describe, expect, test } from 'vitest';
import { newId } from '#domain/ids.ts';
import { claimRuns, endRuns, recordLostRuns } from '#store/jobs.ts';
import { useDatabase } from '../../support/database.ts';
import {
  claimRun,
  inTransaction,
  insertJob,
  makeAccount,
  newJob,
  runClaim,
  runEnd,
  WORKER,
} from '../../support/fixtures.ts';

const database = useDatabase();

const events = (jobId: string) => database.sql`
  SELECT type, sequence FROM ringback.events WHERE job_id = ${jobId} ORDER BY sequence`;

/** As an operator or a later release would end it: no function of ours makes these states yet. */
async function endBy(jobId: string, status: 'canceled' | 'expired'): Promise<void> {
  await database.sql`
    UPDATE ringback.jobs SET status = ${status}, error = '{"code":"x","message":"y"}', finished_at = now()
    WHERE id = ${jobId}`;
}

describe('claiming leaves alone', () => {
  test('a job that is not there', async () => {
    const { accountId } = await makeAccount(database.db);
    const claims = [runClaim(newJob(accountId))];
    expect(await inTransaction(database.db, (tx) => claimRuns(tx, claims))).toEqual([]);
    expect(await database.sql`SELECT FROM ringback.events WHERE account_id = ${accountId}`).toHaveLength(0);
  });

  test('the job of another account', async () => {
    const [one, other] = [await makeAccount(database.db), await makeAccount(database.db)];
    const job = await insertJob(database.db, one.accountId);
    const claims = [runClaim({ ...job, accountId: other.accountId })];
    expect(await inTransaction(database.db, (tx) => claimRuns(tx, claims))).toEqual([]);
    expect(await database.sql`SELECT status FROM ringback.jobs WHERE id = ${job.id}`).toEqual([{ status: 'queued' }]);
  });

  test.each(['succeeded', 'failed', 'canceled', 'expired'] as const)('a job that has %s', async (status) => {
    const { accountId } = await makeAccount(database.db);
    const job = await insertJob(database.db, accountId);
    if (status === 'canceled' || status === 'expired') await endBy(job.id, status);
    else {
      const error = { code: 'handler_error', message: 'no' } as const;
      const end =
        status === 'failed'
          ? ({ runStatus: 'failed', runError: error, jobStatus: 'failed', outputText: null } as const)
          : {};
      const claimed = await claimRun(database.db, job);
      await inTransaction(database.db, (tx) => endRuns(tx, [runEnd(claimed, end)]));
    }
    const before = await database.sql`SELECT * FROM ringback.jobs WHERE id = ${job.id}`;
    expect(await inTransaction(database.db, (tx) => claimRuns(tx, [runClaim(job)]))).toEqual([]);
    expect(await database.sql`SELECT * FROM ringback.jobs WHERE id = ${job.id}`).toEqual(before);
  });

  test('nothing else: the jobs that can be claimed are, whatever stands beside them', async () => {
    const { accountId } = await makeAccount(database.db);
    const good = await insertJob(database.db, accountId);
    const ended = await insertJob(database.db, accountId);
    await endBy(ended.id, 'canceled');
    const claims = [runClaim(newJob(accountId)), runClaim(good), runClaim(ended)];
    const claimed = await inTransaction(database.db, (tx) => claimRuns(tx, claims));
    expect(claimed.map(({ id }) => id)).toEqual([good.id]);
  });
});

test('the first run of a job starts it and makes the event job.started', async () => {
  const { accountId } = await makeAccount(database.db);
  const job = await insertJob(database.db, accountId, { inputText: '{"b":1,"a":[null]}', metadata: { k: 'v' } });
  const startedAt = new Date();
  const claim = runClaim(job, { startedAt });
  const [claimed] = await inTransaction(database.db, (tx) => claimRuns(tx, [claim]));
  expect(claimed).toEqual({
    accountId,
    id: job.id,
    type: 'test.job',
    status: 'in_progress',
    input: { b: 1, a: [null] },
    output: null,
    error: null,
    progress: null,
    metadata: { k: 'v' },
    callbackEndpointId: null,
    callbackUrl: null,
    callbackEvents: null,
    runCount: 1,
    failureCount: 0,
    sequence: 2,
    createdAt: job.createdAt,
    updatedAt: startedAt,
    startedAt,
    runId: claim.runId,
    runStartedAt: startedAt,
    workerId: WORKER,
    nextRunAt: null,
    finishedAt: null,
  });
  expect(await events(job.id)).toEqual([
    { type: 'job.queued', sequence: 1 },
    { type: 'job.started', sequence: 2 },
  ]);
  expect(
    await database.sql`SELECT id, created_at FROM ringback.events WHERE type = 'job.started'
    AND job_id = ${job.id}`,
  ).toEqual([{ id: claim.eventId, created_at: startedAt }]);
});

test('a later run keeps the start and the sequence of the job, and makes no event', async () => {
  const { accountId } = await makeAccount(database.db);
  const job = await insertJob(database.db, accountId);
  const first = await claimRun(database.db, job, { startedAt: new Date('2026-01-01T00:00:00Z') });
  const nextRunAt = new Date();
  const failed = { runStatus: 'failed', runError: { code: 'handler_error', message: 'x' } } as const;
  const end = runEnd(first, { ...failed, jobStatus: 'in_progress', outputText: null, nextRunAt });
  await inTransaction(database.db, (tx) => endRuns(tx, [end]));
  const workerId = newId('wrk', Date.now());
  const second = await claimRun(database.db, job, { workerId });
  expect(second).toMatchObject({
    runCount: 2,
    failureCount: 1,
    sequence: 2,
    startedAt: first.startedAt,
    workerId,
    nextRunAt: null,
  });
  expect(second.runId).not.toBe(first.runId);
  expect(await events(job.id)).toHaveLength(2);
});

describe('after a worker died', () => {
  test('its run goes on record as lost, and the claim counts a failure', async () => {
    const { accountId } = await makeAccount(database.db);
    const job = await insertJob(database.db, accountId);
    const lost = await claimRun(database.db, job);
    const now = new Date(Date.now() + 60_000);
    const claim = runClaim(job, { earlierLost: true, startedAt: now });
    const [again] = await inTransaction(database.db, async (tx) => {
      await recordLostRuns(tx, [{ accountId, jobId: job.id, now }]);
      return claimRuns(tx, [claim]);
    });
    expect(again).toMatchObject({ runId: claim.runId, runCount: 2, failureCount: 1, sequence: 2 });
    expect(await database.sql`SELECT * FROM ringback.job_runs WHERE job_id = ${job.id}`).toEqual([
      {
        account_id: accountId,
        id: lost.runId,
        job_id: job.id,
        number: 1,
        status: 'lost',
        worker_id: WORKER,
        error: { code: 'worker_lost', message: 'The worker stopped responding and its lease ran out.' },
        started_at: lost.runStartedAt,
        finished_at: now,
      },
    ]);
  });

  test('the dead worker, should it be alive after all, cannot end the run any more', async () => {
    const { accountId } = await makeAccount(database.db);
    const job = await insertJob(database.db, accountId);
    const lost = await claimRun(database.db, job);
    const again = await claimRun(database.db, job, { earlierLost: true });
    expect(await inTransaction(database.db, (tx) => endRuns(tx, [runEnd(lost)]))).toEqual(new Set());
    expect(await inTransaction(database.db, (tx) => endRuns(tx, [runEnd(again)]))).toEqual(new Set([job.id]));
  });

  test('nothing is recorded of a job that no run holds', async () => {
    const { accountId } = await makeAccount(database.db);
    const queued = await insertJob(database.db, accountId);
    const ended = await insertJob(database.db, accountId);
    const claimed = await claimRun(database.db, ended);
    await inTransaction(database.db, (tx) => endRuns(tx, [runEnd(claimed)]));
    const lost = [queued, ended, newJob(accountId)].map(({ id }) => ({ accountId, jobId: id, now: new Date() }));
    await inTransaction(database.db, (tx) => recordLostRuns(tx, lost));
    const runs = await database.sql`SELECT status FROM ringback.job_runs WHERE account_id = ${accountId}`;
    expect(runs).toEqual([{ status: 'succeeded' }]);
  });
});

test('two workers that claim one job in turn leave it with the second, and the first is refused', async () => {
  const { accountId } = await makeAccount(database.db);
  const job = await insertJob(database.db, accountId);
  const claims = await Promise.all([claimRun(database.db, job), claimRun(database.db, job)]);
  const counts = claims.map(({ runCount }) => runCount);
  expect(new Set(counts)).toEqual(new Set([1, 2]));
  const [first, second] = counts[0] === 1 ? claims : claims.toReversed();
  const ended = await inTransaction(database.db, async (tx) => [
    await endRuns(tx, [runEnd(first!)]),
    await endRuns(tx, [runEnd(second!)]),
  ]);
  expect(ended).toEqual([new Set(), new Set([job.id])]);
  expect(await events(job.id)).toHaveLength(2);
});
