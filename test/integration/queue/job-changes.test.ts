import { describe, expect, onTestFinished, test } from 'vitest';
import { newId } from '#domain/ids.ts';
import { type ChangeTimes, JobChanges } from '#queue/job-changes.ts';
import { Signals } from '#queue/signals.ts';
import { startTcpProxy } from '../../e2e/support/tcp-proxy.ts';
import { useDatabase } from '../../support/database.ts';
import { eventually } from '../../support/eventually.ts';

const database = useDatabase();
const LISTENER = 'ringback-listen';

/** Everything that is said on the channel, as a third party hears it. */
async function overhear(): Promise<string[]> {
  const said: string[] = [];
  const listener = database.listener({ applicationName: 'ringback-eavesdropper' });
  await listener.listen(
    'ringback_jobs',
    (payload) => void said.push(payload),
    () => undefined,
  );
  return said;
}

/** A process as the others see it. */
async function startInstance(times: Partial<ChangeTimes> = {}, url = database.url) {
  const db = database.open({ max: 2 });
  const listener = database.listener({ url });
  const errors: unknown[] = [];
  const instance = newId('wrk', Date.now());
  const changes = new JobChanges({ db, listener, instance, onError: (e) => errors.push(e), times });
  const heard: string[] = [];
  let missed = 0;
  changes.tell({ changed: (jobIds) => heard.push(...jobIds), missed: () => void missed++ });
  await changes.listen();
  onTestFinished(() => changes.close());
  return { db, listener, changes, instance, heard, errors, missed: () => missed };
}

type Instance = Awaited<ReturnType<typeof startInstance>>;

function newJobs(count = 1) {
  return Array.from({ length: count }, () => ({
    accountId: newId('acc', Date.now()),
    jobId: newId('job', Date.now()),
  }));
}

/** Watches at `watcher`, and waits until `other` has heard of it. */
async function watched(watcher: Instance, said: readonly string[]): Promise<void> {
  watcher.changes.watching(true);
  await eventually(() => expect(said).toContain(`watching ${watcher.instance}`));
}

/** Notifications come in the order of their commits: once this one is heard, all before it were. */
async function untilAllIsHeard(said: readonly string[]): Promise<void> {
  const mark = `mark ${newId('wrk', Date.now())}`;
  await database.sql`SELECT pg_notify('ringback_jobs', ${mark})`;
  await eventually(() => expect(said).toContain(mark));
}

const changesIn = (said: readonly string[]) => said.filter((payload) => payload.startsWith('changed'));

describe('a change', () => {
  test('is heard in its own process at once, and by nobody else while nobody watches', async () => {
    const said = await overhear();
    const [one, other] = [await startInstance(), await startInstance()];
    const [job] = newJobs();
    one.changes.publish([job!]);
    expect(one.heard).toEqual([job!.jobId]);
    await one.changes.close(); // it says what it has to say
    await untilAllIsHeard(said);
    expect(changesIn(said)).toEqual([]);
    expect(other.heard).toEqual([]);
  });

  test('is heard wherever somebody watches, and once where it was made', async () => {
    const said = await overhear();
    const [one, other] = [await startInstance(), await startInstance()];
    await watched(other, said);
    const [job] = newJobs();
    await eventually(() => {
      one.changes.publish([job!]);
      expect(other.heard).toContain(job!.jobId);
    });
    const published = one.heard.length;
    await untilAllIsHeard(said);
    expect(one.heard).toHaveLength(published);
  });

  test('of somebody who watches alone costs no notification', async () => {
    const said = await overhear();
    const one = await startInstance();
    await watched(one, said);
    one.changes.publish(newJobs(10));
    await one.changes.close();
    await untilAllIsHeard(said);
    expect(changesIn(said)).toEqual([]);
  });

  test('is one of thousands: each is told, in few notifications that PostgreSQL can carry', async () => {
    const said = await overhear();
    const [one, other] = [await startInstance(), await startInstance()];
    await watched(other, said);
    const jobs = newJobs(3000);
    await eventually(() => {
      one.changes.publish([jobs[0]!]);
      expect(other.heard).not.toEqual([]);
    });
    const before = changesIn(said).length;
    for (const job of jobs) one.changes.publish([job]);
    await eventually(() => expect(new Set(other.heard)).toEqual(new Set(jobs.map(({ jobId }) => jobId))));
    const notifications = changesIn(said).slice(before);
    expect(notifications.length).toBeLessThan(20);
    for (const payload of notifications) expect(Buffer.byteLength(payload)).toBeLessThan(8000);
  });

  test('is not lost when its process stops right after it', async () => {
    const said = await overhear();
    const [one, other] = [await startInstance(), await startInstance()];
    await watched(other, said);
    const [first, last] = newJobs(2);
    await eventually(() => {
      one.changes.publish([first!]);
      expect(other.heard).toContain(first!.jobId);
    });
    one.changes.publish([last!]);
    await one.changes.close();
    await eventually(() => expect(other.heard).toContain(last!.jobId));
  });

  test('that cannot be told is reported', async () => {
    const said = await overhear();
    const [one, other] = [await startInstance(), await startInstance()];
    await watched(other, said);
    await one.db.close();
    await eventually(() => {
      one.changes.publish(newJobs());
      expect(one.errors).not.toEqual([]);
    });
  });
});

