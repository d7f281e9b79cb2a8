import { beforeEach, describe, expect, test } from 'vitest';
import { findDelivery, listAttempts } from '#store/delivery-reads.ts';
import { advanceJobs } from '#store/delivery-queue.ts';
import { requeueDeliveries } from '#store/redeliver.ts';
import { rescueDeliveries } from '../../../src/callbacks/rescue.ts';
import { useDatabase } from '../../support/database.ts';
import { eventually } from '../../support/eventually.ts';
import { type DueDelivery, makeAccount, makeDelivery, makeEndpoint, SECRET_KEYS } from '../../support/fixtures.ts';
import { memoryLog } from '../../support/log.ts';
import { startReceiver } from '../../support/receiver.ts';
import { startService } from '../../support/service.ts';
import { REAL_CLOCK, startCourier } from '../../support/workers.ts';

const database = useDatabase();

beforeEach(async () => {
  await database.sql`DELETE FROM ringback.delivery_queue`;
});

const parts = () => ({ database });

const attempts = async ({ accountId, id }: DueDelivery) =>
  (await listAttempts(database.db, accountId, id)).map(({ number, outcome, workerId }) => ({
    number,
    outcome,
    workerId,
  }));
const untilDelivered = (due: DueDelivery) =>
  eventually(async () => {
    expect(await findDelivery(database.db, due.accountId, due.id)).toMatchObject({ status: 'delivered' });
  });

/** As if nothing had been heard of whoever holds a claim, for an hour; a keeper looks after it. */
async function loseLeases(schedule = [0, 100]): Promise<void> {
  const lapsed = await database.sql`
    UPDATE ringback.delivery_queue SET lease_expires_at = now() - interval '1 hour' WHERE state = 'leased'`;
  expect(lapsed.count).toBe(1);
  const { log } = memoryLog();
  await rescueDeliveries({
    db: database.db,
    lapsedBefore: REAL_CLOCK.now,
    log,
    schedule,
    announceDeliveries: () => undefined,
    advanceJobs: () => undefined,
    clock: REAL_CLOCK,
    eventsWritten: () => undefined,
  });
}

test('a courier killed between request and record leaves one interrupted attempt, and the next one delivers', async () => {
  const receiver = await startReceiver();
  receiver.script('hang');
  const { accountId } = await makeAccount(database.db);
  const due = await makeDelivery(database.db, accountId, await makeEndpoint(database.db, accountId, receiver.url));
  const service = await startService({
    databaseUrl: database.url,
    env: {
      RINGBACK_ROLES: 'courier',
      RINGBACK_SECRET_KEY: Buffer.from(SECRET_KEYS[0]!.bytes).toString('base64'),
    },
  });
  await receiver.waitFor(1);
  await service.kill();
  expect(await attempts(due)).toEqual([]);

  await loseLeases();
  startCourier(parts());
  await untilDelivered(due);
  expect(await attempts(due)).toMatchObject([
    { number: 1, outcome: 'interrupted' },
    { number: 2, outcome: 'delivered' },
  ]);
  const [one, two] = await receiver.waitFor(2);
  expect(two!.headers['webhook-id'], 'so that the receiver can tell that it has seen it').toBe(
    one!.headers['webhook-id'],
  );
});

test('a courier that was only slow is refused when it comes back, and its request is on record as interrupted', async () => {
  const receiver = await startReceiver();
  receiver.script('hang');
  const { accountId } = await makeAccount(database.db);
  const due = await makeDelivery(database.db, accountId, await makeEndpoint(database.db, accountId, receiver.url));
  const slow = startCourier(parts(), { timeoutMs: 1500, pollMs: 3_600_000 });
  await receiver.waitFor(1);
  await loseLeases();
  const quick = startCourier(parts());
  await untilDelivered(due);
  await eventually(() =>
    expect(
      [...slow.lines, ...quick.lines].filter(({ msg }) => msg === 'attempt').map((line) => line['delivery']),
    ).toEqual(expect.arrayContaining(['refused', 'delivered'])),
  );
  expect((await attempts(due)).map(({ number, outcome }) => [number, outcome])).toEqual([
    [1, 'interrupted'],
    [2, 'delivered'],
  ]);
});

