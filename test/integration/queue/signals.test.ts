import { describe, expect, onTestFinished, test } from 'vitest';
import { newId } from '#domain/ids.ts';
import { WakeUps } from '#queue/wake-ups.ts';
import { useDatabase } from '../../support/database.ts';
import { eventually } from '../../support/eventually.ts';

const database = useDatabase();

/** A process as the others see it: its own connections, and sleepers for two queues that count how often they woke. */
async function startInstance(hasRoom = false) {
  const pool = database.open({ max: 2 });
  const listener = database.open({ max: 1, applicationName: 'ringback-listen' });
  const errors: unknown[] = [];
  const wakeUps = new WakeUps(pool, listener.sql, newId('wrk', Date.now()), (error) => void errors.push(error));
  const woken = { run: 0, marker: 0 };
  wakeUps.register('run', { hasRoom, wake: () => void woken.run++ });
  wakeUps.register('marker', { hasRoom: false, wake: () => void woken.marker++ });
  await wakeUps.listen();
  await eventually(() => expect(woken).toEqual({ run: 1, marker: 1 })); // each is woken when it begins to hear
  woken.run = woken.marker = 0;
  return { wakeUps, woken, errors, pool, listener };
}

type Instance = Awaited<ReturnType<typeof startInstance>>;

/** Notifications come in the order of their commits: once `to` has this one, it has all that was sent before. */
async function marked(from: Instance, to: Instance): Promise<void> {
  from.wakeUps.announce('marker');
  await eventually(() => expect(to.woken.marker).toBeGreaterThan(0));
}

describe('an announcement', () => {
  test('wakes the loop of another process', async () => {
    const [one, other] = [await startInstance(), await startInstance()];
    one.wakeUps.announce('run');
    await eventually(() => expect(other.woken.run).toBe(1));
  });

  test('wakes one’s own loop directly, once: one’s own notification is ignored', async () => {
    const [one, other] = [await startInstance(), await startInstance()];
    one.wakeUps.announce('run');
    expect(one.woken.run).toBe(1);
    await eventually(() => expect(other.woken.run).toBe(1));
    await marked(other, one);
    expect(one.woken.run).toBe(1);
  });

  test('that one’s own loop has room for goes to nobody else', async () => {
    const [one, other] = [await startInstance(true), await startInstance()];
    one.wakeUps.announce('run');
    expect(one.woken.run).toBe(1);
    await marked(one, other);
    expect(other.woken.run).toBe(0);
  });

  test('of a queue that no loop here serves reaches the process that does', async () => {
    const other = await startInstance();
    const { sql } = database.open({ max: 1 });
    const wakeUps = new WakeUps({ sql }, sql, newId('wrk', Date.now()), () => expect.fail('no error'));
    wakeUps.announce('run');
    await eventually(() => expect(other.woken.run).toBe(1));
  });

  test('a hundred times in a moment costs two notifications, of which the last comes after all', async () => {
    const [one, other] = [await startInstance(), await startInstance()];
    for (let count = 0; count < 100; count++) one.wakeUps.announce('run');
    await eventually(() => expect(other.woken.run).toBe(2));
    await marked(one, other);
    expect(other.woken.run).toBe(2);
  });

  test('that cannot be sent is reported', async () => {
    const one = await startInstance();
    await one.pool.close();
    one.wakeUps.announce('run');
    await eventually(() => expect(one.errors).toHaveLength(1));
  });
});

test('nonsense on the channel wakes nobody and breaks nothing', async () => {
  const [one, other] = [await startInstance(), await startInstance()];
  for (const payload of ['', ' ', 'nobody', 'nobody wrk_x', 'run', '__proto__ x']) {
    await database.sql`SELECT pg_notify('ringback_wake', ${payload})`;
  }
  await marked(one, other);
  // `run` without a sender is somebody else's.
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
  one.wakeUps.announce('run');
  await eventually(() => expect(other.woken.run).toBe(2));
});

test('a process that serves no queue holds no connection to listen on', async () => {
  const listener = database.open({ max: 1, applicationName: 'ringback-silent' });
  onTestFinished(() => listener.close());
  await new WakeUps(database, listener.sql, newId('wrk', Date.now()), () => {}).listen();
  const open = database.sql`SELECT FROM pg_stat_activity WHERE application_name = 'ringback-silent'`;
  expect(await open).toHaveLength(0);
});
