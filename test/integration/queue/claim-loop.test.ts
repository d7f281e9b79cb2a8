import { setImmediate as turn } from 'node:timers/promises';
import { beforeEach, describe, expect, onTestFinished, test } from 'vitest';
import { ClaimLoop, type ClaimLoopOptions } from '#queue/claim-loop.ts';
import type { AttemptRef } from '#store/delivery-queue.ts';
import { useDatabase } from '../../support/database.ts';
import { eventually } from '../../support/eventually.ts';
import { claimItems as claimFrom, queueItems, removeItem } from '../../support/queues.ts';

const database = useDatabase();

beforeEach(async () => {
  await database.sql`DELETE FROM ringback.delivery_queue`;
});

const insert = (count: number) => queueItems(database, count);

type Options = ClaimLoopOptions<AttemptRef>;

/** As a courier claims: there may be more when it got all it asked for. */
async function claimItems(limit: number) {
  const claimed = await claimFrom(database, limit);
  return { claimed, more: claimed.length >= limit };
}

/** A loop over a queue that works an item off by removing it, and keeps what it saw. */
function startLoop(changes: Partial<Options> = {}) {
  const seen = { claims: [] as number[], done: [] as string[], errors: [] as unknown[], underWay: 0, most: 0 };
  const { claim = claimItems, work, ...others } = changes;
  const loop = new ClaimLoop<AttemptRef>({
    concurrency: 4,
    pollMs: 3_600_000,
    claim: (limit) => {
      seen.claims.push(limit);
      return claim(limit);
    },
    work: async (item) => {
      seen.most = Math.max(seen.most, ++seen.underWay);
      try {
        await work?.(item);
        await removeItem(database, item);
        seen.done.push(item.deliveryId);
      } finally {
        seen.underWay -= 1;
      }
    },
    onError: (error) => void seen.errors.push(error),
    ...others,
  });
  onTestFinished(() => loop.stop());
  loop.start();
  return { loop, seen };
}

const drained = (seen: { done: string[] }, ids: readonly string[]) =>
  eventually(() => expect(seen.done.toSorted()).toEqual([...ids].toSorted()));
/** Until the first claim, of an empty queue, is over. */
const asleep = async (seen: { claims: number[] }) => {
  await eventually(() => expect(seen.claims).toHaveLength(1));
  await database.sql`SELECT 1`;
  for (let count = 0; count < 10; count++) await turn();
};

test('never has more under way than its concurrency, and works everything off', async () => {
  const ids = await insert(50);
  const { seen } = startLoop({ concurrency: 6 });
  await drained(seen, ids);
  expect(seen.most).toBe(6);
  expect(seen.claims.every((limit) => limit >= 1 && limit <= 6)).toBe(true);
  expect(seen.errors).toEqual([]);
});

test('claims only what can start now', async () => {
  const gates: Array<() => void> = [];
  let open = false;
  await insert(10);
  const work = () => new Promise<void>((resolve) => (open ? resolve() : void gates.push(resolve)));
  const { seen } = startLoop({ concurrency: 3, work });
  onTestFinished(() => {
    open = true;
    for (const gate of gates) gate();
  });
  await eventually(() => expect(gates).toHaveLength(3));
  expect(seen.claims).toEqual([3]);
  const waiting = await database.sql`SELECT FROM ringback.delivery_queue WHERE state = 'ready'`;
  expect(waiting).toHaveLength(7);
  gates[0]!();
  await eventually(() => expect(gates).toHaveLength(4));
  expect(seen.claims).toEqual([3, 1]);
});

test('is woken for what was queued, long before its next poll', async () => {
  const { loop, seen } = startLoop();
  await asleep(seen);
  const ids = await insert(3);
  loop.wake();
  await drained(seen, ids);
});

