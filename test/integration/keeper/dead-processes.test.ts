import { beforeEach, expect, test } from 'vitest';
import { newId, type WorkerId } from '#domain/ids.ts';
import { lockPresence, recordPresence } from '#store/processes.ts';
import { deferRun } from '#store/run-queue.ts';
import { DeadProcesses } from '../../../src/keeper/dead-processes.ts';
import { rescueRuns } from '../../../src/jobs/run/rescue.ts';
import { startTcpProxy } from '../../e2e/support/tcp-proxy.ts';
import { useDatabase } from '../../support/database.ts';
import { claimRun } from '../../support/fixtures.ts';
import { jobType, runsOfJob, submitJob } from '../../support/job-life.ts';
import { memoryLog } from '../../support/log.ts';
import { rescueDeps } from '../../support/workers.ts';

const database = useDatabase();

beforeEach(async () => {
  for (const table of ['run_queue', 'processes']) await database.sql.unsafe(`DELETE FROM ringback.${table}`);
});

let pools = 0;

/** A run under way of a worker, which has an hour left. */
async function runOf(workerId: WorkerId, changes: Parameters<typeof claimRun>[2] = {}) {
  const job = await submitJob(database, { pool: `dead:${++pools}` });
  const run = await claimRun(database.db, job, { workerId, leaseMs: 3_600_000, ...changes });
  return { job, ref: { accountId: run.accountId, jobId: run.id, runId: run.runId } };
}

async function silentWorker(): Promise<WorkerId> {
  const workerId = newId('wrk', Date.now());
  await recordPresence(database.db, workerId);
  await database.sql`UPDATE ringback.processes SET seen_at = now() - interval '10 s' WHERE worker_id = ${workerId}`;
  return workerId;
}

function looking(db = database.db) {
  const { log } = memoryLog();
  const deps = rescueDeps({ database }, [jobType(() => null)]);
  return new DeadProcesses({ db, log, rescue: (workerIds) => rescueRuns(deps, workerIds) });
}

const isHeld = async ({ ref }: Awaited<ReturnType<typeof runOf>>) => {
  const held = await database.sql`SELECT FROM ringback.run_queue WHERE run_id = ${ref.runId}`;
  return held.count === 1;
};

test('what a dead process held is ended at once; what a remote worker or a back end holds is not', async () => {
  const dead = await silentWorker();
  const own = await runOf(dead);
  const remote = await runOf(dead, { heldBy: 'worker' });
  const handedOver = await runOf(dead);
  await deferRun(database.sql, handedOver.ref);
  await looking().look();
  expect(await runsOfJob(database, own.job)).toEqual([[1, 'lost', 'worker_lost']]);
  expect(await isHeld(remote)).toBe(true);
  expect(await isHeld(handedOver)).toBe(true);
  expect((await database.sql`SELECT FROM ringback.processes`).count, 'it is forgotten').toBe(0);
});

test('a process that was never seen, of an older version, keeps what it has until its lease has run out', async () => {
  const unknown = await runOf(newId('wrk', Date.now()));
  await silentWorker();
  await looking().look();
  expect(await isHeld(unknown)).toBe(true);
});

test('a process that holds its lock is not dead, however long it has been silent', async () => {
  const worker = await silentWorker();
  await database.listener().prepare((sql) => lockPresence(sql, worker));
  const run = await runOf(worker);
  await looking().look();
  expect(await isHeld(run)).toBe(true);
});

test('a process that comes back between two looks is not dead', async () => {
  const worker = await silentWorker();
  const run = await runOf(worker);
  const look = looking().look();
  await recordPresence(database.db, worker);
  await look;
  expect(await isHeld(run)).toBe(true);
});

test('after an outage of its own, whoever looks gives the others the time to come back', async () => {
  const worker = await silentWorker();
  const run = await runOf(worker);
  const proxy = await startTcpProxy(database.url);
  const dead = looking(database.open({ url: proxy.url }));
  await proxy.cut();
  await expect(dead.look()).rejects.toThrow();
  await proxy.restore();
  await dead.look();
  expect(await isHeld(run)).toBe(true);
});

test('many that look at once end each run once', async () => {
  const worker = await silentWorker();
  const runs = await Promise.all(Array.from({ length: 20 }, () => runOf(worker)));
  await Promise.all(Array.from({ length: 5 }, () => looking().look()));
  for (const { job } of runs) expect(await runsOfJob(database, job)).toEqual([[1, 'lost', 'worker_lost']]);
});
