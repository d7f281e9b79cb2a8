import { describe, expect, onTestFinished, test } from 'vitest';
import type { AccountId } from '#domain/ids.ts';
import { isFinal } from '#domain/job.ts';
import { findJobs } from '#store/job-reads.ts';
import { type JobRecord, setProgress } from '#store/jobs.ts';
import type { JobNews, JobWatch, WaitOptions } from '../../../src/jobs/wait/job-watch.ts';
import { startTcpProxy } from '../../e2e/support/tcp-proxy.ts';
import { useDatabase } from '../../support/database.ts';
import { eventually } from '../../support/eventually.ts';
import { claimRun, insertJob, makeAccount } from '../../support/fixtures.ts';
import { end, endQuietly, insertedJob, type Instance, startInstance } from './watch-instances.ts';

const database = useDatabase();
const over = (job: JobRecord) => isFinal(job.status);

async function newJob(): Promise<JobRecord> {
  const { accountId } = await makeAccount(database.db);
  return insertedJob(database, accountId);
}

/** Waits for the end, for longer than the test may take. */
function untilOver({ watch }: { watch: JobWatch }, job: JobRecord, options: Partial<WaitOptions> = {}) {
  const { signal } = new AbortController();
  return watch.wait(job, { known: job, until: over, timeoutMs: 60_000, signal, ...options });
}

/** Watches, and keeps what it hears. */
function listenTo({ watch }: { watch: JobWatch }, job: Pick<JobRecord, 'accountId' | 'id'>) {
  const news: JobNews[] = [];
  const leave = watch.watch(job, (item) => {
    news.push(item);
    if (item.kind !== 'changed') leave();
  });
  return { news, leave };
}

/** Everybody who watches there has heard how the job is. */
async function settled(instance: Instance, news: readonly JobNews[], count = 1): Promise<void> {
  await eventually(() => expect(news).toHaveLength(count));
  await eventually(() => expect(instance.errors).toEqual([]));
}

describe('who waits for a job', () => {
  test('is told as soon as it ends, in the process that ended it', async () => {
    const instance = await startInstance(database);
    const job = await newJob();
    const waiting = untilOver(instance, job);
    await end(database, instance, [job]);
    expect(await waiting).toMatchObject({ id: job.id, status: 'canceled', finishedAt: expect.any(Date) });
  });

  test('and in every other one', async () => {
    const [here, there] = [await startInstance(database), await startInstance(database, { times: { settleMs: 1 } })];
    const job = await newJob();
    const { news } = listenTo(there, job);
    await settled(there, news);
    const waiting = untilOver(there, job);
    await end(database, here, [job]);
    expect(await waiting).toMatchObject({ status: 'canceled' });
  });

  test('for one that is over does not wait', async () => {
    const instance = await startInstance(database);
    const job = await newJob();
    await end(database, instance, [job]);
    const { db } = database;
    const [ended] = await findJobs(db, [{ accountId: job.accountId, jobId: job.id }]);
    expect(await untilOver(instance, ended!)).toBe(ended);
    expect(instance.db.statements).toBe(1); // its greeting
  });

  test('for one that ended since it was read is told', async () => {
    const instance = await startInstance(database);
    const job = await newJob();
    await endQuietly(database, [job]);
    expect(await untilOver(instance, job)).toMatchObject({ status: 'canceled' });
  });

  test('gets it as it is when the time is up', async () => {
    const instance = await startInstance(database);
    const job = await newJob();
    const { runId } = await claimRun(database.db, job);
    const { news } = listenTo(instance, job);
    const waiting = untilOver(instance, job, { timeoutMs: 400 });
    await settled(instance, news);
    await setProgress(
      database.sql,
      { ...job, jobId: job.id, runId },
      { percent: 42 },
      { now: new Date(), tellEveryMs: 0 },
    );
    instance.changes.publish([{ accountId: job.accountId, jobId: job.id }]);
    expect(await waiting).toMatchObject({ status: 'in_progress', progress: { percent: 42 } });
  });

  test('leaves nothing behind when it does not want to know any more', async () => {
    const instance = await startInstance(database);
    const job = await newJob();
    const stop = new AbortController();
    const waiting = untilOver(instance, job, { signal: stop.signal });
    stop.abort();
    expect(await waiting).toEqual(job);
    expect(instance.watching).toEqual([true, false]);
  });

  test('is told that it is gone', async () => {
    const instance = await startInstance(database);
    const job = await newJob();
    const waiting = untilOver(instance, job);
    await settled(instance, listenTo(instance, job).news);
    await database.sql`DELETE FROM ringback.jobs WHERE id = ${job.id}`;
    instance.watch.missed();
    expect(await waiting).toBeUndefined();
  });
});

