import { expect, test } from 'vitest';
import { advanceJobs } from '#store/delivery-queue.ts';
import type { DeliveryId } from '#domain/ids.ts';
import { CALLBACK_EVENT_TYPES } from '#domain/job.ts';
import { Endpoints } from '../../../src/callbacks/endpoints.ts';
import { Redelivery } from '../../../src/callbacks/redelivery.ts';
import { SHARED_POOLS } from '../../../src/jobs/type/job-types.ts';
import { useDatabase } from '../../support/database.ts';
import { eventually } from '../../support/eventually.ts';
import { accepted, insertJob, makeAccount, makeEndpoint } from '../../support/fixtures.ts';
import { type Handler, jobType } from '../../support/job-life.ts';
import { errorsIn } from '../../support/log.ts';
import { type Answer, startReceiver } from '../../support/receiver.ts';
import { REAL_CLOCK, advancing, makeTeller, startCourier, startRunner } from '../../support/workers.ts';

const database = useDatabase();
const parts = () => ({ database });

interface Told {
  readonly type: string;
  readonly sequence: number;
  readonly data: { readonly job: { readonly id: string; readonly progress?: { readonly percent: number } } };
}

/** A receiver that hears of everything that jobs of its account do, and a way to submit them. */
async function setUp(handler: Handler, { couriers = 1, schedule = [0, 20, 20, 20], answers = [] as Answer[] } = {}) {
  const receiver = await startReceiver();
  receiver.script(...answers);
  const { accountId } = await makeAccount(database.db);
  const endpoint = await makeEndpoint(database.db, accountId, receiver.url);
  const sent = Array.from({ length: couriers }, () => startCourier(parts(), { schedule }));
  const announceDeliveries = () => sent.forEach(({ worker }) => worker.loop.wake());
  startRunner(parts(), [jobType(handler)], { teller: makeTeller(parts(), { announceDeliveries }) });
  const submit = () =>
    insertJob(database.db, accountId, { pool: SHARED_POOLS.inline, callbackEvents: CALLBACK_EVENT_TYPES }, endpoint);
  const told = (): Told[] => receiver.requests.map(({ json }) => json as Told);
  const typesTold = () => told().map(({ type }) => type);
  return { receiver, accountId, endpoint, submit, told, typesTold, sent };
}

const statuses = async (jobId: string) =>
  (
    await database.sql`SELECT event_type AS type, status FROM ringback.deliveries WHERE job_id = ${jobId} ORDER BY position`
  ).map(({ type, status }) => [type, status]);

const untilOver = (jobId: string) =>
  eventually(async () => {
    const rows = await database.sql`
      SELECT FROM ringback.jobs AS job WHERE id = ${jobId} AND finished_at IS NOT NULL AND NOT EXISTS (
        SELECT FROM ringback.delivery_queue WHERE job_id = job.id)`;
    expect(rows).toHaveLength(1);
  });

test('what follows a failed attempt waits until it is delivered', async () => {
  const { receiver, submit, typesTold } = await setUp(() => 1, { answers: [{ status: 500 }, { status: 500 }] });
  const job = await submit();
  await untilOver(job.id);
  expect(typesTold()).toEqual(['job.started', 'job.started', 'job.started', 'job.succeeded']);
  expect(receiver.requests).toHaveLength(4);
});

test('what follows an exhausted delivery goes on', async () => {
  const failing: Answer[] = [{ status: 500 }, { status: 500 }];
  const { submit, typesTold } = await setUp(() => 1, { schedule: [0, 20], answers: failing });
  const job = await submit();
  await untilOver(job.id);
  expect(typesTold()).toEqual(['job.started', 'job.started', 'job.succeeded']);
  expect(await statuses(job.id)).toEqual([
    ['job.started', 'exhausted'],
    ['job.succeeded', 'delivered'],
  ]);
});

test('progress is told with what it is by then, and nothing of it after the end', async () => {
  const release = Promise.withResolvers<void>();
  const { submit, told } = await setUp(async ({ progress }) => {
    for (let percent = 1; percent <= 100; percent++) progress(percent);
    await release.promise;
    progress(100, 'too late');
    return 1;
  });
  const job = await submit();
  await eventually(() => expect(told().at(-1)?.data.job.progress).toEqual({ percent: 100 }));
  expect(told().length, 'coalesced').toBeLessThan(10);
  release.resolve();
  await untilOver(job.id);
  expect(told().at(-1)).toMatchObject({ type: 'job.succeeded' });
  const sequences = told().map(({ sequence }) => sequence);
  expect(sequences).toEqual([...new Set(sequences)].toSorted((a, b) => a - b));
});

test('progress that was under way when the end was told, and failed, gives way to it', async () => {
  const { receiver, submit, told, typesTold } = await setUp(
    async ({ progress }) => {
      progress(50);
      await receiver.waitFor(2);
      return 1;
    },
    // A retry would come in an hour.
    { schedule: [0, 3_600_000] },
  );
  const { promise: endIsTold, resolve: answer } = Promise.withResolvers<void>();
  receiver.answerAll(async ({ json }) => {
    if ((json as Told).type !== 'job.progress') return { status: 200 };
    await endIsTold;
    return { status: 500 };
  });
  const job = await submit();
  await eventually(async () => expect(await statuses(job.id)).toHaveLength(3));
  answer();
  await untilOver(job.id);
  expect(typesTold()).toEqual(['job.started', 'job.progress', 'job.succeeded']);
  expect(told().at(-1)?.sequence).toBe(4);
  expect(await statuses(job.id)).toMatchObject([{}, ['job.progress', 'superseded'], ['job.succeeded', 'delivered']]);
});