describe('when a claim got less than it asked for, the loop', () => {
  /** Answers three claims of one thing each, and then none; `more` is what each of them says. */
  const trickle = (more: boolean) => {
    let left = 3;
    return async () => {
      const [claimed] =
        left-- > 0
          ? await insert(1)
              .then(() => claimItems(1))
              .then(({ claimed: got }) => got)
          : [];
      return { claimed: claimed === undefined ? [] : [claimed], more: more && left > 0 };
    };
  };

  test('claims again at once while it is told that there may be more', async () => {
    const { seen } = startLoop({ claim: trickle(true) });
    await eventually(() => expect(seen.done).toHaveLength(3));
    expect(seen.claims).toHaveLength(3);
  });

  test('sleeps when it is told that there is no more', async () => {
    const { seen } = startLoop({ claim: trickle(false) });
    await eventually(() => expect(seen.done).toHaveLength(1));
    await asleep(seen);
    expect(seen.claims).toHaveLength(1);
  });
});

test('a wake-up that comes in the middle of a claim is not lost', async () => {
  const claimed = Promise.withResolvers<void>();
  const reply = Promise.withResolvers<void>();
  let first = true;
  const { loop, seen } = startLoop({
    claim: async (limit) => {
      const answer = await claimItems(limit);
      if (first) {
        first = false;
        claimed.resolve();
        await reply.promise;
      }
      return answer;
    },
  });
  await claimed.promise;
  const ids = await insert(1);
  loop.wake();
  reply.resolve();
  await drained(seen, ids);
});

test('a wake-up that comes while it is full is honoured when there is room', async () => {
  const gate = Promise.withResolvers<void>();
  let first = true;
  const blocker = await insert(1);
  const { loop, seen } = startLoop({
    concurrency: 1,
    work: async () => {
      if (!first) return;
      first = false;
      await gate.promise;
    },
  });
  await eventually(() => expect(seen.underWay).toBe(1));
  expect(loop.hasRoom).toBe(false);
  const later = await insert(2);
  loop.wake();
  gate.resolve();
  await drained(seen, [...blocker, ...later]);
});

test('the poll finds what nobody announced', async () => {
  const { seen } = startLoop({ pollMs: 50 });
  await asleep(seen);
  await drained(seen, await insert(2));
});

describe('an error', () => {
  test('in a claim is reported, pauses the loop, and claiming goes on', async () => {
    let failures = 2;
    const ids = await insert(2);
    const { seen } = startLoop({
      claim: async (limit) => {
        if (failures-- > 0) await database.sql`SELECT 1/0`;
        return claimItems(limit);
      },
    });
    const began = performance.now();
    await drained(seen, ids);
    expect(seen.errors).toMatchObject([{ code: '22012' }, { code: '22012' }]);
    expect(performance.now() - began, 'two pauses of half a second').toBeGreaterThan(900);
    expect(seen.claims.length, 'claims in all').toBeLessThanOrEqual(4);
  });

  test('in the work is reported, and frees its place', async () => {
    await insert(3);
    const { seen } = startLoop({
      concurrency: 1,
      work: async () => {
        throw new Error('a fault');
      },
    });
    await eventually(() => expect(seen.errors).toHaveLength(3));
    expect(seen.done).toEqual([]);
  });
});

describe('stopping', () => {
  test('waits for what is under way, and claims no more', async () => {
    const gate = Promise.withResolvers<void>();
    await insert(5);
    const { loop, seen } = startLoop({ concurrency: 2, work: () => gate.promise });
    await eventually(() => expect(seen.underWay).toBe(2));
    let stopped = false;
    const stopping = loop.stop().then(() => (stopped = true));
    await database.sql`SELECT 1`;
    expect([stopped, loop.hasRoom]).toEqual([false, false]);
    gate.resolve();
    await stopping;
    expect(seen.done).toHaveLength(2);
    loop.wake();
    await database.sql`SELECT 1`;
    expect(await database.sql`SELECT FROM ringback.delivery_queue WHERE state = 'ready'`).toHaveLength(3);
    expect(seen.claims).toEqual([2]);
  });

  test('waits for a claim that is under way, and for what it brings', async () => {
    const asked = Promise.withResolvers<void>();
    const reply = Promise.withResolvers<void>();
    const ids = await insert(1);
    const { loop, seen } = startLoop({
      claim: async (limit) => {
        asked.resolve();
        await reply.promise;
        return claimItems(limit);
      },
    });
    await asked.promise;
    const stopping = loop.stop();
    reply.resolve();
    await stopping;
    expect(seen.done).toEqual(ids);
  });
});
