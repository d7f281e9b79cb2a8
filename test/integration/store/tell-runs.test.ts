import { describe, expect, test } from 'vitest';
import { newId } from '#domain/ids.ts';
import { advanceJobs, advanceStranded } from '#store/delivery-queue.ts';
import { endRuns } from '#store/end-runs.ts';
import { findJob } from '#store/job-reads.ts';
import { setProgress, type StorableJob } from '#store/jobs.ts';
import { tellRuns, type RunTelling } from '#store/tell-runs.ts';
import { CALLBACK_EVENT_TYPES, type CallbackEventType } from '#domain/job.ts';
import { useDatabase } from '../../support/database.ts';
import { eventually } from '../../support/eventually.ts';
import {
  bodyOf,
  claimRun,
  finalEvent,
  insertJob,
  makeAccount,
  makeDue,
  makeEndpoint,
  type MadeEndpoint,
  runEnd,
} from '../../support/fixtures.ts';

const database = useDatabase();
const HOUR = 3_600_000;

/** A job in its first run, whose endpoint wants to hear of these. */
async function running(callbackEvents: StorableJob['callbackEvents'] = CALLBACK_EVENT_TYPES) {
  const { accountId } = await makeAccount(database.db);
  const endpoint = await makeEndpoint(database.db, accountId);
  const job = await insertJob(database.db, accountId, { callbackEvents }, endpoint);
  return { accountId, endpoint, job: await claimRun(database.db, job) };
}

type Running = Awaited<ReturnType<typeof running>>;

function telling(
  { job, endpoint }: Pick<Running, 'job'> & { readonly endpoint?: MadeEndpoint },
  type: RunTelling['event']['type'],
  changes: Partial<RunTelling> = {},
): RunTelling {
  const now = new Date();
  return {
    accountId: job.accountId,
    jobId: job.id,
    runId: job.runId,
    event: { id: newId('evt', now.getTime()), type, body: bodyOf(type) },
    delivery: endpoint === undefined ? null : { id: newId('dlv', now.getTime()), endpointId: endpoint.id },
    toldAt: now,
    progressEveryMs: 0,
    ...changes,
  };
}

const tell = (...tellings: RunTelling[]) => tellRuns(database.sql, tellings);
const eventsOf = async (jobId: string) =>
  (
    await database.sql<{ type: string; sequence: number; body: Uint8Array | null }[]>`
      SELECT type, sequence, body FROM ringback.events WHERE job_id = ${jobId} ORDER BY sequence`
  ).map(({ type, sequence, body }) => [type, sequence, body === null ? null : Buffer.from(body).toString()]);
const deliveriesOf = (jobId: string) =>
  database.sql`
    SELECT delivery.event_type AS type, delivery.status, item.state, item.job_id IS NOT NULL AS ordered
    FROM ringback.deliveries AS delivery LEFT JOIN ringback.delivery_queue AS item ON item.delivery_id = delivery.id
    WHERE delivery.job_id = ${jobId} ORDER BY delivery.position`;