describe('a delivery whose courier dies', () => {
  const MINUTES = [0, 300_000, 600_000];

  async function setStage(changes: { readonly ordering?: 'endpoint' } = {}) {
    const receiver = await startReceiver();
    receiver.answerAll('hang');
    const { accountId } = await makeAccount(database.db);
    const endpoint = await makeEndpoint(database.db, accountId, receiver.url);
    if (changes.ordering !== undefined)
      await database.sql`UPDATE ringback.endpoints SET ordering = ${changes.ordering} WHERE id = ${endpoint.id}`;
    const due = await makeDelivery(database.db, accountId, endpoint);
    /** One more courier takes it, and dies. */
    const lose = async (schedule: number[]) => {
      const before = receiver.requests.length;
      startCourier(parts(), { timeoutMs: 500, pollMs: 3_600_000 });
      await receiver.waitFor(before + 1);
      await loseLeases(schedule);
    };
    const read = async () => {
      const delivery = await findDelivery(database.db, accountId, due.id);
      const [item] = await database.sql`
        SELECT state, trigger, ceil(extract(epoch FROM due_at - now()) / 60)::int AS minutes FROM ringback.delivery_queue`;
      const { status, attemptCount, scheduleFrom } = delivery!;
      return { status, attemptCount, scheduleFrom, ...(item as { state: string; trigger: string; minutes: number }) };
    };
    const makeDue = () => database.sql`UPDATE ringback.delivery_queue SET state = 'ready', due_at = now()`;
    return { receiver, endpoint, due, lose, read, makeDue };
  }

  test('is sent again at once, without a step of its schedule: what fails then is tried again after the usual time', async () => {
    const { receiver, due, lose, read } = await setStage();
    for (let round = 1; round <= 2; round++) {
      await lose(MINUTES);
      expect(await read()).toMatchObject({ state: 'ready', attemptCount: round, scheduleFrom: round, minutes: 0 });
    }
    receiver.answerAll({ status: 500 });
    startCourier(parts(), { schedule: MINUTES });
    await eventually(async () => expect(await read()).toMatchObject({ attemptCount: 3 }));
    const { minutes, ...rest } = await read();
    expect(rest).toMatchObject({ status: 'pending', state: 'delayed', scheduleFrom: 2 });
    expect(minutes, 'the second step').toBeGreaterThanOrEqual(4);
    expect(minutes).toBeLessThanOrEqual(6);
    expect((await attempts(due)).map(({ outcome }) => outcome)).toEqual(['interrupted', 'interrupted', 'rejected']);
  });

  test('now and then, with answers in between, is never made to wait for it', async () => {
    const { receiver, lose, read, makeDue } = await setStage();
    for (let failures = 1; failures <= 2; failures++) {
      for (let round = 1; round <= 2; round++) await lose(MINUTES);
      receiver.script({ status: 500 });
      const { worker } = startCourier(parts(), { schedule: MINUTES, pollMs: 3_600_000 });
      await eventually(async () => expect(await read()).toMatchObject({ attemptCount: 3 * failures }));
      await worker.stop(1000);
      await database.sql`UPDATE ringback.endpoint_health SET circuit = 'closed', resume_at = NULL, allowance = NULL`;
      expect(await read()).toMatchObject({ state: 'delayed', scheduleFrom: 2 * failures });
      await makeDue();
    }
  });

  test('after it had failed is sent again at once, and keeps the step it was at', async () => {
    const { receiver, lose, read, makeDue } = await setStage();
    receiver.script({ status: 503 });
    const { worker } = startCourier(parts(), { schedule: MINUTES, pollMs: 3_600_000 });
    await eventually(async () => expect(await read()).toMatchObject({ attemptCount: 1 }));
    await worker.stop(1000);
    await database.sql`UPDATE ringback.endpoint_health SET circuit = 'closed', resume_at = NULL, allowance = NULL`;
    await makeDue();
    await lose(MINUTES);
    expect(await read()).toMatchObject({ state: 'ready', attemptCount: 2, scheduleFrom: 1 });
  });

  test('each time waits by its schedule from the third time on, until that is used up', async () => {
    const { due, lose, read, makeDue } = await setStage();
    for (let round = 1; round <= 2; round++) await lose(MINUTES);
    await lose(MINUTES);
    expect(await read()).toMatchObject({ status: 'pending', state: 'delayed', attemptCount: 3, scheduleFrom: 2 });
    await makeDue();
    await lose(MINUTES);
    expect(await read()).toMatchObject({ status: 'pending', state: 'delayed', attemptCount: 4 });
    await makeDue();
    await lose(MINUTES);
    expect(await read()).toEqual({ status: 'exhausted', attemptCount: 5, scheduleFrom: 2 });
    expect((await attempts(due)).map(({ outcome }) => outcome)).toEqual(Array(5).fill('interrupted'));
  });

  test('of an endpoint that keeps its order stays first, also when it has to wait', async () => {
    const { endpoint, due, lose, read } = await setStage({ ordering: 'endpoint' });
    const next = await makeDelivery(database.db, due.accountId, endpoint);
    for (let round = 1; round <= 3; round++) await lose(MINUTES);
    expect(await read()).toMatchObject({ state: 'ready', attemptCount: 3 });
    const [lane] = await database.sql`
      SELECT blocked_until > now() + interval '3 minutes' AS waits FROM ringback.endpoint_lanes
      WHERE endpoint_id = ${endpoint.id}`;
    expect(lane).toEqual({ waits: true });
    expect(await findDelivery(database.db, next.accountId, next.id)).toMatchObject({ attemptCount: 0 });
  });

  test('sent once and no more, as asked for, is sent again at once, by hand as before; but not for ever', async () => {
    const { due, lose, read } = await setStage();
    await database.sql`UPDATE ringback.deliveries SET schedule_from = NULL WHERE id = ${due.id}`;
    await database.sql`UPDATE ringback.delivery_queue SET trigger = 'manual'`;
    for (let round = 1; round <= 2; round++) {
      await lose(MINUTES);
      expect(await read()).toMatchObject({
        state: 'ready',
        trigger: 'manual',
        attemptCount: round,
        scheduleFrom: null,
      });
    }
    await lose(MINUTES);
    expect(await read()).toEqual({ status: 'exhausted', attemptCount: 3, scheduleFrom: null });
  });

  test('does not count against its endpoint', async () => {
    const { endpoint, lose } = await setStage();
    for (let round = 1; round <= 3; round++) await lose(MINUTES);
    const [health] = await database.sql`
      SELECT circuit, consecutive_failures AS failures FROM ringback.endpoint_health WHERE endpoint_id = ${endpoint.id}`;
    expect(health).toEqual({ circuit: 'closed', failures: 0 });
  });
});