test('who watches hears how the job is, then of every change, and nothing twice', async () => {
  const instance = await startInstance(database);
  const job = await newJob();
  const first = listenTo(instance, job);
  await settled(instance, first.news);
  const second = listenTo(instance, job);
  await settled(instance, second.news);
  expect(first.news).toHaveLength(1);
  await claimRun(database.db, job);
  instance.changes.publish([{ accountId: job.accountId, jobId: job.id }]);
  await settled(instance, second.news, 2);
  expect(first.news).toHaveLength(2);
  instance.watch.missed();
  await eventually(() => expect(instance.db.statements).toBeGreaterThan(4));
  expect(first.news.map((item) => item.kind === 'changed' && item.job.status)).toEqual(['queued', 'in_progress']);
});

test('who comes while a read is under way is not told how the job was before', async () => {
  const proxy = await startTcpProxy(database.url);
  const instance = await startInstance(database, { url: proxy.url });
  const job = await newJob();
  const early = listenTo(instance, job);
  await settled(instance, early.news);
  proxy.stall();
  const { reads } = instance.db;
  instance.changes.publish([{ accountId: job.accountId, jobId: job.id }]);
  await eventually(() => expect(instance.db.reads).toBe(reads + 1));
  await claimRun(database.db, job);
  const late = listenTo(instance, job);
  proxy.flow();
  await eventually(() => expect(late.news).not.toEqual([]));
  expect(late.news.map((item) => item.kind === 'changed' && item.job.status)).toEqual(['in_progress']);
});

describe('a change that nobody was told of', () => {
  test('because the listening connection was cut is found once there is a new one', async () => {
    const proxy = await startTcpProxy(database.url);
    const there = await startInstance(database, { listenUrl: proxy.url });
    const here = await startInstance(database);
    const job = await newJob();
    const waiting = untilOver(there, job);
    await settled(there, listenTo(there, job).news);
    await proxy.cut();
    await end(database, here, [job]);
    await proxy.restore();
    expect(await waiting).toMatchObject({ status: 'canceled' });
  });

  test('because its connection was killed is found as well', async () => {
    const there = await startInstance(database);
    const here = await startInstance(database, { listens: false });
    const job = await newJob();
    const waiting = untilOver(there, job);
    await settled(there, listenTo(there, job).news);
    await endQuietly(database, [job]);
    await database.sql`
      SELECT pg_terminate_backend(pid) FROM pg_stat_activity
      WHERE datname = current_database() AND application_name = 'ringback-listen'`;
    expect(await waiting).toMatchObject({ status: 'canceled' });
    expect(here.errors).toEqual([]);
  });

  test('because its process died in between is found by the next look at all that is watched', async () => {
    const instance = await startInstance(database, { checkEveryMs: 50 });
    const job = await newJob();
    const waiting = untilOver(instance, job);
    await settled(instance, listenTo(instance, job).news);
    await endQuietly(database, [job]);
    expect(await waiting).toMatchObject({ status: 'canceled' });
  });

  test('because its process had not heard yet that somebody watches is found a moment later', async () => {
    const there = await startInstance(database, { times: { settleMs: 100 } });
    const deaf = await startInstance(database, { listens: false });
    const job = await newJob();
    const waiting = untilOver(there, job);
    await settled(there, listenTo(there, job).news);
    await end(database, deaf, [job]);
    expect(await waiting).toMatchObject({ status: 'canceled' });
  });

  test('is told to who watched before, though a newcomer was the first to see it', async () => {
    const instance = await startInstance(database);
    const job = await newJob();
    const early = listenTo(instance, job);
    await settled(instance, early.news);
    await endQuietly(database, [job]);
    await settled(instance, listenTo(instance, job).news);
    expect(early.news).toHaveLength(2);
  });
});

