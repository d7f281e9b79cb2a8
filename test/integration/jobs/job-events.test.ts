import { describe, expect, onTestFinished, test } from 'vitest';
import type { ClaimedJob } from '#store/claim-runs.ts';
import { findJobs } from '#store/job-reads.ts';
import { type JobRecord, setProgress } from '#store/jobs.ts';
import { endRuns, type RunEnd } from '#store/end-runs.ts';
import { type FollowedItem, JobEvents } from '../../../src/jobs/wait/job-events.ts';
import { startTcpProxy } from '../../e2e/support/tcp-proxy.ts';
import { useDatabase } from '../../support/database.ts';
import { eventually } from '../../support/eventually.ts';
import { claimRun, makeAccount, makeDue, runEnd } from '../../support/fixtures.ts';
import { insertedJob, type Instance, type InstanceOptions, startInstance } from './watch-instances.ts';

const database = useDatabase();

async function start(options: InstanceOptions & { readonly heartbeatMs?: number } = {}) {
  const instance = await startInstance(database, options);
  const { heartbeatMs = 60_000 } = options;
  const onError = (error: unknown) => void instance.errors.push(error);
  const events = new JobEvents({ db: instance.db, watch: instance.watch, onError, heartbeatMs });
  const { accountId } = await makeAccount(database.db);
  return { instance, events, job: await insertedJob(database, accountId) };
}

function publish({ changes }: Instance, { accountId, id: jobId }: Pick<JobRecord, 'accountId' | 'id'>): void {
  changes.publish([{ accountId, jobId }]);
}

async function read({ accountId, id: jobId }: JobRecord): Promise<JobRecord> {
  const [job] = await findJobs(database.db, [{ accountId, jobId }]);
  return job!;
}

/** `2 job.started`, `42 %`, `...` for a heartbeat. */
function inShort(item: FollowedItem): string {
  if (item.kind === 'event') return `${item.event.sequence} ${item.event.type}`;
  return item.kind === 'progress' ? `${item.job.progress?.percent} %` : '...';
}

/** Follows, and keeps what comes; `done` resolves at the end. Stopped with the test. */
function follow(events: JobEvents, job: JobRecord, after = 0) {
  const items: FollowedItem[] = [];
  const stop = new AbortController();
  onTestFinished(() => stop.abort());
  const done = (async () => {
    for await (const item of events.follow(job, after, stop.signal)) items.push(item);
  })();
  const heard = (...expected: string[]) => eventually(() => expect(items.map(inShort)).toEqual(expected));
  return { items, stop, done, heard };
}

async function progress(by: Instance, run: ClaimedJob, percent: number): Promise<void> {
  await setProgress(database.sql, { ...run, jobId: run.id }, { percent }, { now: new Date(), tellEveryMs: 0 });
  publish(by, run);
}

async function endRun(by: Instance, run: ClaimedJob, changes: Partial<RunEnd> = {}): Promise<void> {
  await endRuns(database.sql, [runEnd(run, changes)]);
  publish(by, run);
}

const RELEASED = { runStatus: 'released', jobStatus: 'in_progress' } as const;

describe('who follows a job', () => {
  test('is told every event as it happens, with the job as it is, and progress in between', async () => {
    const { instance, events, job } = await start();
    const followed = follow(events, job);
    await followed.heard('1 job.queued');
    const run = await claimRun(database.db, job);
    publish(instance, job);
    await followed.heard('1 job.queued', '2 job.started');
    await progress(instance, run, 40);
    await followed.heard('1 job.queued', '2 job.started', '40 %');
    await endRun(instance, run);
    await followed.done;
    await followed.heard('1 job.queued', '2 job.started', '40 %', '3 job.succeeded');
    expect(followed.items.map((item) => item.kind !== 'heartbeat' && item.job.status)).toEqual([
      'queued',
      'in_progress',
      'in_progress',
      'succeeded',
    ]);
    expect(instance.watching).toEqual([true, false]);
  });

  test.each([0, 1, 2, 3, 4])('and comes back having seen event %d is told the rest, none twice', async (seen) => {
    const { instance, events, job } = await start();
    const run = await claimRun(database.db, job);
    await endRun(instance, run, RELEASED);
    await makeDue(database.db, job);
    const again = follow(events, await read(job), seen);
    const past = ['1 job.queued', '2 job.started', '3 job.retrying'].slice(seen);
    if (seen < 4) await again.heard(...past);
    await endRun(instance, await claimRun(database.db, job));
    await again.done;
    await again.heard(...past, ...(seen < 4 ? ['4 job.succeeded'] : []));
  });

  test('of one that is over is told all of it, and no more', async () => {
    const { instance, events, job } = await start();
    await endRun(instance, await claimRun(database.db, job));
    const followed = follow(events, await read(job));
    await followed.done;
    await followed.heard('1 job.queued', '2 job.started', '3 job.succeeded');
  });

  test('never gets an event with a job to which it has not happened yet', async () => {
    const { instance, events, job } = await start();
    const followed = follow(events, job);
    await followed.heard('1 job.queued');
    await endRun(instance, await claimRun(database.db, job));
    await followed.done;
    const last = followed.items.at(-1)!;
    expect(last).toMatchObject({ kind: 'event', event: { type: 'job.succeeded' }, job: { status: 'succeeded' } });
    for (const item of followed.items)
      if (item.kind === 'event') expect(item.job.sequence).toBeGreaterThanOrEqual(item.event.sequence);
  });

  test('and does not take what it is told misses progress, but no event', async () => {
    const { instance, events, job } = await start();
    const run = await claimRun(database.db, job);
    const stop = new AbortController();
    const items = events.follow(await read(job), 0, stop.signal);
    onTestFinished(() => stop.abort());
    expect(inShort((await items.next()).value!)).toBe('1 job.queued');
    // Nobody reads from here on.
    for (const percent of [10, 20, 30]) await progress(instance, run, percent);
    await endRun(instance, run, { ...RELEASED, progress: { percent: 90 } });
    await makeDue(database.db, job);
    await endRun(instance, await claimRun(database.db, job));
    const rest: string[] = [];
    for await (const item of items) rest.push(inShort(item));
    expect(rest).toEqual(['2 job.started', '3 job.retrying', '4 job.succeeded']);
  });

  test('hears that it is still there while nothing happens', async () => {
    const { events, job } = await start({ heartbeatMs: 10 });
    const followed = follow(events, job);
    await eventually(() =>
      expect(followed.items.map(inShort).slice(0, 4)).toEqual(['1 job.queued', '...', '...', '...']),
    );
  });

  test('hears the progress that there is when it comes, and each only once', async () => {
    const { instance, events, job } = await start();
    const run = await claimRun(database.db, job);
    await progress(instance, run, 25);
    const followed = follow(events, await read(job), 2);
    await followed.heard('25 %');
    publish(instance, job);
    await progress(instance, run, 50);
    await followed.heard('25 %', '50 %');
  });
});

