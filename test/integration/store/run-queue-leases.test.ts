import { beforeEach, describe, expect, test } from 'vitest';
import { newId } from '#domain/ids.ts';
import { endRuns } from '#store/end-runs.ts';
import { deferRun, renewLeases, requestCancel, type RunRef } from '#store/run-queue.ts';
import { useDatabase } from '../../support/database.ts';
import { eventually } from '../../support/eventually.ts';
import { claimRun, makeDue, runEnd } from '../../support/fixtures.ts';
import { lockRow } from '../../support/locks.ts';
import { databaseNow, jobIn, pass, type Place, PLACES, rowOf } from './run-queue-rows.ts';

const database = useDatabase();

beforeEach(async () => {
  await database.sql`DELETE FROM ringback.run_queue`;
});

const RUNNER = { leaseMs: 15_000, capped: false };
const WORKER = { leaseMs: 15_000, capped: true };
const renew = (runs: readonly RunRef[], lease: typeof RUNNER, now = new Date()) =>
  renewLeases(database.sql, runs, { ...lease, now });
const row = (run: RunRef) => rowOf(database, run);

/** Renews as asked, and tells between which moments the new lease must end. */
async function renewal(run: RunRef, lease: typeof RUNNER) {
  const earliest = (await databaseNow(database)) + lease.leaseMs;
  const answers = await renew([run], lease);
  return { answers, earliest, latest: (await databaseNow(database)) + lease.leaseMs + 1 };
}

describe('a lease that is renewed', () => {
  test.each([
    ['runner', RUNNER],
    ['worker', WORKER],
  ] as const)('by a %s lasts so much longer, and nothing else of the row changes', async (holder, lease) => {
    const run = await jobIn(database, holder);
    await pass(database, run, 14);
    const before = (await row(run))!;
    const { answers, earliest, latest } = await renewal(run, lease);
    const after = (await row(run))!;
    expect(after.lease_expires_at!.getTime()).toBeGreaterThanOrEqual(earliest);
    expect(after.lease_expires_at!.getTime()).toBeLessThanOrEqual(latest);
    expect({ ...after, lease_expires_at: null }).toEqual({ ...before, lease_expires_at: null });
    expect(answers).toEqual([{ runId: run.runId, leaseExpiresAt: after.lease_expires_at, cancelRequested: false }]);
  });

  test('by a worker never outlives the run’s own time; by a runner it does: it minds the time itself', async () => {
    const [capped, free] = [await jobIn(database, 'worker'), await jobIn(database, 'runner')];
    for (const run of [capped, free]) await pass(database, run, 55);
    await renew([capped], WORKER);
    await renew([free], RUNNER);
    const [bounded, unbounded] = [(await row(capped))!, (await row(free))!];
    expect(bounded.lease_expires_at).toEqual(bounded.deadline_at);
    expect(unbounded.lease_expires_at!.getTime()).toBeGreaterThan(unbounded.deadline_at!.getTime());
  });

  test('lasts by the later of two clocks: neither a database set back nor a statement that waited makes it shorter', async () => {
    const hour = 3_600_000;
    const [early, late] = [await jobIn(database, 'runner'), await jobIn(database, 'runner')];
    const now = await databaseNow(database);
    await renew([early], RUNNER, new Date(now - hour));
    await renew([late], RUNNER, new Date(now + hour));
    expect((await row(early))!.lease_expires_at!.getTime()).toBeGreaterThanOrEqual(now + RUNNER.leaseMs);
    expect((await row(late))!.lease_expires_at!.getTime()).toBe(now + hour + RUNNER.leaseMs);
  });

  test('although somebody else keeps the row of another one locked', async () => {
    const [locked, free] = [await jobIn(database, 'runner'), await jobIn(database, 'runner')];
    for (const run of [locked, free]) await pass(database, run, 3600);
    const holder = await lockRow(database, 'run_queue', 'job_id', locked.jobId);
    const renewing = renew([locked, free], RUNNER);
    await eventually(async () => expect((await row(free))!.lease_expires_at!.getTime()).toBeGreaterThan(Date.now()));
    await holder.release();
    expect((await renewing).map(({ runId }) => runId).toSorted()).toEqual([locked.runId, free.runId].toSorted());
  });

  test('though it has run out, because nobody has taken the run away yet', async () => {
    const run = await jobIn(database, 'runner');
    await pass(database, run, 3600);
    const { answers, earliest } = await renewal(run, RUNNER);
    expect(answers).toHaveLength(1);
    expect((await row(run))!.lease_expires_at!.getTime()).toBeGreaterThanOrEqual(earliest);
  });

  test('tells that the client has called the job off', async () => {
    const run = await jobIn(database, 'runner');
    await requestCancel(database.db, run, new Date());
    expect(await renew([run], RUNNER)).toMatchObject([{ runId: run.runId, cancelRequested: true }]);
  });

  test('with others, some of which are lost, is answered alone', async () => {
    const kept = await Promise.all([jobIn(database, 'runner'), jobIn(database, 'runner')]);
    const lost = await jobIn(database, 'over');
    const another = { ...(await jobIn(database, 'runner')), runId: newId('run', 1) };
    const answers = await renew([lost, kept[0], another, kept[1]], RUNNER);
    expect(new Set(answers.map(({ runId }) => runId))).toEqual(new Set(kept.map(({ runId }) => runId)));
    expect(await renew([], RUNNER)).toEqual([]);
  });
});