describe('the start of a job', () => {
  test('is left by the claim to whoever is to tell of it, and told once', async () => {
    const { job, endpoint } = await running();
    expect(job).toMatchObject({ isStartUntold: true, sequence: 1, status: 'in_progress' });
    expect(await eventsOf(job.id)).toEqual([['job.queued', 1, null]]);
    const start = telling({ job, endpoint }, 'job.started');
    expect(await tell(start)).toEqual(new Set([job.id]));
    expect(await tell(telling({ job, endpoint }, 'job.started'))).toEqual(new Set());
    expect(await eventsOf(job.id)).toEqual([
      ['job.queued', 1, null],
      ['job.started', 2, '{"type":"job.started","sequence":2}'],
    ]);
    expect(await findJob(database.db, job.accountId, job.id)).toMatchObject({ isStartUntold: false, sequence: 2 });
  });

  test('is written by the claim where nobody is to be told', async () => {
    const { job } = await running(['job.succeeded', 'job.progress']);
    expect(job).toMatchObject({ isStartUntold: false, sequence: 2 });
    expect(await tell(telling({ job }, 'job.started'))).toEqual(new Set());
  });

  test('that a run did not come to tell is told by the next', async () => {
    const { job, endpoint } = await running();
    const lost = {
      runStatus: 'lost',
      runError: { code: 'worker_lost', message: 'x' },
      jobStatus: 'in_progress',
    } as const;
    await endRuns(database.sql, [runEnd(job, { ...lost, nextRunAt: new Date() })]);
    expect(await tell(telling({ job, endpoint }, 'job.started')), 'by the lost one').toEqual(new Set());
    await makeDue(database.db, job);
    const second = await claimRun(database.db, job);
    expect(second).toMatchObject({ isStartUntold: true, runCount: 2, sequence: 2 });
    expect(await tell(telling({ job: second, endpoint }, 'job.started'))).toEqual(new Set([job.id]));
    expect((await eventsOf(job.id)).map(([type, sequence]) => [type, sequence])).toEqual([
      ['job.queued', 1],
      ['job.retrying', 2],
      ['job.started', 3],
    ]);
  });

  test('is told to an endpoint of the account that wants all events; its submission is not', async () => {
    const { accountId } = await makeAccount(database.db);
    const all = await makeEndpoint(database.db, accountId);
    const queued = await makeEndpoint(database.db, accountId);
    await database.sql`UPDATE ringback.endpoints SET event_types = '{*}' WHERE id = ${all.id}`;
    await database.sql`UPDATE ringback.endpoints SET event_types = '{job.queued}' WHERE id = ${queued.id}`;
    const job = await claimRun(database.db, await insertJob(database.db, accountId));
    await tell(telling({ job }, 'job.started'));
    const told = await database.sql`
      SELECT event_type AS type, endpoint_id AS endpoint FROM ringback.deliveries WHERE job_id = ${job.id} ORDER BY position`;
    expect(told).toEqual([
      { type: 'job.queued', endpoint: queued.id },
      { type: 'job.started', endpoint: all.id },
    ]);
    expect((await eventsOf(job.id))[0]![2], 'the bytes that tell of it').toContain(`"id":"${job.id}"`);
  });
});

describe('progress', () => {
  test('is told once in a while, whoever wants to', async () => {
    const { job, endpoint } = await running();
    const every = { progressEveryMs: HOUR };
    expect(await tell(telling({ job, endpoint }, 'job.progress', every))).toEqual(new Set([job.id]));
    expect(await tell(telling({ job, endpoint }, 'job.progress', every))).toEqual(new Set());
    const run = { ...job, jobId: job.id };
    const shown = await setProgress(database.sql, run, { percent: 1 }, { now: new Date(), tellEveryMs: HOUR });
    expect(shown!.tellInMs).toBeGreaterThan(HOUR - 60_000);
    expect(shown!.tellInMs).toBeLessThanOrEqual(HOUR);
  });

  test.each<[string, CallbackEventType[], number | null]>([
    ['that somebody wants to hear of', ['job.progress'], 0],
    ['that nobody wants to hear of', ['job.started', 'job.succeeded'], null],
  ])('%s says when it may be told', async (_what, events, tellInMs) => {
    const { job } = await running(events);
    const run = { ...job, jobId: job.id };
    expect(await setProgress(database.sql, run, { percent: 1 }, { now: new Date(), tellEveryMs: HOUR })).toEqual({
      tellInMs,
    });
  });

  test('that has yet to be sent gives way to what is told later; the rest stays', async () => {
    const { job, endpoint } = await running();
    const told = { job, endpoint };
    await tell(telling(told, 'job.started'));
    await tell(telling(told, 'job.progress'));
    await tell(telling(told, 'job.progress'));
    await advanceJobs(database.sql, [job.id], new Date());
    expect(await deliveriesOf(job.id)).toEqual([
      { type: 'job.started', status: 'pending', state: 'ready', ordered: true },
      { type: 'job.progress', status: 'superseded', state: null, ordered: false },
      { type: 'job.progress', status: 'pending', state: 'behind', ordered: true },
    ]);
    await endRuns(database.sql, [runEnd(job, finalEvent('job.succeeded', endpoint))]);
    expect((await advanceJobs(database.sql, [job.id], new Date())).advanced).toBe(0);
    expect(await deliveriesOf(job.id)).toEqual([
      { type: 'job.started', status: 'pending', state: 'ready', ordered: true },
      { type: 'job.progress', status: 'superseded', state: null, ordered: false },
      { type: 'job.progress', status: 'superseded', state: null, ordered: false },
      { type: 'job.succeeded', status: 'pending', state: 'behind', ordered: true },
    ]);
  });

  test('under way is left to its attempt', async () => {
    const { job, endpoint } = await running();
    await tell(telling({ job, endpoint }, 'job.progress'));
    await advanceJobs(database.sql, [job.id], new Date());
    await database.sql`
      UPDATE ringback.delivery_queue SET state = 'leased', attempt_id = 'att_x', worker_id = 'wrk_x', leased_at = now(),
        lease_expires_at = now() + interval '1 minute'
      WHERE job_id = ${job.id}`;
    await endRuns(database.sql, [runEnd(job, finalEvent('job.succeeded', endpoint))]);
    await advanceJobs(database.sql, [job.id], new Date());
    expect(await deliveriesOf(job.id)).toMatchObject([{ status: 'pending', state: 'leased' }, { state: 'behind' }]);
  });

  test('is not given way to where nothing later is told', async () => {
    const { job, endpoint } = await running(['job.progress']);
    await tell(telling({ job, endpoint }, 'job.progress'));
    await endRuns(database.sql, [runEnd(job, finalEvent('job.succeeded'))]);
    await advanceJobs(database.sql, [job.id], new Date());
    expect(await deliveriesOf(job.id)).toMatchObject([{ type: 'job.progress', status: 'pending' }]);
  });

  test('of a run that is over is not told', async () => {
    const { job, endpoint } = await running();
    await endRuns(database.sql, [runEnd(job, finalEvent('job.succeeded', endpoint))]);
    expect(await tell(telling({ job, endpoint }, 'job.progress'))).toEqual(new Set());
    expect(await deliveriesOf(job.id)).toHaveLength(1);
  });
});