test('progress is sent again when that is asked for, whatever was told since', async () => {
  const { receiver, accountId, submit, typesTold } = await setUp(async ({ progress }) => {
    progress(50);
    await receiver.waitFor(2);
    return 1;
  });
  const job = await submit();
  await receiver.waitFor(3);
  await untilOver(job.id);
  const [row] = await database.sql<[{ id: DeliveryId }]>`
    SELECT id FROM ringback.deliveries WHERE job_id = ${job.id} AND event_type = 'job.progress'`;
  const deps = { db: database.db, clock: REAL_CLOCK, announceDeliveries: () => undefined };
  const redelivery = new Redelivery({ ...deps, advanceJobs: advancing(database, deps) });
  accepted(await redelivery.redeliver(accountId, row.id, { retry: true, endpointId: undefined }));
  await receiver.waitFor(4);
  await untilOver(job.id);
  expect(typesTold().at(-1)).toBe('job.progress');
  expect(await statuses(job.id)).toMatchObject([{}, ['job.progress', 'delivered'], {}]);
});

test(
  'jobs keep their order each, under fire from several couriers and an erratic receiver',
  { timeout: 60_000 },
  async () => {
    const answers = Array.from({ length: 200 }, (_, index): Answer => ({ status: index % 3 === 0 ? 500 : 200 }));
    const { submit, told, sent } = await setUp(
      ({ progress }) => {
        progress(50);
        return 1;
      },
      // Never exhausted: what is delivered is compared, in the order in which it was.
      { couriers: 3, schedule: Array.from({ length: 30 }, () => 1), answers },
    );
    const jobs = await Promise.all(Array.from({ length: 60 }, submit));
    for (const { id } of jobs) await untilOver(id);
    const byJob = Map.groupBy(told(), ({ data }) => data.job.id);
    expect(byJob.size).toBe(60);
    for (const requests of byJob.values()) {
      const sequences = requests.map(({ sequence }) => sequence);
      expect(sequences, 'never one after a later one').toEqual(sequences.toSorted((a, b) => a - b));
      expect(requests.at(-1)?.type).toBe('job.succeeded');
    }
    expect(await database.sql`SELECT FROM ringback.delivery_queue`).toEqual([]);
    for (const { lines } of sent) expect(errorsIn(lines)).toEqual([]);
  },
);

test('what was held is recovered in the order of each job', async () => {
  const { receiver, accountId, endpoint, submit, typesTold } = await setUp(() => 1);
  await database.sql`
    UPDATE ringback.endpoints SET status = 'disabled', disabled_reason = 'failing' WHERE id = ${endpoint.id}`;
  const jobs = await Promise.all([submit(), submit()]);
  for (const { id } of jobs) await untilOver(id);
  expect(receiver.requests).toEqual([]);
  const nothing = () => undefined;
  const deps = { db: database.db, clock: REAL_CLOCK, announceDeliveries: nothing, eventsWritten: nothing };
  const endpoints = new Endpoints(deps);
  accepted(await endpoints.enable(accountId, endpoint.id));
  const redelivery = new Redelivery({ ...deps, advanceJobs: advancing(database, deps) });
  const window = { since: new Date(Date.now() - 60_000), until: new Date() };
  const wanted = { endpointId: endpoint.id, to: null, ...window, statuses: ['held'] as const, eventTypes: null };
  const run = { signal: new AbortController().signal, progress: nothing };
  expect(await redelivery.recover(accountId, wanted, run)).toBe(4);
  await receiver.waitFor(4);
  for (const { id } of jobs) {
    await untilOver(id);
    const types = receiver.requests.map(({ json }) => json as Told).filter(({ data }) => data.job.id === id);
    expect(types.map(({ type }) => type)).toEqual(['job.started', 'job.succeeded']);
  }
  expect(typesTold()).toHaveLength(4);
});

test('what is behind ends with its endpoint, on record', async () => {
  const { accountId, endpoint, submit } = await setUp(() => 1, { answers: ['hang'] });
  const job = await submit();
  await eventually(async () => expect(await statuses(job.id)).toHaveLength(2));
  const nothing = () => undefined;
  const deps = { db: database.db, clock: REAL_CLOCK, announceDeliveries: nothing, eventsWritten: nothing };
  const endpoints = new Endpoints(deps);
  accepted(await endpoints.remove(accountId, endpoint.id));
  // As when the attempt under way is over.
  await database.sql`
    WITH over AS (DELETE FROM ringback.delivery_queue WHERE job_id = ${job.id} AND state = 'leased' RETURNING delivery_id)
    UPDATE ringback.deliveries SET status = 'discarded', next_attempt_at = NULL, finished_at = now()
    FROM over WHERE id = delivery_id`;
  await advanceJobs(database.sql, [job.id], new Date());
  await untilOver(job.id);
  expect(await statuses(job.id)).toEqual([
    ['job.started', 'discarded'],
    ['job.succeeded', 'discarded'],
  ]);
});
