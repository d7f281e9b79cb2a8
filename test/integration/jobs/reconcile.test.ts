import { describe, expect, onTestFinished, test } from 'vitest';
import { type AccountId, type JobId, newId } from '#domain/ids.ts';
import type { Database, Transaction } from '#store/database.ts';
import { insertJobs, type JobRecord, type StorableJob } from '#store/jobs.ts';
import { endRuns, type RunEnd } from '#store/end-runs.ts';
import type { JobFilter, JobPage } from '../../../src/jobs/read/job-filter.ts';
import { JobLists } from '../../../src/jobs/read/job-lists.ts';
import { useDatabase } from '../../support/database.ts';
import { eventually } from '../../support/eventually.ts';
import { accepted, claimRun, insertJob, makeAccount, newJob, runEnd } from '../../support/fixtures.ts';
import { passHorizon } from '../../support/horizon.ts';
import { REAL_CLOCK } from '../../support/workers.ts';

/** The walk by `updated_after` while jobs change: it misses none, and meets each that is at rest once. */

const database = useDatabase();

const ANY: JobFilter = {
  types: undefined,
  statuses: undefined,
  metadata: {},
  createdAfter: undefined,
  createdBefore: undefined,
};
const BEGINNING = new Date(0);

const sightOf = ({ id, sequence }: Pick<JobRecord, 'id' | 'sequence'>): string => `${id} ${sequence}`;

/** Every job of an account with the number of its latest event, straight from the table. */
async function atRest(accountId: AccountId, since = BEGINNING): Promise<string[]> {
  const rows = await database.sql<Array<Pick<JobRecord, 'id' | 'sequence'>>>`
    SELECT id, sequence FROM ringback.jobs WHERE account_id = ${accountId} AND updated_at > ${since}`;
  return rows.map(sightOf).toSorted();
}

/** A client that keeps nothing but its cursor: each page may be answered by another process. */
class Walker {
  readonly #accountId: AccountId;
  readonly #limit: number;
  readonly #filter: JobFilter;
  #start: Date | undefined;
  #cursor: string | undefined;
  readonly seen: JobRecord[] = [];
  pages = 0;

  constructor(accountId: AccountId, from: { start: Date } | { cursor: string }, limit = 7, filter = ANY) {
    this.#accountId = accountId;
    this.#limit = limit;
    this.#filter = filter;
    if ('start' in from) this.#start = from.start;
    else this.#cursor = from.cursor;
  }

  get cursor(): string {
    return this.#cursor ?? '';
  }