test('an attempt that is lost counts in the schedule that its delivery has, not in the usual one', async () => {
  const receiver = await startReceiver();
  receiver.script({ status: 500 }, { status: 500 }, 'hang');
  const { accountId } = await makeAccount(database.db);
  const due = await makeDelivery(database.db, accountId, await makeEndpoint(database.db, accountId, receiver.url));
  const { worker } = startCourier(parts(), { schedule: [0, 1] });
  await eventually(async () => {
    expect(await findDelivery(database.db, accountId, due.id)).toMatchObject({ status: 'exhausted', attemptCount: 2 });
  });
  const queued = await requeueDeliveries(database.sql, accountId, { ids: [due.id], retry: true, now: new Date() });
  await advanceJobs(database.sql, queued.following, new Date());
  worker.loop.wake();
  await receiver.waitFor(3);
  await loseLeases([0, 1]);
  await untilDelivered(due);
  expect((await attempts(due)).map(({ number, outcome }) => [number, outcome])).toEqual([
    [1, 'rejected'],
    [2, 'rejected'],
    [3, 'interrupted'],
    [4, 'delivered'],
  ]);
});

describe('couriers', () => {
  test('that share a queue deliver every event once', async () => {
    const receiver = await startReceiver();
    const { accountId } = await makeAccount(database.db);
    const endpoint = await makeEndpoint(database.db, accountId, receiver.url);
    const due = await Promise.all(Array.from({ length: 60 }, () => makeDelivery(database.db, accountId, endpoint)));
    for (let count = 0; count < 3; count++) startCourier(parts());
    for (const one of due) await untilDelivered(one);
    const ids = receiver.requests.map(({ headers }) => headers['webhook-id'] as string);
    expect(ids.toSorted()).toEqual(due.map(({ eventId }) => eventId as string).toSorted());
  });

  test('deliver to the quick while the slow take their time', async () => {
    const [slow, quick] = [await startReceiver(), await startReceiver()];
    slow.answerAll('hang');
    const { accountId } = await makeAccount(database.db);
    const stuck = await makeEndpoint(database.db, accountId, slow.url);
    for (let count = 0; count < 3; count++) await makeDelivery(database.db, accountId, stuck);
    const due = await makeDelivery(database.db, accountId, await makeEndpoint(database.db, accountId, quick.url));
    startCourier(parts(), { concurrency: 4, timeoutMs: 3000, schedule: [0] });
    await slow.waitFor(3);
    await untilDelivered(due);
  });

  test('never have more requests under way than allowed', async () => {
    const receiver = await startReceiver();
    receiver.answerAll('hang');
    const { accountId } = await makeAccount(database.db);
    const endpoint = await makeEndpoint(database.db, accountId, receiver.url);
    for (let count = 0; count < 5; count++) await makeDelivery(database.db, accountId, endpoint);
    startCourier(parts(), { concurrency: 2, timeoutMs: 500, schedule: [0] });
    await receiver.waitFor(2);
    const waiting = await database.sql`SELECT FROM ringback.delivery_queue WHERE state = 'ready'`;
    expect(waiting.length + receiver.requests.length).toBeLessThanOrEqual(5);
    expect(waiting.length).toBeGreaterThan(0);
    await receiver.waitFor(5);
  });

  test('that stop wait for the answers under way and record them', async () => {
    const receiver = await startReceiver();
    receiver.answerAll('hang');
    const { accountId } = await makeAccount(database.db);
    const due = await makeDelivery(database.db, accountId, await makeEndpoint(database.db, accountId, receiver.url));
    const { worker } = startCourier(parts(), { timeoutMs: 300, schedule: [0] });
    await receiver.waitFor(1);
    await worker.stop(60_000);
    expect(await attempts(due)).toMatchObject([{ number: 1, outcome: 'timeout' }]);
  });
});
