import { expect, test } from 'vitest';
import { openDatabase } from '#store/database.ts';
import { claimRuns } from '#store/claim-runs.ts';
import { insertJobs } from '#store/jobs.ts';
import { endRuns } from '#store/end-runs.ts';
import { findUncleanQueues, vacuumQueue } from '#store/vacuum.ts';
import { buffersTouchedBy, withoutAutovacuum } from '../../support/buffers.ts';
import { useDatabase } from '../../support/database.ts';
import { eventually } from '../../support/eventually.ts';
import { makeAccount, newJob, runClaim, runEnd } from '../../support/fixtures.ts';

const database = useDatabase();

test('a queue through which much has gone is found, and once vacuumed claims cost what they cost at first', async () => {
  await withoutAutovacuum(database.db);
  const { accountId } = await makeAccount(database.db);
  // The session's counters are told with the end of each statement that asks for it.
  const one = openDatabase({ url: database.url, applicationName: 'ringback-test', max: 1, pooled: false });
  const pool = 'test:vacuum';
  const claim = (limit: number) => claimRuns(one, runClaim({ pool, limit }));
  const lives = async (count: number) => {
    await insertJobs(
      one.sql,
      Array.from({ length: count }, () => newJob(accountId, { pool })),
    );
    const { jobs } = await claim(count);
    await endRuns(
      one.sql,
      jobs.map((job) => runEnd(job)),
    );
  };
  const costOfNothing = () => buffersTouchedBy(one, () => claim(10));
  try {
    const before = await costOfNothing();
    for (let round = 0; round < 10; round++) await lives(400);
    await one.sql`SELECT pg_stat_force_next_flush()`;
    await eventually(async () => expect(await findUncleanQueues(database.db, 2000)).toEqual(['run_queue']));
    expect(await costOfNothing(), 'what ended lies in the way').toBeGreaterThan(before + 20);
    await vacuumQueue(database.db, 'run_queue');
    expect(await costOfNothing()).toBeLessThanOrEqual(before + 10);
    await eventually(async () => expect(await findUncleanQueues(database.db, 2000)).toEqual([]));
  } finally {
    await one.close();
  }
});
