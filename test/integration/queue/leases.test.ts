import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { Leases, LEASE_MS } from '#queue/leases.ts';
import type { ItemRef } from '#queue/item-queue.ts';
import { useDatabase } from '../../support/database.ts';
import { eventually } from '../../support/eventually.ts';
import { deliveryItem, useQueues } from '../../support/queues.ts';

const database = useDatabase();
const queues = useQueues(database);

beforeEach(async () => {
  await database.sql`DELETE FROM pgboss.job`;
  // The clock and the interval only: connections keep their real timers.
  vi.useFakeTimers({ toFake: ['Date', 'setInterval', 'clearInterval'] });
});
afterEach(() => void vi.useRealTimers());

const deliveries = () => queues.get().deliveries;

/** Claimed an hour ago, as the database sees it. */
async function claimedLongAgo(count: number) {
  await deliveries().insert(
    database.sql,
    Array.from({ length: count }, () => deliveryItem()),
  );
  const items = await deliveries().claim(database.sql, count);
  await database.sql`UPDATE pgboss.job SET heartbeat_on = now() - interval '1 hour'`;
  return items;
}

const lapsed = async () => {
  const rows = await database.sql<{ id: string }[]>`
    SELECT id::text FROM pgboss.job WHERE heartbeat_on < now() - interval '1 minute'`;
  return rows.map(({ id }) => id);
};

function startLeases() {
  const errors: unknown[] = [];
  const leases = new Leases<ItemRef>(
    (refs) => deliveries().renew(database.sql, refs),
    (error) => void errors.push(error),
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
    await eventually(async () => expect(await lapsed()).toEqual([dropped!.id]));
    leases.stop();
  });

  test('is renewed again and again', async () => {
    const [held] = await claimedLongAgo(1);
    const { leases } = startLeases();
    leases.hold(held!);
    for (let round = 0; round < 3; round++) {
      await database.sql`UPDATE pgboss.job SET heartbeat_on = now() - interval '1 hour'`;
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
    await eventually(async () => expect(await lapsed()).toEqual([young!.id]));
    vi.advanceTimersByTime(LEASE_MS / 3);
    await eventually(async () => expect(await lapsed()).toEqual([]));
    leases.stop();
  });

  test('is not renewed any more after the stop', async () => {
    const [held] = await claimedLongAgo(1);
    const { leases } = startLeases();
    leases.hold(held!);
    leases.stop();
    vi.advanceTimersByTime(LEASE_MS);
    await database.sql`SELECT 1`;
    expect(await lapsed()).toEqual([held!.id]);
  });

  test('that was lost tells whoever holds it, once, and is not renewed any more', async () => {
    const [ours, lost] = await claimedLongAgo(2);
    await database.sql`UPDATE pgboss.job SET retry_count = retry_count + 1 WHERE id = ${lost!.id}`;
    const { leases, errors } = startLeases();
    const told: string[] = [];
    for (const item of [ours!, lost!]) leases.hold(item, () => void told.push(item.id));
    for (let round = 0; round < 2; round++) {
      await database.sql`UPDATE pgboss.job SET heartbeat_on = now() - interval '1 hour'`;
      vi.advanceTimersByTime(LEASE_MS / 3);
      await eventually(async () => expect(await lapsed()).toEqual([lost!.id]));
    }
    leases.stop();
    await eventually(() => expect(told).toEqual([lost!.id]));
    expect(errors).toEqual([]);
  });

  test('that was lost after its work had ended tells nobody', async () => {
    const [item] = await claimedLongAgo(1);
    const asked = Promise.withResolvers<void>();
    const reply = Promise.withResolvers<readonly ItemRef[]>();
    const leases = new Leases<ItemRef>(
      () => (asked.resolve(), reply.promise),
      () => expect.fail('no error'),
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
    const [row] = await database.sql`SELECT relname FROM pg_class JOIN pgboss.job ON job.tableoid = pg_class.oid`;
    const table = database.sql(`pgboss.${row!['relname']}`);
    await database.sql`ALTER TABLE ${table} RENAME TO away`;
    const { leases, errors } = startLeases();
    leases.hold(held!);
    vi.advanceTimersByTime(LEASE_MS / 3);
    try {
      await eventually(() => expect(errors).toMatchObject([{ code: '42P01' }]));
    } finally {
      await database.sql`ALTER TABLE pgboss.away RENAME TO ${database.sql(row!['relname'] as string)}`;
    }
    vi.advanceTimersByTime(LEASE_MS / 3);
    await eventually(async () => expect(await lapsed()).toEqual([]));
    leases.stop();
  });
});