test('while the database is away everybody waits, and hears when it is back', async () => {
  const proxy = await startTcpProxy(database.url);
  const instance = await startInstance(database, { url: proxy.url });
  const job = await newJob();
  const waiting = untilOver(instance, job);
  await settled(instance, listenTo(instance, job).news);
  await proxy.cut();
  await end(database, instance, [job]);
  await eventually(() => expect(instance.errors).not.toEqual([]));
  await proxy.restore();
  expect(await waiting).toMatchObject({ status: 'canceled' });
});

test('a process that shuts down lets everybody go, with what they know', async () => {
  const instance = await startInstance(database);
  const job = await newJob();
  const [waiting, { news }] = [untilOver(instance, job), listenTo(instance, job)];
  await settled(instance, news);
  await instance.watch.close();
  expect(await waiting).toMatchObject({ id: job.id, status: 'queued' });
  expect(news.at(-1)).toEqual({ kind: 'closing' });
  const { reads } = instance.db;
  expect(await untilOver(instance, job)).toEqual(job);
  await end(database, instance, [job]);
  expect(instance.db.reads).toBe(reads);
});

describe('5,000 who wait', () => {
  const WAITERS = 5000;

  async function insertJobsOf(accountId: AccountId, count: number): Promise<JobRecord[]> {
    const inserted = await Promise.all(Array.from({ length: count }, () => insertJob(database.db, accountId)));
    return findJobs(
      database.db,
      inserted.map(({ id: jobId }) => ({ accountId, jobId })),
    );
  }

  test('cost a few statements to begin with, then five a look, and are all told with a few more', async () => {
    const { accountId } = await makeAccount(database.db);
    const jobs = await insertJobsOf(accountId, WAITERS);
    const instance = await startInstance(database);
    let answered = 0;
    const waiting = jobs.map((job) => untilOver(instance, job).finally(() => (answered += 1)));
    const last = listenTo(instance, jobs.at(-1)!);
    await eventually(() => expect(last.news).toHaveLength(1));
    expect(instance.db.statements).toBeLessThan(15);

    const { reads } = instance.db;
    const before = instance.db.statements;
    instance.watch.missed();
    await eventually(() => expect(instance.db.statements).toBeGreaterThan(before + 4));
    expect(instance.db.statements - before, 'a look of its own may have been under way').toBeLessThan(11);
    expect(instance.db.reads).toBe(reads);

    for (let start = 0; start < WAITERS; start += 200) await end(database, instance, jobs.slice(start, start + 200));
    const ended = await Promise.all(waiting);
    expect(ended.every((job) => job?.status === 'canceled')).toBe(true);
    expect(instance.db.reads - reads).toBeLessThan(2 * (WAITERS / 200));
    expect(answered).toBe(WAITERS);
  });

  test('for one and the same job are told with one read', async () => {
    const instance = await startInstance(database);
    const job = await newJob();
    const waiting = Array.from({ length: WAITERS }, () => untilOver(instance, job));
    const last = listenTo(instance, job);
    await settled(instance, last.news);
    const before = instance.db.reads;
    await end(database, instance, [job]);
    const ended = await Promise.all(waiting);
    // The same record for all: what is made of it is made once.
    expect(new Set(ended).size).toBe(1);
    expect(instance.db.reads - before).toBe(1);
  });

  test('for other jobs than the one that changes cost it no read', async () => {
    const { accountId } = await makeAccount(database.db);
    const jobs = await insertJobsOf(accountId, 1000);
    const instance = await startInstance(database);
    const stop = new AbortController();
    onTestFinished(() => stop.abort());
    for (const job of jobs) void untilOver(instance, job, { signal: stop.signal });
    const { news } = listenTo(instance, jobs[0]!);
    await settled(instance, news);
    const before = instance.db.reads;
    const unwatched = await newJob();
    await end(database, instance, [unwatched]);
    await end(database, instance, [jobs[0]!]);
    await settled(instance, news, 2);
    expect(instance.db.reads - before).toBe(1);
  });
});
