import { beforeEach, expect, test } from 'vitest';
import type { Database } from '#store/database.ts';
import { type KeptOutcome, ResultKeeper } from '../../../src/jobs/run/result-keeper.ts';
import { startTcpProxy } from '../../e2e/support/tcp-proxy.ts';
import { useDatabase } from '../../support/database.ts';
import { eventually } from '../../support/eventually.ts';
import { endOfJob, jobType, runsOfJob, submitJob } from '../../support/job-life.ts';
import { lockRow } from '../../support/locks.ts';
import { startRunner } from '../../support/workers.ts';

/** What becomes of a run's end when the database does not take it at once. */

const database = useDatabase();

/** Tells when a result has been stored: what follows is the end of its run. */
class TellingResults extends ResultKeeper {
  readonly #stored: () => void;

  constructor(db: Database, stored: () => void) {
    super(db, { inlineBytes: 100, maxBytes: 1_000_000 });
    this.#stored = stored;
  }

  override async keep(...args: Parameters<ResultKeeper['keep']>): Promise<KeptOutcome> {
    const kept = await super.keep(...args);
    this.#stored();
    return kept;
  }
}

beforeEach(async () => {
  await database.sql`DELETE FROM ringback.run_queue`;
});

test('a connection lost after the commit: the end is found on record, and its stored result is kept', async () => {
  const proxy = await startTcpProxy(database.url);
  const db = database.open({ url: proxy.url, max: 1 });
  let isLast = false;
  const text = 'x'.repeat(100_000);
  const { worker, lines } = startRunner({ database: { ...database, db, sql: db.sql } }, [jobType(() => text)], {
    pollMs: 3_600_000,
    results: new TellingResults(db, () => void (isLast && proxy.mute())),
  });
  const wake = () => {
    for (const { loop } of worker.pools) loop.wake();
  };
  // So that the statements of the last one are known on that connection.
  for (let n = 0; n < 2; n++) {
    const warm = await submitJob(database);
    wake();
    await endOfJob(database, warm);
  }
  isLast = true;
  const job = await submitJob(database);
  wake();
  expect(await endOfJob(database, job)).toMatchObject({ status: 'succeeded', resultBytes: text.length + 2 });
  await proxy.cut();
  await proxy.restore();
  await eventually(() =>
    expect(lines.find(({ msg, job_id: id }) => msg === 'run' && id === job.id)).toMatchObject({ run: 'succeeded' }),
  );
  expect(await runsOfJob(database, job)).toEqual([[1, 'succeeded', null]]);
  const chunks = await database.sql`
    SELECT FROM ringback.result_chunks AS chunk JOIN ringback.jobs AS job ON job.result_run_id = chunk.run_id
    WHERE job.id = ${job.id}`;
  expect(chunks.count).toBe(2);
}, 40_000);

test('a row that somebody holds: the end waits for it, and the ends of others do not', async () => {
  const gate = Promise.withResolvers<void>();
  const held = await submitJob(database);
  startRunner({ database }, [jobType(({ job }) => (job.id === held.id ? gate.promise.then(() => 1) : 2))]);
  await eventually(async () => {
    const leased = await database.sql`SELECT FROM ringback.run_queue WHERE job_id = ${held.id} AND state = 'leased'`;
    expect(leased.count).toBe(1);
  });
  const holder = await lockRow(database, 'jobs', 'id', held.id);
  gate.resolve();
  await eventually(async () => {
    const waiting = await database.sql`
      SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`;
    expect(waiting.count).toBeGreaterThan(0);
  });
  const others = [await submitJob(database), await submitJob(database)];
  for (const other of others) await endOfJob(database, other);
  await holder.release();
  expect(await endOfJob(database, held)).toMatchObject({ status: 'succeeded' });
  expect(await runsOfJob(database, held)).toEqual([[1, 'succeeded', null]]);
}, 40_000);

test('a deadlock with another transaction costs no run', async () => {
  const gate = Promise.withResolvers<void>();
  const job = await submitJob(database);
  startRunner({ database }, [jobType(() => gate.promise.then(() => 1))]);
  await eventually(async () => {
    const leased = await database.sql`SELECT FROM ringback.run_queue WHERE job_id = ${job.id} AND state = 'leased'`;
    expect(leased.count).toBe(1);
  });
  const before = await deadlocks();
  // The other way round: the job first, then its row in the queue, which the end has locked by then.
  const other = database.db.transaction(async (tx) => {
    await tx`SELECT FROM ringback.jobs WHERE id = ${job.id} FOR UPDATE`;
    gate.resolve();
    await eventually(async () => {
      const waiting = await database.sql`
        SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`;
      expect(waiting.count).toBeGreaterThan(0);
    });
    await tx`SELECT FROM ringback.run_queue WHERE job_id = ${job.id} FOR UPDATE`;
  });
  // Whichever of the two PostgreSQL ends.
  await other.catch(() => undefined);
  expect(await endOfJob(database, job)).toMatchObject({ status: 'succeeded' });
  expect(await runsOfJob(database, job)).toEqual([[1, 'succeeded', null]]);
  await eventually(async () => expect(await deadlocks()).toBeGreaterThan(before));
}, 40_000);

async function deadlocks(): Promise<number> {
  const [row] = await database.sql<{ deadlocks: number }[]>`
    SELECT deadlocks::int FROM pg_stat_database WHERE datname = current_database()`;
  return row!.deadlocks;
}
