import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { Leases, LEASE_MS } from '#queue/leases.ts';
import { type AttemptRef, renewAttempts } from '#store/delivery-queue.ts';
import { useDatabase } from '../../support/database.ts';
import { eventually } from '../../support/eventually.ts';
import { lockRow } from '../../support/locks.ts';
import { claimItems, queueItems } from '../../support/queues.ts';

const database = useDatabase();

beforeEach(async () => {
  await database.sql`DELETE FROM ringback.delivery_queue`;
  // The interval, and what is handed in as the monotonic clock: connections keep their real timers.
  vi.useFakeTimers({ toFake: ['Date', 'setInterval', 'clearInterval'] });
});
afterEach(() => void vi.useRealTimers());

const HOUR_AGO = "UPDATE ringback.delivery_queue SET lease_expires_at = now() - interval '1 hour'";

/** Claimed, and the leases run out an hour ago. */
async function claimedLongAgo(count: number): Promise<AttemptRef[]> {
  await queueItems(database, count);
  const items = await claimItems(database, count);
  await database.sql.unsafe(HOUR_AGO);
  return items;
}

const lapsed = async () => {
  const rows = await database.sql<{ id: string }[]>`
    SELECT delivery_id AS id FROM ringback.delivery_queue WHERE lease_expires_at < now()`;
  return rows.map(({ id }) => id);
};

const renew = async (held: readonly AttemptRef[]) => {
  const renewed = await renewAttempts(database.sql, held, { leaseMs: LEASE_MS, now: new Date(0) });
  return held.filter(({ attemptId }) => !renewed.has(attemptId));
};

function startLeases() {
  const errors: unknown[] = [];
  const leases = new Leases<AttemptRef>(
    renew,
    (error) => void errors.push(error),
    () => Date.now(),
  );
  leases.start();
  return { leases, errors };
}

describe('a lease', () => {
  test('is renewed for what lasts, and not for what has ended', async () => {
    const [held, dropped] = await claimedLongAgo(2);
    const { leases } = startLeases();
    leases.hold(held!);
    leases.hold(dropped!);
    leases.drop(dropped!);
    vi.advanceTimersByTime(LEASE_MS / 2);
    await eventually(async () => expect(await lapsed()).toEqual([dropped!.deliveryId]));
    leases.stop();
  });

  test('is renewed again and again', async () => {
    const [held] = await claimedLongAgo(1);
    const { leases } = startLeases();
    leases.hold(held!);
    for (let round = 0; round < 3; round++) {
      await database.sql.unsafe(HOUR_AGO);
      vi.advanceTimersByTime(LEASE_MS / 3);
      await eventually(async () => expect(await lapsed()).toEqual([]));
    }
    leases.stop();
  });

  test('taken a moment before is left for the next round: what ends quickly costs nothing', async () => {
    const [old, young] = await claimedLongAgo(2);
    const { leases } = startLeases();
    leases.hold(old!);
    vi.advanceTimersByTime(LEASE_MS / 3 - 1);
    leases.hold(young!);
    vi.advanceTimersByTime(1);
    await eventually(async () => expect(await lapsed()).toEqual([young!.deliveryId]));
    vi.advanceTimersByTime(LEASE_MS / 3);
    await eventually(async () => expect(await lapsed()).toEqual([]));
    leases.stop();
  });

  test('is renewed although somebody else keeps the row of another one locked', async () => {
    const [locked, free] = await claimedLongAgo(2);
    const holder = await lockRow(database, 'delivery_queue', 'delivery_id', locked!.deliveryId);
    const { leases, errors } = startLeases();
    for (const item of [locked!, free!]) leases.hold(item, () => expect.fail('none of them is lost'));
    vi.advanceTimersByTime(LEASE_MS / 3);
    await eventually(async () => expect(await lapsed()).toEqual([locked!.deliveryId]));
    await holder.release();
    await eventually(async () => expect(await lapsed()).toEqual([]));
    leases.stop();
    expect(errors).toEqual([]);
  });

  test('is not renewed any more after the stop', async () => {
    const [held] = await claimedLongAgo(1);
    const { leases } = startLeases();
    leases.hold(held!);
    leases.stop();
    vi.advanceTimersByTime(LEASE_MS);
    await database.sql`SELECT 1`;
    expect(await lapsed()).toEqual([held!.deliveryId]);
  });

  test('that was lost tells whoever holds it, once, and is not renewed any more', async () => {
    const [ours, lost] = await claimedLongAgo(2);
    await database.sql`UPDATE ringback.delivery_queue SET attempt_id = 'att_other' WHERE delivery_id = ${lost!.deliveryId}`;
    const { leases, errors } = startLeases();
    const told: string[] = [];
    for (const item of [ours!, lost!]) leases.hold(item, () => void told.push(item.deliveryId));
    for (let round = 0; round < 2; round++) {
      await database.sql.unsafe(HOUR_AGO);
      vi.advanceTimersByTime(LEASE_MS / 3);
      await eventually(async () => expect(await lapsed()).toEqual([lost!.deliveryId]));
    }
    leases.stop();
    await eventually(() => expect(told).toEqual([lost!.deliveryId]));
    expect(errors).toEqual([]);
  });

  test('that was lost after its work had ended tells nobody', async () => {
    const [item] = await claimedLongAgo(1);
    const asked = Promise.withResolvers<void>();
    const reply = Promise.withResolvers<readonly AttemptRef[]>();
    const leases = new Leases<AttemptRef>(
      () => (asked.resolve(), reply.promise),
      () => expect.fail('no error'),
      () => Date.now(),
    );
    leases.start();
    leases.hold(item!, () => expect.fail('it has ended'));
    vi.advanceTimersByTime(LEASE_MS / 3);
    await asked.promise;
    leases.drop(item!);
    reply.resolve([item!]);
    await reply.promise;
    leases.stop();
  });

  test('that cannot be renewed is reported, and the next round tries again', async () => {
    const [held] = await claimedLongAgo(1);
    await database.sql`ALTER TABLE ringback.delivery_queue RENAME TO away`;
    const { leases, errors } = startLeases();
    leases.hold(held!);
    vi.advanceTimersByTime(LEASE_MS / 3);
    try {
      await eventually(() => expect(errors).toMatchObject([{ code: '42P01' }]));
    } finally {
      await database.sql`ALTER TABLE ringback.away RENAME TO delivery_queue`;
    }
    vi.advanceTimersByTime(LEASE_MS / 3);
    await eventually(async () => expect(await lapsed()).toEqual([]));
    leases.stop();
  });
});
