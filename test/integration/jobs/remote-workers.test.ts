import { describe, expect, it, onTestFinished } from 'vitest';
import { z } from 'zod';
import { Signals, type Sleeper } from '#queue/signals.ts';
import type { Database } from '#store/database.ts';
import { defineJob } from '../../../src/jobs/type/define.ts';
import { JobTypes } from '../../../src/jobs/type/job-types.ts';
import { type ClaimRequest, RemoteWorkers } from '../../../src/jobs/remote/remote-workers.ts';
import { ResultKeeper } from '../../../src/jobs/run/result-keeper.ts';
import { useDatabase } from '../../support/database.ts';
import { eventually } from '../../support/eventually.ts';
import { accepted, insertJob, makeAccount } from '../../support/fixtures.ts';
import { memoryLog } from '../../support/log.ts';
import { REAL_CLOCK, makeEndings, makeTeller, PUBLIC_URL, RESULT_LIMITS } from '../../support/workers.ts';

const database = useDatabase();

const jobTypes = new JobTypes(
  ['one', 'two'].map((name) => defineJob({ type: `remote.${name}`, remote: true, input: z.unknown() })),
);

/** A database that counts what it is asked. */
function counting(db: Database) {
  let statements = 0;
  const counted: Database = {
    get sql() {
      statements += 1;
      return db.sql;
    },
    get orm() {
      statements += 1;
      return db.orm;
    },
    transaction: (work) => {
      statements += 1;
      return db.transaction(work);
    },
    within: () => counted,
    close: () => db.close(),
  };
  return { db: counted, statements: () => statements };
}

/** As a process with the API has it. @param max connections to the database */
function openRemoteWorkers(max = 5) {
  const opened = database.open({ max });
  const { db, statements } = counting(opened);
  const { log } = memoryLog();
  const lines = new Map<string, Sleeper>();
  const signals = new Signals(database.db, database.listener(), 'test', () => undefined);
  const announce = (pool: string) => signals.announce(`pool:${pool}`);
  const workers = new RemoteWorkers({
    clock: REAL_CLOCK,
    db,
    types: jobTypes,
    endings: makeEndings({ database }, { announceRuns: announce }),
    results: new ResultKeeper(database.db, RESULT_LIMITS),
    log,
    publicUrl: PUBLIC_URL,
    teller: makeTeller({ database }),
    jobsChanged: () => undefined,
    announceRuns: announce,
    accountLimits: { maxRunning: null, any: () => false },
    register: (pool, sleeper) => {
      lines.set(pool, sleeper);
      return signals.register(`pool:${pool}`, sleeper);
    },
  });
  onTestFinished(() => workers.stop());
  const claim = async (request: Partial<ClaimRequest> = {}, gone = new AbortController().signal) => {
    const wish = { types: ['remote.one'], max: 1, waitMs: 0, leaseMs: 30_000, worker: 'test', ...request };
    return accepted(await workers.claim(wish, gone));
  };
  const untilWaiting = () => eventually(() => expect(lines.get('remote:remote.one')?.hasRoom).toBe(true));
  /** With one connection: until all that was asked so far is answered. */
  const answered = () => opened.sql`SELECT`;
  return { workers, claim, statements, announce, untilWaiting, answered };
}

async function queue(count: number, type = 'remote.one'): Promise<string> {
  const { accountId } = await makeAccount(database.db);
  const pool = `remote:${type}`;
  for (let n = 0; n < count; n++) await insertJob(database.db, accountId, { type, pool });
  return pool;
}

describe('workers that wait', () => {
  it('cost no statement but their own first claim', async () => {
    const { claim, statements } = openRemoteWorkers();
    const claims = await Promise.all(Array.from({ length: 300 }, () => claim({ waitMs: 1000 })));
    expect(claims.flat()).toEqual([]);
    expect(statements()).toBe(300);
  });

  it('are woken one for a job, the first that came first', async () => {
    const { workers, claim, statements, announce, answered } = openRemoteWorkers(1);
    const waiting = Array.from({ length: 200 }, (_, n) => claim({ waitMs: 30_000, worker: `w${n}` }));
    await eventually(() => expect(statements()).toBe(200));
    // A first claim that is still under way would find what is queued now, out of turn.
    await answered();
    const pool = await queue(3);
    for (let n = 0; n < 3; n++) announce(pool);
    await eventually(async () => {
      const left = await database.sql`SELECT FROM ringback.run_queue WHERE pool = ${pool} AND state = 'ready'`;
      expect(left).toHaveLength(0);
    });
    workers.stop();
    const claimed = (await Promise.all(waiting)).flat();
    expect(claimed.map(({ workerId }) => workerId)).toEqual(['w0', 'w1', 'w2']);
    expect(statements() - 200, 'three that found one, and those that found no more').toBeLessThanOrEqual(6);
  });

  it('for two types get what is queued of either, and a batch of it when they ask for one', async () => {
    const { claim, announce } = openRemoteWorkers();
    const types = ['remote.one', 'remote.two'];
    const waiting = claim({ types, waitMs: 30_000, max: 5 });
    announce(await queue(3, 'remote.two'));
    expect((await waiting).map(({ type }) => type)).toEqual(['remote.two', 'remote.two', 'remote.two']);
  });

  it('find what nobody has told them of', async () => {
    const { claim, untilWaiting } = openRemoteWorkers();
    const waiting = claim({ waitMs: 20_000 });
    await untilWaiting();
    await queue(1);
    expect(await waiting).toHaveLength(1);
  });

  it('that are gone are passed over, and what was claimed for them goes back', async () => {
    const { claim, announce, untilWaiting } = openRemoteWorkers();
    const gone = new AbortController();
    const first = claim({ waitMs: 30_000 }, gone.signal);
    await untilWaiting();
    const second = claim({ waitMs: 30_000, worker: 'second' });
    const pool = await queue(1);
    announce(pool);
    // In the middle of the claim that is made for it.
    gone.abort();
    expect(await first).toEqual([]);
    expect(await second).toMatchObject([{ workerId: 'second' }]);
    const [counts] = await database.sql`
      SELECT max(run_count)::int AS runs, max(failure_count)::int AS failures FROM ringback.jobs`;
    expect(counts!.failures).toBe(0);
  });
});