describe('what follows', () => {
  test('an endpoint without an order gets at once', async () => {
    const { job, endpoint } = await running();
    await database.sql`UPDATE ringback.endpoints SET ordering = 'none' WHERE id = ${endpoint.id}`;
    await tell(telling({ job, endpoint }, 'job.started'));
    await endRuns(database.sql, [runEnd(job, finalEvent('job.succeeded', endpoint))]);
    expect(await deliveriesOf(job.id)).toMatchObject([{ state: 'ready' }, { state: 'ready' }]);
  });

  test('the only event of a job is nothing, and costs no order', async () => {
    const { job, endpoint } = await running(['job.succeeded']);
    await endRuns(database.sql, [runEnd(job, finalEvent('job.succeeded', endpoint))]);
    expect(await deliveriesOf(job.id)).toMatchObject([{ state: 'ready', ordered: false }]);
  });

  test('is let go by a keeper, should the process have died that was to do so', async () => {
    const { job, endpoint } = await running();
    await tell(telling({ job, endpoint }, 'job.started'));
    expect(await deliveriesOf(job.id)).toMatchObject([{ state: 'behind' }]);
    await endRuns(database.sql, [runEnd(job, finalEvent('job.succeeded', endpoint))]);
    while ((await advanceStranded(database.db, 1)) > 0);
    expect(await deliveriesOf(job.id), 'the first of them').toMatchObject([{ state: 'ready' }, { state: 'behind' }]);
  });

  test('numbers its events without a gap, whoever writes them', async () => {
    const { job, endpoint } = await running();
    await tell(telling({ job, endpoint }, 'job.started'));
    for (let told = 0; told < 3; told++) await tell(telling({ job, endpoint }, 'job.progress'));
    await endRuns(database.sql, [runEnd(job, finalEvent('job.succeeded', endpoint))]);
    const events = await eventsOf(job.id);
    expect(events.map(([, sequence]) => sequence)).toEqual([1, 2, 3, 4, 5, 6]);
    for (const [type, sequence, body] of events.slice(1))
      expect(JSON.parse(body as string)).toEqual({ type, sequence });
  });
});

test('who tells of runs and who ends them do not wait for each other, in whichever order they come', async () => {
  const runs = [await running(), await running(), await running()];
  const isWaiting = (count: number) =>
    eventually(async () => {
      const waiting = await database.sql`
        SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`;
      expect(waiting).toHaveLength(count);
    });
  const both = await database.db.transaction(async (tx) => {
    await tx`SELECT FROM ringback.jobs WHERE id = ${runs[1]!.job.id} FOR UPDATE`;
    const reporting = tell(...runs.map((run) => telling(run, 'job.progress')));
    await isWaiting(1);
    const ending = endRuns(
      database.sql,
      runs.toReversed().map(({ job, endpoint }) => runEnd(job, finalEvent('job.succeeded', endpoint))),
    );
    await isWaiting(2);
    return { both: Promise.all([reporting, ending]) };
  });
  const [told, ended] = await both.both;
  expect([told.size, ended.size]).toEqual([3, 3]);
});