describe('following ends', () => {
  test('at once when nobody wants to know any more', async () => {
    const { instance, events, job } = await start();
    const followed = follow(events, job);
    await followed.heard('1 job.queued');
    followed.stop.abort();
    await followed.done;
    expect(instance.watching).toEqual([true, false]);
  });

  test('without having begun when nobody wanted to know in the first place', async () => {
    const { instance, events, job } = await start();
    const followed = events.follow(job, 0, AbortSignal.abort());
    expect(await followed.next()).toEqual({ done: true, value: undefined });
    expect(instance.watching).toEqual([true, false]);
  });

  test('when the process shuts down', async () => {
    const { instance, events, job } = await start();
    const followed = follow(events, job);
    await followed.heard('1 job.queued');
    await instance.watch.close();
    await followed.done;
  });

  test('when the job is removed', async () => {
    const { instance, events, job } = await start();
    const followed = follow(events, job);
    await followed.heard('1 job.queued');
    await database.sql`DELETE FROM ringback.jobs WHERE id = ${job.id}`;
    publish(instance, job);
    await followed.done;
  });

  test('when the database goes away before an event could be read, so that it can be asked for again', async () => {
    const proxy = await startTcpProxy(database.url);
    const { instance, events, job } = await start({ url: proxy.url });
    await proxy.cut();
    const followed = follow(events, job);
    await followed.done;
    expect(followed.items).toEqual([]);
    expect(instance.errors).not.toEqual([]);
  });
});

test('a list has the events after the one that was seen', async () => {
  const { instance, events, job } = await start();
  await endRun(instance, await claimRun(database.db, job));
  const ended = await read(job);
  const typesAfter = async (after: number) => (await events.list(ended, after)).map(({ type }) => type);
  expect(await typesAfter(0)).toEqual(['job.queued', 'job.started', 'job.succeeded']);
  expect(await typesAfter(2)).toEqual(['job.succeeded']);
  expect(await typesAfter(3)).toEqual([]);
});

test('a list is whole, however many events there are', async () => {
  const { events, job } = await start();
  await database.sql`
    INSERT INTO ringback.events (account_id, id, type, job_id, sequence, created_at)
    SELECT ${job.accountId}, 'evt_' || lpad(n::text, 26, '0'), 'job.retrying', ${job.id}, n, now()
    FROM generate_series(2, 501) AS n`;
  const sequences = (await events.list(job, 0)).map(({ sequence }) => sequence);
  expect(sequences).toEqual(Array.from({ length: 501 }, (_, n) => n + 1));
});

test('hundreds who follow the same job are told with two statements', async () => {
  const { instance, events, job } = await start();
  const all = Array.from({ length: 400 }, () => follow(events, job));
  await Promise.all(all.map(({ heard }) => heard('1 job.queued')));
  const run = await claimRun(database.db, job);
  const before = instance.db.statements;
  publish(instance, job);
  await Promise.all(all.map(({ heard }) => heard('1 job.queued', '2 job.started')));
  // The job, and its event; a look at what is watched may come in between.
  expect(instance.db.statements - before).toBeLessThan(5);
  await endRun(instance, run);
  await Promise.all(all.map(({ done }) => done));
});