describe('a process that watches', () => {
  test('is heard of by one that starts later', async () => {
    const said = await overhear();
    const one = await startInstance();
    await watched(one, said);
    const late = await startInstance();
    const [job] = newJobs();
    await eventually(() => {
      late.changes.publish([job!]);
      expect(one.heard).toContain(job!.jobId);
    });
  });

  test('says so again and again while it watches, and is told once it has stopped saying so for long', async () => {
    const said = await overhear();
    const believedMs = 200;
    const one = await startInstance({ announceEveryMs: 20 });
    const other = await startInstance({ believedMs });
    await watched(one, said);
    await eventually(() => expect(said.filter((payload) => payload.startsWith('watching')).length).toBeGreaterThan(3));
    one.changes.watching(false);
    await untilAllIsHeard(said);
    const silentSince = performance.now();
    await eventually(() => expect(performance.now() - silentSince).toBeGreaterThan(believedMs));
    other.changes.publish(newJobs());
    await other.changes.close();
    await untilAllIsHeard(said);
    expect(changesIn(said)).toEqual([]);
  });

  test('says so once, however often its watchers come and go', async () => {
    const said = await overhear();
    const one = await startInstance();
    for (let n = 0; n < 100; n++) {
      one.changes.watching(true);
      one.changes.watching(false);
    }
    await watched(one, said);
    one.changes.watching(false);
    one.changes.watching(true);
    await untilAllIsHeard(said);
    expect(said.filter((payload) => payload.startsWith('watching'))).toHaveLength(1);
  });

  test('looks for what it may have missed: before the others have heard of it, and after', async () => {
    const one = await startInstance({ settleMs: 20 });
    one.changes.watching(true);
    await eventually(() => expect(one.missed()).toBe(2));
  });
});

test('after a lost connection what was missed is looked for, and changes are heard again', async () => {
  const [one, other] = [await startInstance({ settleMs: 20 }), await startInstance()];
  one.changes.watching(true);
  await eventually(() => expect(one.missed()).toBeGreaterThan(1));
  const before = one.missed();
  const cut = await database.sql`
    SELECT pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE datname = current_database() AND application_name = ${LISTENER}`;
  expect(cut).toHaveLength(2);
  await eventually(() => expect(one.missed()).toBeGreaterThan(before));
  const [job] = newJobs();
  await eventually(() => {
    other.changes.publish([job!]);
    expect(one.heard).toContain(job!.jobId);
  });
});

test('a connection that breaks again and again, under both who share it, serves both in the end', async () => {
  const proxy = await startTcpProxy(database.url);
  const one = await startInstance({}, proxy.url);
  const other = await startInstance();
  const signals = new Signals(database, one.listener, one.instance, (error) => void one.errors.push(error));
  let woken = 0;
  signals.register('pool:x', { hasRoom: false, wake: () => void woken++ });
  await signals.listen();
  one.changes.watching(true);
  proxy.breakAtFirstStatement();
  await eventually(() => expect(proxy.broken).toBeGreaterThan(4));
  await proxy.restore();
  const [job] = newJobs();
  await eventually(() => {
    other.changes.publish([job!]);
    expect(one.heard).toContain(job!.jobId);
  });
  woken = 0;
  await database.sql`SELECT pg_notify('ringback_wake', 'wake pool:x somebody')`;
  await eventually(() => expect(woken).toBeGreaterThan(0));
});

test('nonsense on the channel is nobody’s change and breaks nothing', async () => {
  const said = await overhear();
  const one = await startInstance();
  for (const payload of ['', ' ', 'changed', 'watching', 'hello', '__proto__ x y', 'changed  ']) {
    await database.sql`SELECT pg_notify('ringback_jobs', ${payload})`;
  }
  await untilAllIsHeard(said);
  expect(one.heard.filter((id) => id !== '')).toEqual([]);
  expect(one.errors).toEqual([]);
});
