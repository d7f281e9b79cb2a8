import { describe, expect, test } from 'vitest';
import type { AccountId } from '#domain/ids.ts';
import { insertJobs } from '#store/jobs.ts';
import { addTypeRuns, readTypeRuns } from '#store/type-stats.ts';
import { JobTypes } from '../../../src/jobs/type/job-types.ts';
import { type PolledJob, PollEstimate } from '../../../src/jobs/wait/poll-estimate.ts';
import { TypeStats } from '../../../src/jobs/wait/type-stats.ts';
import { startTcpProxy } from '../../e2e/support/tcp-proxy.ts';
import { useDatabase } from '../../support/database.ts';
import { eventually } from '../../support/eventually.ts';
import { makeAccount, newJob } from '../../support/fixtures.ts';
import { endOfJob, jobType, submitJob } from '../../support/job-life.ts';
import { makeEndings, startRunner } from '../../support/workers.ts';
import { counting } from './watch-instances.ts';

const database = useDatabase();

/** A type in a pool of its own, so that tests do not see each other's. */
function estimateOf(type: string, db = database.db) {
  const types = new JobTypes([jobType(() => null, { type, concurrency: 5 })]);
  const errors: unknown[] = [];
  const polls = new PollEstimate({ db, types, onError: (error) => errors.push(error) });
  return { polls, errors, pool: `limited:${type}` };
}

function queuedJob(accountId: AccountId, type: string, changes: Partial<PolledJob> = {}): PolledJob {
  const waits = { status: 'queued', runAt: null, nextRunAt: null, runId: null, runStartedAt: null } as const;
  return { accountId, type, createdAt: new Date(), ...waits, ...changes };
}

/** Waiting since before now, the oldest for as many milliseconds as there are. */
async function fill(accountId: AccountId, type: string, count: number): Promise<void> {
  const now = Date.now();
  const jobs = Array.from({ length: count }, (_, n) =>
    newJob(accountId, { type, pool: `limited:${type}`, createdAt: new Date(now - count + n) }),
  );
  await insertJobs(database.sql, jobs);
}

describe('how soon to ask for a job', () => {
  test('follows from what its type has taken lately', async () => {
    const { accountId } = await makeAccount(database.db);
    const { polls } = estimateOf('one.slow');
    await addTypeRuns(database.db, [{ type: 'one.slow', runs: 4, totalMs: 80_000 }]);
    await polls.read();
    const now = new Date();
    expect(polls.after(queuedJob(accountId, 'one.slow'), now)).toBe(20);
    const running = { status: 'in_progress', runId: 'run_x' as never } as const;
    const since = (ms: number) => queuedJob(accountId, 'one.slow', { ...running, runStartedAt: new Date(+now - ms) });
    expect(polls.after(since(15_000), now)).toBe(5);
    expect(polls.after(since(28_000), now)).toBe(2);
  });

  test('and from what waits before it, in its own account’s lane', async () => {
    const [busy, quiet] = [await makeAccount(database.db), await makeAccount(database.db)];
    const { polls } = estimateOf('one.queued');
    await fill(busy.accountId, 'one.queued', 300);
    // 600 in the last minute: ten a second.
    await addTypeRuns(database.db, [{ type: 'one.queued', runs: 600, totalMs: 600 }]);
    await polls.read();
    const now = new Date();
    const seconds = polls.after(queuedJob(busy.accountId, 'one.queued'), now);
    expect(seconds).toBeGreaterThanOrEqual(30);
    expect(seconds).toBeLessThan(33);
    expect(polls.after(queuedJob(quiet.accountId, 'one.queued'), now)).toBe(1);
    const early = queuedJob(busy.accountId, 'one.queued', { createdAt: new Date(+now - 10_000) });
    expect(polls.after(early, now)).toBe(1);
  });

  test('is the time it has waited, by a quarter, while nobody works on what waits', async () => {
    const { accountId } = await makeAccount(database.db);
    const { polls } = estimateOf('one.stuck');
    await fill(accountId, 'one.stuck', 5);
    await polls.read();
    const now = new Date();
    const waiting = (ms: number) => queuedJob(accountId, 'one.stuck', { createdAt: new Date(+now - ms) });
    expect(polls.after(waiting(0), now)).toBe(1);
    expect(polls.after(waiting(60_000), now)).toBe(15);
  });

  test('is answered at once from what was read last, and read again only every few seconds', async () => {
    const { accountId } = await makeAccount(database.db);
    const db = counting(database.open());
    const { polls } = estimateOf('one.asked', db);
    await addTypeRuns(database.db, [{ type: 'one.asked', runs: 1, totalMs: 7000 }]);
    const job = queuedJob(accountId, 'one.asked');
    expect(polls.after(job, new Date())).toBe(1);
    await eventually(() => expect(polls.after(job, new Date())).toBe(7));
    for (let n = 0; n < 10_000; n++) polls.after(job, new Date());
    expect(db.statements).toBeLessThan(5);
  });

  test('is answered though the database is away', async () => {
    const { accountId } = await makeAccount(database.db);
    const proxy = await startTcpProxy(database.url);
    const { polls, errors } = estimateOf('one.away', database.open({ url: proxy.url }));
    await proxy.cut();
    const now = new Date();
    const job = queuedJob(accountId, 'one.away', { createdAt: new Date(+now - 40_000) });
    expect(polls.after(job, now)).toBe(10);
    await eventually(() => expect(errors).not.toEqual([]));
    expect(polls.after(job, now)).toBe(10);
  });
});

describe('what runs take', () => {
  const statsOf = async (type: string) => (await readTypeRuns(database.db)).find((runs) => runs.type === type);

  test('is added up and written together, at the latest when the process stops', async () => {
    const db = counting(database.open());
    const stats = new TypeStats({ db, onError: (error) => expect.fail(String(error)) });
    for (let n = 0; n < 1000; n++) stats.ran(`many.${n % 2}`, 10);
    expect(db.statements).toBe(0);
    await stats.close();
    expect(db.statements).toBe(1);
    const { runs, totalMs } = (await statsOf('many.1'))!;
    expect(runs).toBeGreaterThan(490);
    expect(totalMs / runs).toBeCloseTo(10, 5);
    await stats.close();
    expect(db.statements).toBe(1);
  });

  test('is forgotten when it cannot be written, and the process stops all the same', async () => {
    const errors: unknown[] = [];
    const db = database.open();
    const stats = new TypeStats({ db, onError: (error) => errors.push(error) });
    stats.ran('lost.type', 10);
    await db.close();
    await stats.close();
    expect(errors).toHaveLength(1);
  });

  test('is counted for every run that a runner ends', async () => {
    const ran: string[] = [];
    const parts = { database };
    const endings = makeEndings(parts, { ran: (type, ms) => ran.push(`${type} ${ms >= 0}`) });
    startRunner(parts, [jobType(() => 'done', { type: 'counted.job' })], { endings });
    const job = await submitJob(database, { type: 'counted.job' });
    await endOfJob(database, job);
    await eventually(() => expect(ran).toEqual(['counted.job true']));
  });
});
