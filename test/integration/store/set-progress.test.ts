import { describe, expect, test } from 'vitest';
import { newId } from '#domain/ids.ts';
import { findJob } from '#store/job-reads.ts';
import { setProgress } from '#store/jobs.ts';
import { endRuns } from '#store/end-runs.ts';
import { useDatabase } from '../../support/database.ts';
import { makeRunning, runEnd } from '../../support/fixtures.ts';

const database = useDatabase();

describe('progress', () => {
  const progressOf = async (id: string) =>
    (await database.sql`SELECT progress, progress ->> 'message' AS message FROM ringback.jobs WHERE id = ${id}`)[0];

  test('shows on the job and moves its updated_at', async () => {
    const { accountId, job } = await makeRunning(database.db);
    const now = new Date(Date.now() + 5000);
    await setProgress(
      database.sql,
      { accountId, jobId: job.id, runId: job.runId },
      { percent: 12.5 },
      { now, tellEveryMs: 0 },
    );
    const found = await findJob(database.db, accountId, job.id);
    expect(found).toMatchObject({ progress: { percent: 12.5 }, updatedAt: now });
  });

  test('of a run that is no longer the job’s own is dropped', async () => {
    const { accountId, job } = await makeRunning(database.db);
    const stale = { accountId, jobId: job.id, runId: newId('run', Date.now()) };
    await setProgress(database.sql, stale, { percent: 1 }, { now: new Date(), tellEveryMs: 0 });
    expect(await progressOf(job.id)).toEqual({ progress: null, message: null });
    await endRuns(database.sql, [runEnd(job)]);
    await setProgress(
      database.sql,
      { accountId, jobId: job.id, runId: job.runId },
      { percent: 1 },
      { now: new Date(), tellEveryMs: 0 },
    );
    expect(await progressOf(job.id)).toEqual({ progress: null, message: null });
  });

  test.each([
    ['U+0000', 'a\0b'],
    ['half a surrogate pair', 'a\ud800b'],
  ])('can be read with SQL, whatever its message holds: %s', async (_, message) => {
    const { accountId, job } = await makeRunning(database.db);
    await setProgress(
      database.sql,
      { accountId, jobId: job.id, runId: job.runId },
      { percent: 1, message },
      { now: new Date(), tellEveryMs: 0 },
    );
    expect(await progressOf(job.id)).toMatchObject({ message: 'a\uFFFDb' });
  });
});
