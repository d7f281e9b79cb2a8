import { beforeEach, describe, expect, test } from 'vitest';
import type { Item, ItemRef, NewItem } from '#queue/item-queue.ts';
import type { DeliveryItem } from '#queue/queues.ts';
import { useDatabase } from '../../support/database.ts';
import { inTransaction } from '../../support/fixtures.ts';
import { deliveryItem, useQueues } from '../../support/queues.ts';

const database = useDatabase();
const queues = useQueues(database);

beforeEach(async () => {
  await database.sql`DELETE FROM pgboss.job`;
});

const deliveries = () => queues.get().deliveries;
const insert = (...items: Array<NewItem<DeliveryItem>>) => deliveries().insert(database.sql, items);
const claim = (limit = 100) => deliveries().claim(database.sql, limit);
const remove = (...refs: ItemRef[]) => deliveries().remove(database.sql, refs);
const ids = (items: ReadonlyArray<{ id: string }>) => items.map(({ id }) => id).toSorted();
const left = () => database.sql<{ id: string; state: string }[]>`SELECT id::text, state::text FROM pgboss.job`;

async function claimedItem(): Promise<Item<DeliveryItem>> {
  await insert(deliveryItem());
  const [item] = await claim(1);
  return item!;
}

/** As if its worker had said nothing for so long. */
const age = (ref: ItemRef, seconds: number) =>
  database.sql`UPDATE pgboss.job SET heartbeat_on = heartbeat_on - ${seconds} * interval '1 s' WHERE id = ${ref.id}`;

describe('claiming', () => {
  test('takes an item with its data, once', async () => {
    const item = deliveryItem();
    await insert(item);
    expect(await claim()).toMatchObject([{ id: item.id, data: item.data, retryCount: 0 }]);
    expect(await claim()).toEqual([]);
  });

  test('by many at once gives each item to one of them', async () => {
    const items = Array.from({ length: 120 }, () => deliveryItem());
    await insert(...items);
    const claims = await Promise.all(Array.from({ length: 20 }, () => claim(10)));
    const taken = claims.flat();
    expect(new Set(ids(taken)).size).toBe(taken.length);
    const rest = await claim(1000);
    expect(ids([...taken, ...rest])).toEqual(ids(items));
  });

  test('takes no more than asked for, the oldest first', async () => {
    const items = [deliveryItem(), deliveryItem(), deliveryItem()];
    for (const item of items) await insert(item);
    expect(ids(await claim(1))).toEqual([items[0]!.id]);
    expect(ids(await claim(2))).toEqual(ids(items.slice(1)));
  });

  test('finds nothing in an empty queue', async () => {
    expect(await claim()).toEqual([]);
  });

  test('leaves alone what is not due, until it is', async () => {
    const [later, now] = [
      deliveryItem({ startAfter: new Date(Date.now() + 3_600_000) }),
      deliveryItem({ startAfter: null }),
    ];
    const past = deliveryItem({ startAfter: new Date(Date.now() - 1000) });
    await insert(later, now, past);
    expect(ids(await claim())).toEqual(ids([now, past]));
    await database.sql`UPDATE pgboss.job SET start_after = now() WHERE id = ${later.id}`;
    expect(ids(await claim())).toEqual([later.id]);
  });

  test('that is rolled back leaves the items to others', async () => {
    const item = deliveryItem();
    await insert(item);
    const undone = inTransaction(database.db, async (tx) => {
      expect(await deliveries().claim(tx, 10)).toHaveLength(1);
      throw new Error('undo');
    });
    await expect(undone).rejects.toThrow('undo');
    expect(await claim()).toMatchObject([{ id: item.id, retryCount: 0 }]);
  });
});

describe('inserting', () => {
  test('that is rolled back leaves nothing', async () => {
    const undone = inTransaction(database.db, async (tx) => {
      await deliveries().insert(tx, [deliveryItem(), deliveryItem()]);
      throw new Error('undo');
    });
    await expect(undone).rejects.toThrow('undo');
    expect(await left()).toEqual([]);
  });

  test('nothing costs nothing', async () => {
    await insert();
    expect(await left()).toEqual([]);
  });

  test('a thousand at once keeps them all, and lets them wait for years', async () => {
    const items = Array.from({ length: 1000 }, () => deliveryItem());
    await insert(...items);
    const [row] = await database.sql`
      SELECT count(*)::int, min(keep_until) > now() + interval '9 years' AS kept FROM pgboss.job`;
    expect(row).toEqual({ count: 1000, kept: true });
  });
});

