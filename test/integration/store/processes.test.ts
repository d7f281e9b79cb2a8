import { beforeEach, expect, test } from 'vitest';
import { newId, type WorkerId } from '#domain/ids.ts';
import {
  findSilentProcesses,
  forgetProcesses,
  lockPresence,
  recordDeparture,
  recordPresence,
} from '#store/processes.ts';
import { useDatabase } from '../../support/database.ts';
import { eventually } from '../../support/eventually.ts';

const database = useDatabase();

beforeEach(async () => {
  await database.sql`DELETE FROM ringback.processes`;
});

const newWorker = () => newId('wrk', Date.now());
const silent = () => findSilentProcesses(database.db, 1000);

/** As if nothing had been heard of it for an hour. */
async function makeSilent(workerId: WorkerId): Promise<void> {
  await recordPresence(database.db, workerId);
  await database.sql`
    UPDATE ringback.processes SET seen_at = now() - interval '1 hour' WHERE worker_id = ${workerId}`;
}

test('a process is silent when neither its lock nor a sign of life is there', async () => {
  const [dead, seen, locked] = [newWorker(), newWorker(), newWorker()];
  await makeSilent(dead);
  await recordPresence(database.db, seen);
  await makeSilent(locked);
  await database.listener().prepare((sql) => lockPresence(sql, locked));
  expect(await silent()).toEqual([dead]);
});

test('a process that died while the clock was ahead is silent, for all its sign of life is of the future', async () => {
  const [dead, skewed] = [newWorker(), newWorker()];
  await Promise.all([recordPresence(database.db, dead), recordPresence(database.db, skewed)]);
  await database.sql`
    UPDATE ringback.processes SET seen_at = now() + CASE WHEN worker_id = ${dead} THEN interval '500 days' ELSE '5 s' END`;
  expect(await silent()).toEqual([dead]);
});

test('the lock ends with its session, and is there again with the next one, though the server still has the first', async () => {
  const worker = newWorker();
  await makeSilent(worker);
  const [first, second] = [database.listener(), database.listener()];
  await first.prepare((sql) => lockPresence(sql, worker));
  await second.prepare((sql) => lockPresence(sql, worker));
  expect(await silent()).toEqual([]);
  await first.close();
  expect(await silent()).toEqual([]);
  await second.close();
  await eventually(async () => expect(await silent()).toEqual([worker]));
});

test('the lock is taken again when its session was ended', async () => {
  const worker = newWorker();
  await makeSilent(worker);
  await database.listener({ onError: () => undefined }).prepare((sql) => lockPresence(sql, worker));
  const ended = await database.sql`
    SELECT pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE datname = current_database() AND application_name = 'ringback-listen'`;
  expect(ended.count).toBe(1);
  const holders = () => database.sql`
    SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND database = (
      SELECT oid FROM pg_database WHERE datname = current_database())`;
  await eventually(async () => expect(await holders()).toHaveLength(1));
  expect(await silent()).toEqual([]);
});

test('locks of other databases, and of other kinds, do not count', async () => {
  const worker = newWorker();
  await makeSilent(worker);
  await database.listener().prepare((sql) => sql`SELECT pg_advisory_lock_shared(1, hashtext(${worker}))`);
  expect(await silent()).toEqual([worker]);
});

test('one that stops says so, and one that was forgotten though it lives says that again', async () => {
  const worker = newWorker();
  await recordPresence(database.db, worker);
  await recordDeparture(database.db, worker);
  expect(await silent()).toEqual([worker]);
  await forgetProcesses(database.db, [worker]);
  expect(await silent()).toEqual([]);
  await recordPresence(database.db, worker);
  expect((await database.sql`SELECT FROM ringback.processes`).count).toBe(1);
});
