import { beforeEach, describe, expect, test } from 'vitest';
import { newId } from '#domain/ids.ts';
import { findLapsedRuns, requestCancel, type RunRef } from '#store/run-queue.ts';
import { findJob } from '#store/job-reads.ts';
import { useDatabase } from '../../support/database.ts';
import { databaseNow, jobIn, pass, type Place, PLACES, rowOf } from './run-queue-rows.ts';

const database = useDatabase();

beforeEach(async () => {
  await database.sql`DELETE FROM ringback.run_queue`;
});

const GRACE_MS = 10_000;
const lapsed = (limit = 100, before = new Date()) =>
  findLapsedRuns(database.db, { limit, cancelGraceMs: GRACE_MS, before });
const row = (run: RunRef) => rowOf(database, run);
const jobOf = ({ accountId, jobId }: RunRef) => findJob(database.db, accountId, jobId);

// Each run may take 60 s; leases are renewed for 15.
describe('a run has lapsed', () => {
  test.each<[string, Place, number, { timedOut: boolean }]>([
    ['when its runner is silent for the length of a lease', 'runner', 16, { timedOut: false }],
    ['when its worker is', 'worker', 16, { timedOut: false }],
    ['when a worker has had the time it may take', 'worker', 61, { timedOut: true }],
    ['when its back end has', 'backend', 61, { timedOut: true }],
    [
      'and is lost, not timed out, when its runner is silent for longer than the run may take',
      'runner',
      61,
      { timedOut: false },
    ],
  ])('%s', async (_when, place, seconds, { timedOut }) => {
    const run = await jobIn(database, place);
    await pass(database, run, seconds);
    const heldBy = place;
    expect(await lapsed()).toEqual([{ ...run, heldBy, timedOut, timeoutMs: 60_000, cancelRequested: false }]);
  });

  test.each<[string, Place, number]>([
    ['while its runner renews', 'runner', 14],
    ['while its worker renews', 'worker', 14],
    ['before its back end has had its time', 'backend', 59],
    ['that waits to be claimed, however long', 'ready', 86_400],
    ['that is not due, however long', 'delayed', 86_400],
    ['that is over', 'over', 86_400],
  ])('not one %s', async (_which, place, seconds) => {
    const run = await jobIn(database, place);
    await pass(database, run, seconds);
    expect(await lapsed()).toEqual([]);
  });

  test('when it was called off and has had its grace, though its lease is renewed', async () => {
    const run = await jobIn(database, 'runner', { leaseMs: 600_000 });
    await requestCancel(database.db, run, new Date());
    await pass(database, run, GRACE_MS / 1000 - 1);
    expect(await lapsed()).toEqual([]);
    await pass(database, run, 2);
    expect(await lapsed()).toMatchObject([{ runId: run.runId, cancelRequested: true, timedOut: false }]);
  });

  test('and is found with so many others as are asked for', async () => {
    const runs = await Promise.all(Array.from({ length: 5 }, () => jobIn(database, 'runner')));
    for (const run of runs) await pass(database, run, 16);
    expect(await lapsed(3)).toHaveLength(3);
    expect(new Set((await lapsed()).map(({ runId }) => runId))).toEqual(new Set(runs.map(({ runId }) => runId)));
  });
});

describe('no run has lapsed', () => {
  const HOUR = 3_600_000;

  test.each<[string, seconds: number, before: number]>([
    ["whose lease ran out by the database's clock alone: that one has jumped", 16, -HOUR],
    ["whose lease ran out by the rescuer's clock alone", 14, HOUR],
  ])('%s', async (_which, seconds, before) => {
    const run = await jobIn(database, 'runner');
    await pass(database, run, seconds);
    expect(await lapsed(100, new Date(Date.now() + before))).toEqual([]);
  });

  test('that was called off and has its grace by the clock of the rescuer', async () => {
    const run = await jobIn(database, 'runner', { leaseMs: 600_000 });
    await requestCancel(database.db, run, new Date());
    await pass(database, run, 60);
    expect(await lapsed(100, new Date(Date.now() - 2 * HOUR))).toEqual([]);
  });
});

describe('a cancel', () => {
  test.each(['runner', 'worker', 'backend'] as const)(
    'of a run that a %s holds marks queue and job, and answers the run',
    async (place) => {
      const run = await jobIn(database, place);
      const [queued, job] = [(await row(run))!, (await jobOf(run))!];
      const earliest = await databaseNow(database);
      const now = new Date(job.updatedAt.getTime() + 5000);
      expect(await requestCancel(database.db, run, now)).toBe(run.runId);
      const marked = (await row(run))!;
      expect(marked.cancel_requested_at!.getTime(), 'by the database’s clock').toBeGreaterThanOrEqual(earliest);
      expect({ ...marked, cancel_requested_at: null }).toEqual(queued);
      expect(await jobOf(run)).toEqual({ ...job, cancelRequestedAt: now, updatedAt: now });
    },
  );

  test('for the second time answers the same and changes nothing: the grace runs from the first', async () => {
    const run = await jobIn(database, 'runner');
    await requestCancel(database.db, run, new Date());
    await pass(database, run, 3);
    const before = [await row(run), await jobOf(run)];
    expect(await requestCancel(database.db, run, new Date(Date.now() + 60_000))).toBe(run.runId);
    expect([await row(run), await jobOf(run)]).toEqual(before);
  });

  test.each(PLACES.filter((place) => !['runner', 'worker', 'backend'].includes(place)))(
    'of a job in the place “%s” finds no run, and marks nothing',
    async (place) => {
      const run = await jobIn(database, place);
      const before = [await row(run), await jobOf(run)];
      expect(await requestCancel(database.db, run, new Date())).toBeUndefined();
      expect([await row(run), await jobOf(run)]).toEqual(before);
    },
  );

  test('of another account’s job finds nothing', async () => {
    const run = await jobIn(database, 'runner');
    expect(await requestCancel(database.db, { ...run, accountId: newId('acc', 1) }, new Date())).toBeUndefined();
    expect((await row(run))!.cancel_requested_at).toBeNull();
  });
});
