import type { Connection } from '#store/database.ts';
import { describe, expect, test } from 'vitest';
import type { AccountId } from '#domain/ids.ts';
import { listEvents } from '#store/event-reads.ts';
import { insertJobs, type StorableJob } from '#store/jobs.ts';
import { endRuns } from '#store/end-runs.ts';
import { buffersTouched, withoutAutovacuum } from '../../support/buffers.ts';
import { useDatabase } from '../../support/database.ts';
import { claimRun, insertJob, makeAccount, newJob, runEnd } from '../../support/fixtures.ts';

const database = useDatabase();

/** A job with the events queued, started, and as many times retrying. */
async function retriedJob(accountId: AccountId, times: number): Promise<StorableJob> {
  const job = await insertJob(database.db, accountId);
  for (let n = 0; n < times; n++) {
    const claimed = await claimRun(database.db, job);
    await endRuns(database.sql, [runEnd(claimed, { runStatus: 'released', jobStatus: 'in_progress' })]);
  }
  return job;
}

const page = (job: StorableJob, after = 0) => ({
  accountId: job.accountId,
  jobId: job.id,
  after,
  since: job.createdAt,
});

const typesOf = (events: readonly { type: string; sequence: number }[] | undefined) =>
  events?.map(({ type, sequence }) => `${sequence} ${type}`);

describe('the events of a job', () => {
  test('come in their order, after the one that is known', async () => {
    const { accountId } = await makeAccount(database.db);
    const job = await retriedJob(accountId, 2);
    const pages = new Map([
      ['all', page(job)],
      ['rest', page(job, 2)],
      ['none', page(job, 4)],
    ]);
    const events = await listEvents(database.db, pages, 100);
    const all = ['1 job.queued', '2 job.started', '3 job.retrying', '4 job.retrying'];
    expect(typesOf(events.get('all'))).toEqual(all);
    expect(typesOf(events.get('rest'))).toEqual(all.slice(2));
    expect(events.get('none')).toBeUndefined();
    expect(events.get('all')![0]).toMatchObject({ id: job.eventId, createdAt: job.createdAt });
  });

  test('come a page at a time, each job’s for itself', async () => {
    const { accountId } = await makeAccount(database.db);
    const [one, other] = [await retriedJob(accountId, 3), await retriedJob(accountId, 1)];
    const pages = new Map([
      ['one', page(one, 1)],
      ['other', page(other)],
    ]);
    const events = await listEvents(database.db, pages, 2);
    expect(typesOf(events.get('one'))).toEqual(['2 job.started', '3 job.retrying']);
    expect(typesOf(events.get('other'))).toEqual(['1 job.queued', '2 job.started']);
  });

  test('are not another account’s', async () => {
    const [one, other] = [await makeAccount(database.db), await makeAccount(database.db)];
    const job = await retriedJob(one.accountId, 1);
    const events = await listEvents(database.db, new Map([['x', { ...page(job), accountId: other.accountId }]]), 100);
    expect(events.size).toBe(0);
  });

  test('are found by their index: many others cost nothing', async () => {
    const db = database.open({ max: 1 });
    await withoutAutovacuum(database.db);
    const { accountId } = await makeAccount(database.db);
    const job = await retriedJob(accountId, 1);
    const read = (tx: unknown) => listEvents({ ...db, sql: tx as Connection }, new Map([['x', page(job)]]), 100);
    await buffersTouched(db, read);
    const before = await buffersTouched(db, read);
    const others = Array.from({ length: 3000 }, () => newJob(accountId));
    for (let start = 0; start < others.length; start += 500)
      await insertJobs(database.sql, others.slice(start, start + 500));
    expect(await buffersTouched(db, read)).toBeLessThan(before + 10);
  });
});