describe('removing', () => {
  test('ends a claimed item, and leaves no row behind', async () => {
    const item = await claimedItem();
    expect(await remove(item)).toBe(1);
    expect(await left()).toEqual([]);
  });

  test.each([
    ['claimed by somebody else since', (item: ItemRef) => ({ id: item.id, retryCount: item.retryCount + 1 })],
    ['not there', () => ({ id: deliveryItem().id, retryCount: 0 })],
  ])('leaves alone an item that was %s', async (_, refOf) => {
    const item = await claimedItem();
    expect(await remove(refOf(item))).toBe(0);
    expect(await left()).toEqual([{ id: item.id, state: 'active' }]);
  });

  test('leaves alone an item that nobody has claimed', async () => {
    const item = deliveryItem();
    await insert(item);
    expect(await remove({ id: item.id, retryCount: 0 })).toBe(0);
    expect(await left()).toHaveLength(1);
  });

  test('counts those that were still ours', async () => {
    const [one, two] = [await claimedItem(), await claimedItem()];
    const stale = { id: (await claimedItem()).id, retryCount: 7 };
    expect(await remove(one, stale, two)).toBe(2);
    expect(await left()).toEqual([{ id: stale.id, state: 'active' }]);
    expect(await remove(one, two)).toBe(0);
    expect(await remove()).toBe(0);
  });

  test('that is rolled back leaves the item claimed', async () => {
    const item = await claimedItem();
    const undone = inTransaction(database.db, async (tx) => {
      expect(await deliveries().remove(tx, [item])).toBe(1);
      throw new Error('undo');
    });
    await expect(undone).rejects.toThrow('undo');
    expect(await left()).toEqual([{ id: item.id, state: 'active' }]);
    expect(await remove(item)).toBe(1);
  });
});

describe('a lease that ran out', () => {
  test('is given back once; the next claim says that one was lost, and the first claimer can do no more', async () => {
    const first = await claimedItem();
    await age(first, 60);
    expect(await deliveries().rescue(database.sql, 15_000)).toBe(1);
    expect(await deliveries().rescue(database.sql, 15_000)).toBe(0);
    const [second] = await claim();
    expect(second).toMatchObject({ id: first.id, data: first.data, retryCount: 1 });
    expect(await remove(first)).toBe(0);
    expect(await remove(second!)).toBe(1);
  });

  test('a second time counts two', async () => {
    const first = await claimedItem();
    for (const retryCount of [1, 2]) {
      await age(first, 60);
      await deliveries().rescue(database.sql, 15_000);
      expect(await claim()).toMatchObject([{ id: first.id, retryCount }]);
    }
  });

  test('is given back once by many keepers at the same time', async () => {
    await age(await claimedItem(), 60);
    const rescued = await Promise.all(Array.from({ length: 8 }, () => deliveries().rescue(database.sql, 15_000)));
    expect(rescued.reduce((sum, count) => sum + count)).toBe(1);
    expect(await claim()).toMatchObject([{ retryCount: 1 }]);
  });

  test('of many items at once is given back in steps of a thousand', async () => {
    await insert(...Array.from({ length: 1001 }, () => deliveryItem()));
    await claim(2000);
    await database.sql`UPDATE pgboss.job SET heartbeat_on = heartbeat_on - interval '1 min'`;
    expect(await deliveries().rescue(database.sql, 15_000)).toBe(1000);
    expect(await deliveries().rescue(database.sql, 15_000)).toBe(1);
  });
});

describe('a rescue leaves alone', () => {
  test('a lease that lasts, and one that was renewed', async () => {
    const [fresh, renewed] = [await claimedItem(), await claimedItem()];
    await age(fresh, 10);
    await age(renewed, 60);
    expect(await deliveries().renew(database.sql, [renewed])).toEqual([]);
    expect(await deliveries().rescue(database.sql, 15_000)).toBe(0);
  });

  test('what waits, and what has ended', async () => {
    await insert(deliveryItem(), deliveryItem({ startAfter: new Date(Date.now() + 60_000) }));
    expect(await deliveries().rescue(database.sql, 0)).toBe(0);
    const [item] = await claim(1);
    await remove(item!);
    expect(await deliveries().rescue(database.sql, 0)).toBe(0);
  });
});

test('a lease that another worker has taken over cannot be renewed by the first', async () => {
  const first = await claimedItem();
  await age(first, 60);
  await deliveries().rescue(database.sql, 15_000);
  const [second] = await claim();
  await age(second!, 60);
  expect(await deliveries().renew(database.sql, [first])).toEqual([first]);
  expect(await deliveries().rescue(database.sql, 15_000)).toBe(1);
});

test('a renewal of many says which of them are somebody else’s by now, or gone', async () => {
  const [ours, lost, gone] = [await claimedItem(), await claimedItem(), await claimedItem()];
  await age(lost, 60);
  await deliveries().rescue(database.sql, 15_000);
  await claim();
  await remove(gone);
  expect(await deliveries().renew(database.sql, [ours, lost, gone])).toEqual([lost, gone]);
  expect(await deliveries().renew(database.sql, [])).toEqual([]);
});