describe('a lease that is lost', () => {
  test.each<[Place, typeof RUNNER]>([
    ...(['ready', 'delayed', 'backend', 'over'] as const).flatMap((place): Array<[Place, typeof RUNNER]> => [
      [place, RUNNER],
      [place, WORKER],
    ]),
    ['runner', WORKER],
    ['worker', RUNNER],
  ])('because the job is in the place “%s” is not renewed (%o)', async (place, lease) => {
    const run = await jobIn(database, place);
    const before = await row(run);
    expect(await renew([run], lease)).toEqual([]);
    expect(await row(run)).toEqual(before);
  });

  test('because another run has taken over is not renewed under the old fence', async () => {
    const old = await jobIn(database, 'runner');
    const job = { accountId: old.accountId, id: old.jobId };
    await endRuns(database.sql, [
      runEnd({ ...job, runId: old.runId }, { runStatus: 'lost', runError: LOST, jobStatus: 'in_progress' }),
    ]);
    await makeDue(database.db, job);
    const { runId } = await claimRun(database.db, job);
    const before = await row(old);
    expect(await renew([old], RUNNER)).toEqual([]);
    expect(await row(old)).toEqual(before);
    expect(await renew([{ ...old, runId }], RUNNER)).toHaveLength(1);
  });

  test('of another account is not found', async () => {
    const run = await jobIn(database, 'runner');
    expect(await renew([{ ...run, accountId: newId('acc', 1) }], RUNNER)).toEqual([]);
  });

  const LOST = { code: 'worker_lost', message: 'it was' } as const;
});

describe('a run that is handed over to a back end', () => {
  test('has until its time is up, and nobody renews it before', async () => {
    const run = await jobIn(database, 'runner');
    const before = (await row(run))!;
    expect(await deferRun(database.sql, run)).toBe(true);
    const after = await row(run);
    expect(after).toEqual({ ...before, held_by: 'backend', lease_expires_at: before.deadline_at });
    expect(await deferRun(database.sql, run), 'twice does no harm').toBe(true);
    expect(await row(run)).toEqual(after);
  });

  test('keeps its time though the runner’s last renewal comes after that', async () => {
    const run = await jobIn(database, 'runner');
    const { renewal: late } = await database.db.transaction(async (tx) => {
      await deferRun(tx, run);
      // It waits for the row, and looks at it anew once that is free.
      const waiting = renew([run], RUNNER);
      await untilSomebodyWaits();
      return { renewal: waiting };
    });
    expect(await late).toEqual([]);
    const { lease_expires_at: lease, deadline_at: deadline } = (await row(run))!;
    expect(lease).toEqual(deadline);
  });

  test('stays called off, if it was', async () => {
    const run = await jobIn(database, 'runner');
    await requestCancel(database.db, run, new Date());
    const { cancel_requested_at: requested } = (await row(run))!;
    expect(await deferRun(database.sql, run)).toBe(true);
    expect(await row(run)).toMatchObject({ held_by: 'backend', cancel_requested_at: requested });
  });

  test.each(PLACES.filter((place) => !['runner', 'worker', 'backend'].includes(place)))(
    'is refused when the job is in the place “%s”',
    async (place) => {
      const run = await jobIn(database, place);
      const before = await row(run);
      expect(await deferRun(database.sql, run)).toBe(false);
      expect(await row(run)).toEqual(before);
    },
  );

  test('is refused under another fence', async () => {
    const run = await jobIn(database, 'runner');
    const before = await row(run);
    expect(await deferRun(database.sql, { ...run, runId: newId('run', 1) })).toBe(false);
    expect(await deferRun(database.sql, { ...run, accountId: newId('acc', 1) })).toBe(false);
    expect(await row(run)).toEqual(before);
  });
});

const untilSomebodyWaits = () =>
  eventually(async () => {
    const waiting = await database.sql`
      SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`;
    expect(waiting).toHaveLength(1);
  });
