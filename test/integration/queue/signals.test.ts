import { describe, expect, test } from 'vitest';
import { newId } from '#domain/ids.ts';
import { Signals } from '#queue/signals.ts';
import { useDatabase } from '../../support/database.ts';
import { eventually } from '../../support/eventually.ts';

const database = useDatabase();

/** A process as the others see it: its own connections, and sleepers for two queues that count how often they woke. */
async function startInstance(hasRoom = false) {
  const pool = database.open({ max: 2 });
  const listener = database.listener();
  const errors: unknown[] = [];
  const signals = new Signals(pool, listener, newId('wrk', Date.now()), (error) => void errors.push(error));
  const woken = { run: 0, marker: 0 };
  const canceled: string[] = [];
  signals.onCancel((jobId) => void canceled.push(jobId));
  signals.register('run', { hasRoom, wake: () => void woken.run++ });
  signals.register('marker', { hasRoom: false, wake: () => void woken.marker++ });
  await signals.listen();
  await eventually(() => expect(woken).toEqual({ run: 1, marker: 1 })); // each is woken when it begins to hear
  woken.run = woken.marker = 0;
  return { signals, woken, canceled, errors, pool, listener };
}

type Instance = Awaited<ReturnType<typeof startInstance>>;

/** Notifications come in the order of their commits: once `to` has this one, it has all that was sent before. */
async function marked(from: Instance, to: Instance): Promise<void> {
  from.signals.announce('marker');
  await eventually(() => expect(to.woken.marker).toBeGreaterThan(0));
}

describe('an announcement', () => {
  test('wakes the loop of another process', async () => {
    const [one, other] = [await startInstance(), await startInstance()];
    one.signals.announce('run');
    await eventually(() => expect(other.woken.run).toBe(1));
  });

  test('wakes one’s own loop directly, once: one’s own notification is ignored', async () => {
    const [one, other] = [await startInstance(), await startInstance()];
    one.signals.announce('run');
    expect(one.woken.run).toBe(1);
    await eventually(() => expect(other.woken.run).toBe(1));
    await marked(other, one);
    expect(one.woken.run).toBe(1);
  });

  test('that one’s own loop has room for goes to nobody else', async () => {
    const [one, other] = [await startInstance(true), await startInstance()];
    one.signals.announce('run');
    expect(one.woken.run).toBe(1);
    await marked(one, other);
    expect(other.woken.run).toBe(0);
  });

  test('of a queue that no loop here serves reaches the process that does', async () => {
    const other = await startInstance();
    const { sql } = database.open({ max: 1 });
    const signals = new Signals({ sql }, database.listener(), newId('wrk', Date.now()), () => expect.fail('no error'));
    signals.announce('run');
    await eventually(() => expect(other.woken.run).toBe(1));
  });

  test('a hundred times in a moment costs two notifications, of which the last comes after all', async () => {
    const [one, other] = [await startInstance(), await startInstance()];
    for (let count = 0; count < 100; count++) one.signals.announce('run');
    await eventually(() => expect(other.woken.run).toBe(2));
    await marked(one, other);
    expect(other.woken.run).toBe(2);
  });

  test('that cannot be sent is reported', async () => {
    const one = await startInstance();
    await one.pool.close();
    one.signals.announce('run');
    await eventually(() => expect(one.errors).toHaveLength(1));
  });
});

describe('a cancel', () => {
  test('reaches every process, one’s own at once, and each of them once', async () => {
    const [one, other, third] = [await startInstance(), await startInstance(), await startInstance()];
    one.signals.cancel('job_x');
    expect(one.canceled).toEqual(['job_x']);
    await eventually(() => expect([other.canceled, third.canceled]).toEqual([['job_x'], ['job_x']]));
    await marked(other, one);
    expect(one.canceled).toEqual(['job_x']);
    expect([one.woken.run, other.woken.run], 'it wakes no loop').toEqual([0, 0]);
  });

  test('of a hundred jobs at once reaches the others a hundred times: each is another job', async () => {
    const [one, other] = [await startInstance(), await startInstance()];
    const ids = Array.from({ length: 100 }, (_, n) => `job_${n}`);
    for (const id of ids) one.signals.cancel(id);
    await eventually(() => expect(other.canceled.toSorted()).toEqual(ids.toSorted()));
  });

  test('that cannot be sent is reported, and was heard here', async () => {
    const one = await startInstance();
    await one.pool.close();
    one.signals.cancel('job_x');
    await eventually(() => expect(one.errors).toHaveLength(1));
    expect(one.canceled).toEqual(['job_x']);
  });
});

test('nonsense on the channel wakes nobody and breaks nothing', async () => {
  const [one, other] = [await startInstance(), await startInstance()];
  const wakes = ['wake', 'wake run', 'wake nobody wrk_x', 'wake __proto__ x', 'run', 'run wrk_x', 'cancel'];
  for (const payload of ['', ' ', 'nobody', '__proto__ x', ...wakes]) {
    await database.sql`SELECT pg_notify('ringback_wake', ${payload})`;
  }
  await marked(one, other);
  // `wake run` without a sender is somebody else's.
  expect(other.woken.run).toBe(1);
});

test('after a lost connection every loop is woken, and hears again', async () => {
  const [one, other] = [await startInstance(), await startInstance()];
  const pids = await database.sql`
    SELECT pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE datname = current_database() AND application_name = 'ringback-listen'`;
  expect(pids).toHaveLength(2);
  await eventually(() => {
    expect(one.woken).toEqual({ run: 1, marker: 1 });
    expect(other.woken).toEqual({ run: 1, marker: 1 });
  });
  one.signals.announce('run');
  await eventually(() => expect(other.woken.run).toBe(2));
});

test('a process that serves no queue hears of cancels all the same', async () => {
  const [one, other] = [await startInstance(), database.open({ max: 1 })];
  const signals = new Signals(other, database.listener(), newId('wrk', Date.now()), () => expect.fail('no error'));
  const canceled = Promise.withResolvers<string>();
  signals.onCancel(canceled.resolve);
  await signals.listen();
  one.signals.cancel('job_x');
  expect(await canceled.promise).toBe('job_x');
});
