import { expect, test } from 'vitest';
import { type JobId, newId } from '#domain/ids.ts';
import { CALLBACK_EVENT_TYPES } from '#domain/job.ts';
import { endRuns } from '#store/end-runs.ts';
import { tellRuns } from '#store/tell-runs.ts';
import { letFollow } from '../../../src/callbacks/advance.ts';
import { useDatabase } from '../../support/database.ts';
import { bodyOf, claimRun, finalEvent, insertJob, makeAccount, makeEndpoint, runEnd } from '../../support/fixtures.ts';
import { REAL_CLOCK } from '../../support/workers.ts';

const database = useDatabase();
const JOBS = 30;
const PROGRESS = 12;

/** Jobs that have told of progress often and of their end, all of it behind nothing: nobody has advanced them yet. */
async function jobsWithProgress(): Promise<JobId[]> {
  const { accountId } = await makeAccount(database.db);
  const endpoint = await makeEndpoint(database.db, accountId);
  const ids: JobId[] = [];
  for (let made = 0; made < JOBS; made++) {
    const waiting = await insertJob(database.db, accountId, { callbackEvents: CALLBACK_EVENT_TYPES }, endpoint);
    const job = await claimRun(database.db, waiting);
    for (let told = 0; told < PROGRESS; told++) {
      const now = new Date();
      const event = { id: newId('evt', now.getTime()), type: 'job.progress', body: bodyOf('job.progress') } as const;
      const delivery = { id: newId('dlv', now.getTime()), endpointId: endpoint.id };
      const run = { accountId, jobId: job.id, runId: job.runId };
      await tellRuns(database.sql, [{ ...run, event, delivery, toldAt: now, progressEveryMs: 0 }]);
    }
    await endRuns(database.sql, [runEnd(job, finalEvent('job.succeeded', endpoint))]);
    ids.push(job.id);
  }
  return ids;
}

test('many who advance the same jobs at once leave none behind, and none waits for another for ever', async () => {
  const deps = { db: database.db, clock: REAL_CLOCK, announceDeliveries: () => undefined };
  for (let round = 0; round < 3; round++) {
    const ids = await jobsWithProgress();
    const orders = [ids, ids.toReversed(), ids, ids.toReversed(), ids, ids.toReversed()];
    await Promise.all(orders.map((order) => letFollow(deps, order)));
    const left = await database.sql`
      SELECT event_type AS type, state FROM ringback.delivery_queue AS item
      JOIN ringback.deliveries AS delivery ON delivery.id = item.delivery_id
      WHERE item.job_id = ANY (${ids}::text[])`;
    expect(left).toEqual(ids.map(() => ({ type: 'job.succeeded', state: 'ready' })));
  }
});