  async step(db: Database): Promise<JobPage> {
    const query = { filter: this.#filter, updatedAfter: this.#start, cursor: this.#cursor, limit: this.#limit };
    const page = accepted(await new JobLists({ db, clock: REAL_CLOCK }).page(this.#accountId, query));
    this.seen.push(...page.items);
    this.#start = undefined;
    this.#cursor = page.nextCursor!;
    this.pages++;
    return page;
  }

  /** To where nothing is left to be told of just now. */
  async catchUp(db: Database): Promise<this> {
    while ((await this.step(db)).hasMore);
    return this;
  }

  /** To where everything was told of that is committed by now. */
  async catchUpWithAll(db: Database): Promise<this> {
    await passHorizon(database.db);
    return this.catchUp(db);
  }
}

const walkAll = (accountId: AccountId, start: Date, limit?: number, filter?: JobFilter) =>
  new Walker(accountId, { start }, limit, filter).catchUpWithAll(database.db);

/** The end of a job that waits. */
function canceled(job: Pick<StorableJob, 'accountId' | 'id'>): RunEnd {
  const at = new Date();
  return {
    ...({ runId: null, runStatus: null, runError: null, outputText: null, result: null, progress: null } as const),
    ...({ nextRunAt: null, delivery: null, jobStatus: 'canceled', endedAt: at } as const),
    accountId: job.accountId,
    jobId: job.id,
    jobError: { code: 'canceled', message: 'called off' },
    event: { id: newId('evt', at.getTime()), type: 'job.canceled', body: null },
  };
}

const AGAIN = { runStatus: 'released', jobStatus: 'in_progress' } as const;
const ERROR = { code: 'handler_error', message: 'it broke' } as const;
const FAILED = { runStatus: 'failed', runError: ERROR, jobStatus: 'failed', jobError: ERROR } as const;

/** Takes one job some way through its life, a transaction a step. */
async function live(db: Database, accountId: AccountId, number: number): Promise<void> {
  const job = await insertJob(db, accountId, { type: `test.type${number % 3}` });
  const fate = number % 6;
  if (fate === 0) return;
  if (fate === 1) return void (await endRuns(db.sql, [canceled(job)]));
  const claimed = await claimRun(db, job);
  if (fate === 2) return;
  if (fate === 3) return void (await endRuns(db.sql, [runEnd(claimed, FAILED)]));
  await endRuns(db.sql, [runEnd(claimed, AGAIN)]);
  if (fate === 4) return;
  await endRuns(db.sql, [runEnd(await claimRun(db, job))]);
}

const WRITERS = 3;
const JOBS_OF_A_WRITER = 60;
const HOLDS = 12;

/** Writers that commit as they go, and one that holds each of its transactions open while others and the walkers go on. */
async function underFire(accountId: AccountId, walkers: readonly Walker[]): Promise<void> {
  let written = 0;
  const held = new AbortController();
  const write = async (first: number) => {
    const db = database.open({ max: 2 });
    for (let number = 0; number < JOBS_OF_A_WRITER || !held.signal.aborted; number++, written++)
      await live(db, accountId, first + number);
  };
  const hold = async () => {
    const db = database.open({ max: 1 });
    for (let round = 0; round < HOLDS; round++) {
      const waiting = await insertJob(db, accountId);
      await db.transaction(async (tx) => {
        await writeHeld(tx, accountId, waiting);
        const before = { written, pages: walkers.map(({ pages }) => pages) };
        // Each walker has asked anew after others had committed: whatever passes the held transaction by has done so.
        await eventually(() => expect(written).toBeGreaterThan(before.written + WRITERS));
        const asked = walkers.map(({ pages }) => pages);
        await eventually(() => {
          for (const [index, { pages }] of walkers.entries()) expect(pages).toBeGreaterThan(asked[index]! + 1);
        });
      });
    }
    held.abort();
  };
  await Promise.all([hold(), ...Array.from({ length: WRITERS }, (_, index) => write(index * 1000))]);
}

async function writeHeld(tx: Transaction, accountId: AccountId, waiting: StorableJob): Promise<void> {
  await endRuns(tx, [canceled(waiting)]);
  await insertJobs(tx, [newJob(accountId), newJob(accountId)]);
}

describe('walking while jobs change', () => {
  test('misses no job’s last state and meets no state twice, however transactions overtake each other', async () => {
    const [{ accountId }, { accountId: other }] = [await makeAccount(database.db), await makeAccount(database.db)];
    const walkers = [
      new Walker(accountId, { start: BEGINNING }, 1),
      new Walker(accountId, { start: BEGINNING }, 7),
      new Walker(accountId, { start: BEGINNING }, 200),
    ];
    const burntOut = new AbortController();
    const walk = async (walker: Walker) => {
      const db = database.open({ max: 1 });
      while (!burntOut.signal.aborted) await walker.step(db);
      await walker.catchUpWithAll(db);
    };
    const fire = Promise.all([underFire(accountId, walkers), live(database.open({ max: 1 }), other, 5)]);
    await Promise.all([fire.finally(() => burntOut.abort()), ...walkers.map(walk)]);

    const wanted = await atRest(accountId);
    expect(wanted.length).toBeGreaterThan(WRITERS * JOBS_OF_A_WRITER);
    for (const { seen } of walkers) {
      const sights = seen.map(sightOf);
      expect(new Set(sights).size, 'states met twice').toBe(sights.length);
      expect(
        wanted.filter((state) => !sights.includes(state)),
        'last states missed',
      ).toEqual([]);
    }
    // And at rest each job once, from anywhere.
    for (const limit of [1, 7, 200])
      expect((await walkAll(accountId, BEGINNING, limit)).seen.map(sightOf).toSorted()).toEqual(wanted);
  }, 60_000);
});

describe('a walk at rest', () => {
  async function restingJobs(count: number): Promise<{ accountId: AccountId; ids: JobId[]; times: Date[] }> {
    const { accountId } = await makeAccount(database.db);
    const start = Date.now() - 3_600_000;
    const jobs = Array.from({ length: count }, (_, number) =>
      newJob(accountId, { createdAt: new Date(start + number * 1000), type: `test.type${number % 2}` }),
    );
    for (const job of jobs) await insertJobs(database.sql, [job]);
    return { accountId, ids: jobs.map(({ id }) => id), times: jobs.map(({ createdAt }) => createdAt) };
  }

  test('goes in the order of changes, and a job that changes comes again, behind all others', async () => {
    const { accountId, ids } = await restingJobs(9);
    const walker = await walkAll(accountId, BEGINNING, 2);
    expect(walker.seen.map(({ id }) => id)).toEqual(ids);
    await claimRun(database.db, { accountId, id: ids[3]! });
    expect((await walkAll(accountId, BEGINNING, 4)).seen.map(({ id }) => id)).toEqual([...ids.toSpliced(3, 1), ids[3]]);
    await walker.catchUpWithAll(database.db);
    expect(walker.seen.slice(9)).toMatchObject([{ id: ids[3], status: 'in_progress', sequence: 2 }]);
  });

  test('from a time meets what changed after it, to the millisecond', async () => {
    const { accountId, ids, times } = await restingJobs(150);
    const idsFrom = async (time: Date) => (await walkAll(accountId, time, 40)).seen.map(({ id }) => id);
    expect(await idsFrom(times[100]!)).toEqual(ids.slice(101));
    expect(await idsFrom(new Date(times[100]!.getTime() - 1))).toEqual(ids.slice(100));
    expect(await idsFrom(new Date())).toEqual([]);
    expect(await idsFrom(new Date(Date.now() + 1000))).toEqual([]);
  });

  test('that has caught up is empty, and its cursor meets what comes', async () => {
    const { accountId } = await restingJobs(3);
    const walker = await walkAll(accountId, new Date());
    expect(walker.seen).toEqual([]);
    for (const _ of [1, 2, 3]) expect(await walker.step(database.db)).toMatchObject({ items: [], hasMore: false });
    const late = await insertJob(database.db, accountId);
    await walker.catchUpWithAll(database.db);
    expect(walker.seen).toMatchObject([{ id: late.id }]);
  });

  test('goes on where it was in another process, after weeks', async () => {
    const { accountId, ids } = await restingJobs(5);
    const first = new Walker(accountId, { start: BEGINNING }, 2);
    await passHorizon(database.db);
    await first.step(database.db);
    const second = new Walker(accountId, { cursor: first.cursor }, 2);
    await second.catchUpWithAll(database.open({ max: 1 }));
    expect(second.seen.map(({ id }) => id)).toEqual(ids.slice(2));
  });

  test('passes over what its filters leave out, and still catches up', async () => {
    const { accountId, ids } = await restingJobs(10);
    const filter = { ...ANY, types: ['test.type1'] };
    const { seen } = await walkAll(accountId, BEGINNING, 2, filter);
    expect(seen.map(({ id }) => id)).toEqual(ids.filter((_, index) => index % 2 === 1));
    expect((await walkAll(accountId, BEGINNING, 2, { ...ANY, statuses: ['expired'] })).seen).toEqual([]);
  });

  test('does not meet a job for its progress', async () => {
    const { accountId, ids } = await restingJobs(2);
    const { runId } = await claimRun(database.db, { accountId, id: ids[0]! });
    const walker = await walkAll(accountId, BEGINNING);
    await database.sql`UPDATE ringback.jobs SET progress = '{"percent":5}', updated_at = now() WHERE run_id = ${runId}`;
    expect((await walker.step(database.db)).items).toEqual([]);
  });
});

describe('a transaction that is under way', () => {
  test('holds a walk back behind it, whoever began it, and no longer than it lasts', async () => {
    const { accountId } = await makeAccount(database.db);
    const walker = await walkAll(accountId, BEGINNING);
    const foreign = await makeAccount(database.db);
    const held = Promise.withResolvers<void>();
    const began = Promise.withResolvers<void>();
    const elsewhere = database.open({ max: 1 });
    onTestFinished(() => held.resolve());
    const holder = elsewhere.transaction(async (tx) => {
      await insertJobs(tx, [newJob(foreign.accountId)]);
      began.resolve();
      await held.promise;
    });
    await began.promise;
    const job = await insertJob(database.db, accountId);
    expect(await walker.step(database.db)).toMatchObject({ items: [], hasMore: false });
    // One that starts now sees no more: it must not begin beyond what is held.
    const start = new Date(Date.now() - 1000);
    const starting = await new Walker(accountId, { start }).catchUp(database.db);
    expect(starting.seen).toEqual([]);
    held.resolve();
    await holder;
    for (const late of [walker, starting]) {
      await late.catchUpWithAll(database.db);
      expect(late.seen).toMatchObject([{ id: job.id }]);
    }
  });

  test('that is rolled back leaves nothing behind', async () => {
    const { accountId } = await makeAccount(database.db);
    const walker = await walkAll(accountId, BEGINNING);
    await expect(
      database.db.transaction(async (tx) => {
        await insertJobs(tx, [newJob(accountId)]);
        throw new Error('no');
      }),
    ).rejects.toThrow('no');
    const job = await insertJob(database.db, accountId);
    await walker.catchUpWithAll(database.db);
    expect(walker.seen).toMatchObject([{ id: job.id }]);
  });
});

describe('clocks', () => {
  test('of processes that differ by half a minute lose no job to a walk that starts between them', async () => {
    const { accountId } = await makeAccount(database.db);
    const now = Date.now() - 600_000;
    // Written one after the other, by processes whose clocks are ahead and behind.
    const jobs = [30_000, 0, 29_000, -30_000, 1000, 15_000].map((ahead, index) =>
      newJob(accountId, { createdAt: new Date(now + ahead + index) }),
    );
    for (const job of jobs) await insertJobs(database.sql, [job]);
    const start = new Date(now + 500);
    const wanted = jobs.filter(({ createdAt }) => createdAt > start).map(({ id }) => id);
    expect(wanted).toHaveLength(4);
    expect((await walkAll(accountId, start, 2)).seen.map(({ id }) => id)).toEqual(wanted);
  });

  test('that are weeks behind do not hide a job from a walk that is under way', async () => {
    const { accountId } = await makeAccount(database.db);
    const walker = await walkAll(accountId, new Date());
    const job = await insertJob(database.db, accountId, { createdAt: new Date('2001-01-01T00:00:00Z') });
    await walker.catchUpWithAll(database.db);
    expect(walker.seen).toMatchObject([{ id: job.id }]);
  });

  test('an end that could not be written for a while is met by a walk from before it', async () => {
    const { accountId } = await makeAccount(database.db);
    const now = Date.now();
    const [early, late] = [await insertJob(database.db, accountId), await insertJob(database.db, accountId)];
    const [first, second] = [await claimRun(database.db, early), await claimRun(database.db, late)];
    // The database was away for ten minutes: what ended first was written last.
    const endedAt = (ago: number) => new Date(now + 600_000 - ago);
    await endRuns(database.sql, [runEnd(second, { endedAt: endedAt(1000) })]);
    await endRuns(database.sql, [runEnd(first, { endedAt: endedAt(500_000) })]);
    const { seen } = await walkAll(accountId, new Date(now + 50_000));
    expect(seen.map(({ id }) => id)).toEqual([late.id, early.id]);
  });
});
