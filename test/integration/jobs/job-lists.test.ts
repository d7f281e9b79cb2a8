import { beforeAll, describe, expect, test } from 'vitest';
import { sealCursor } from '#domain/cursor.ts';
import { type AccountId, idBound, type JobId, newId } from '#domain/ids.ts';
import { findJob } from '#store/job-reads.ts';
import { insertJobs, type JobRecord, type StorableJob } from '#store/jobs.ts';
import { endRuns } from '#store/end-runs.ts';
import { type JobFilter, type JobPage, scopeOf } from '../../../src/jobs/read/job-filter.ts';
import { JobLists, type JobListQuery } from '../../../src/jobs/read/job-lists.ts';
import { useDatabase } from '../../support/database.ts';
import { accepted, claimRun, insertJob, makeAccount, newJob, runEnd } from '../../support/fixtures.ts';
import { passHorizon } from '../../support/horizon.ts';
import { REAL_CLOCK } from '../../support/workers.ts';

const database = useDatabase();

const ANY: JobFilter = {
  types: undefined,
  statuses: undefined,
  metadata: {},
  createdAfter: undefined,
  createdBefore: undefined,
};

/** What one request looks at. */
const LOOK = 2000;

type Asked = Partial<JobFilter> & Partial<Omit<JobListQuery, 'filter'>>;

function ask(accountId: AccountId, { updatedAfter, cursor, limit = 50, ...filter }: Asked) {
  return new JobLists({ db: database.db, clock: REAL_CLOCK }).page(accountId, {
    filter: { ...ANY, ...filter },
    updatedAfter,
    cursor,
    limit,
  });
}

/** Page by page to the end; answers the pages. */
async function pagesOf(accountId: AccountId, asked: Asked): Promise<JobPage[]> {
  const pages: JobPage[] = [];
  for (let cursor: string | undefined; ;) {
    const page = accepted(await ask(accountId, { ...asked, ...(cursor !== undefined && { cursor }) }));
    pages.push(page);
    if (page.nextCursor === null) return pages;
    cursor = page.nextCursor;
  }
}

const idsOf = (pages: readonly JobPage[]): JobId[] => pages.flatMap(({ items }) => items.map(({ id }) => id));
const listed = async (accountId: AccountId, asked: Asked) => idsOf(await pagesOf(accountId, asked));

const START = Date.parse('2026-01-01T00:00:00Z');

/** Jobs a second apart, oldest first. */
async function makeJobs(
  accountId: AccountId,
  count: number,
  changes: (number: number) => Partial<StorableJob> = () => ({}),
): Promise<StorableJob[]> {
  const jobs = Array.from({ length: count }, (_, number) =>
    newJob(accountId, { createdAt: new Date(START + number * 1000), ...changes(number) }),
  );
  for (let made = 0; made < count; made += 500) await insertJobs(database.sql, jobs.slice(made, made + 500));
  return jobs;
}

/** As if they had all been called off. */
async function cancelAll(accountId: AccountId, except: readonly JobId[] = []): Promise<void> {
  await database.sql`
    WITH over AS (
      DELETE FROM ringback.run_queue
      WHERE account_id = ${accountId} AND job_id <> ALL (${[...except]}::text[]) RETURNING job_id
    )
    UPDATE ringback.jobs SET status = 'canceled', error = '{"code":"canceled","message":""}', finished_at = now()
    FROM over WHERE account_id = ${accountId} AND id = over.job_id`;
}

describe('a list', () => {
  test('has every job once, newest first, page by page, and ends with null', async () => {
    const { accountId } = await makeAccount(database.db);
    const jobs = await makeJobs(accountId, 25);
    const pages = await pagesOf(accountId, { limit: 10 });
    expect(idsOf(pages)).toEqual(jobs.map(({ id }) => id).toReversed());
    expect(pages.map(({ items, hasMore }) => [items.length, hasMore])).toEqual([
      [10, true],
      [10, true],
      [5, false],
    ]);
  });

  test('has its jobs as they are found one by one', async () => {
    const { accountId } = await makeAccount(database.db);
    const [first, second, third] = await makeJobs(accountId, 3, (number) => ({ metadata: { n: String(number) } }));
    await endRuns(database.sql, [runEnd(await claimRun(database.db, first!))]);
    const large = { contentType: 'image/png', bytes: 5_000_000_000, sha256: 'ab'.repeat(32) };
    await endRuns(database.sql, [runEnd(await claimRun(database.db, second!), { outputText: null, result: large })]);
    const one = async ({ id }: StorableJob): Promise<JobRecord> => (await findJob(database.db, accountId, id))!;
    const { items } = accepted(await ask(accountId, {}));
    expect(items).toEqual([await one(third!), await one(second!), await one(first!)]);
    const { items: open } = accepted(await ask(accountId, { statuses: ['queued'] }));
    expect(open).toEqual([await one(third!)]);
    await passHorizon(database.db);
    const walked = accepted(await ask(accountId, { updatedAfter: new Date(0), metadata: { n: '1' } }));
    expect(walked.items).toEqual([await one(second!)]);
  });

  test('neither repeats nor misses a job when others come in between two pages', async () => {
    const { accountId } = await makeAccount(database.db);
    const jobs = await makeJobs(accountId, 6);
    const first = accepted(await ask(accountId, { limit: 3 }));
    await insertJob(database.db, accountId);
    const second = accepted(await ask(accountId, { limit: 3, cursor: first.nextCursor! }));
    expect(idsOf([first, second])).toEqual(jobs.map(({ id }) => id).toReversed());
  });

  test('is empty for an account without jobs, whatever others have', async () => {
    const [one, other] = [await makeAccount(database.db), await makeAccount(database.db)];
    await makeJobs(one.accountId, 2, () => ({ metadata: { a: 'b' } }));
    for (const asked of [
      {},
      { statuses: ['queued'] as const },
      { metadata: { a: 'b' } },
      { updatedAfter: new Date(0) },
    ])
      expect(accepted(await ask(other.accountId, asked)).items).toEqual([]);
  });
});

describe('filters', () => {
  let accountId: AccountId;
  let jobs: StorableJob[];
  beforeAll(async () => {
    ({ accountId } = await makeAccount(database.db));
    jobs = await makeJobs(accountId, 12, (number) => ({
      type: `test.type${number % 3}`,
      metadata: { parity: String(number % 2), third: String(number % 3), __proto__x: 'y' },
    }));
    for (const job of jobs.slice(0, 4)) await endRuns(database.sql, [runEnd(await claimRun(database.db, job))]);
    for (const job of jobs.slice(4, 6)) await claimRun(database.db, job);
    await passHorizon(database.db);
  });
  const newestFirst = (numbers: readonly number[]) => numbers.map((number) => jobs[number]!.id).toReversed();
  const at = (number: number) => jobs[number]!.createdAt;
  const later = (time: Date, ms: number) => new Date(time.getTime() + ms);

  test.each<[string, () => Asked, number[]]>([
    ['a type', () => ({ types: ['test.type1'] }), [1, 4, 7, 10]],
    ['several types', () => ({ types: ['test.type1', 'test.type2', 'none'] }), [1, 2, 4, 5, 7, 8, 10, 11]],
    ['a type that no job has', () => ({ types: ['none'] }), []],
    ['a status', () => ({ statuses: ['succeeded'] }), [0, 1, 2, 3]],
    ['a status of jobs that have not ended', () => ({ statuses: ['in_progress'] }), [4, 5]],
    ['both of those', () => ({ statuses: ['queued', 'in_progress'] }), [4, 5, 6, 7, 8, 9, 10, 11]],
    ['several statuses', () => ({ statuses: ['succeeded', 'in_progress'] }), [0, 1, 2, 3, 4, 5]],
    ['metadata', () => ({ metadata: { parity: '1' } }), [1, 3, 5, 7, 9, 11]],
    ['all of several metadata', () => ({ metadata: { parity: '1', third: '0' } }), [3, 9]],
    ['metadata of another value', () => ({ metadata: { parity: '2' } }), []],
    ['created after, which is not included', () => ({ createdAfter: at(9) }), [10, 11]],
    ['created after a millisecond before', () => ({ createdAfter: later(at(9), -1) }), [9, 10, 11]],
    ['created before, which is not included', () => ({ createdBefore: at(2) }), [0, 1]],
    ['created before a millisecond later', () => ({ createdBefore: later(at(2), 1) }), [0, 1, 2]],
    ['created between', () => ({ createdAfter: at(3), createdBefore: at(6) }), [4, 5]],
    ['created in no time', () => ({ createdAfter: at(6), createdBefore: at(3) }), []],
    [
      'everything',
      () => ({ types: ['test.type1'], statuses: ['in_progress'], metadata: { parity: '0' }, createdAfter: at(3) }),
      [4],
    ],
  ])('by %s hold in a list and in a walk, however small the pages', async (_by, asked, numbers) => {
    const wanted = newestFirst(numbers);
    for (const limit of [1, 3, 200]) expect(await listed(accountId, { ...asked(), limit })).toEqual(wanted);
    const walked = accepted(await ask(accountId, { ...asked(), updatedAfter: new Date(0) }));
    expect(walked.items.map(({ id }) => id).toSorted()).toEqual(wanted.toSorted());
  });
});

describe('a request looks at so many jobs and no more', () => {
  let accountId: AccountId;
  let jobs: StorableJob[];
  const COUNT = 2 * LOOK + 500;
  const RARE = 40; // one of the oldest
  const OPEN = 45;
  beforeAll(async () => {
    ({ accountId } = await makeAccount(database.db));
    jobs = await makeJobs(accountId, COUNT, (number) => ({
      metadata: { common: 'yes', number: String(number) },
      ...(number === RARE && { type: 'test.rare' }),
    }));
    await cancelAll(accountId, [jobs[OPEN]!.id]);
    await passHorizon(database.db);
  });

  test('and tells where to go on, though it found nothing', async () => {
    const pages = await pagesOf(accountId, { types: ['test.rare'] });
    expect(pages.map(({ items, hasMore }) => [items.length, hasMore])).toEqual([
      [0, true],
      [0, true],
      [1, false],
    ]);
    expect(idsOf(pages)).toEqual([jobs[RARE]!.id]);
  });

  test('nor does a walk', async () => {
    const pages: JobPage[] = [];
    let cursor: string | undefined;
    do {
      const start = cursor === undefined ? { updatedAfter: new Date(0) } : { cursor };
      pages.push(accepted(await ask(accountId, { types: ['test.rare'], ...start })));
      cursor = pages.at(-1)!.nextCursor!;
    } while (pages.at(-1)!.hasMore);
    expect(pages.map(({ items }) => items.length)).toEqual([1, 0, 0]);
  });

  test('but finds jobs that have not ended at once, however many have ended since', async () => {
    const pages = await pagesOf(accountId, { statuses: ['in_progress', 'queued'] });
    expect(pages).toMatchObject([{ items: [{ id: jobs[OPEN]!.id }], hasMore: false }]);
  });

  test('but finds rare metadata at once, however old, and ends the list', async () => {
    for (const number of [RARE, 0, COUNT - 1]) {
      const pages = await pagesOf(accountId, { metadata: { number: String(number) } });
      expect(pages).toMatchObject([{ items: [{ id: jobs[number]!.id }], hasMore: false }]);
    }
    expect(await pagesOf(accountId, { metadata: { number: 'none' } })).toMatchObject([{ items: [], hasMore: false }]);
  });

  test('and what the index finds is in order, once, and goes on in pages', async () => {
    const { accountId: mixed } = await makeAccount(database.db);
    const made = await makeJobs(mixed, LOOK + 100, (number) => ({
      metadata: number % 300 === 0 ? { batch: 'seven', number: String(number) } : { number: String(number) },
    }));
    const wanted = made.filter((_, number) => number % 300 === 0).map(({ id }) => id);
    for (const limit of [1, 2, 6, 7, 8, 200])
      expect(await listed(mixed, { metadata: { batch: 'seven' }, limit })).toEqual(wanted.toReversed());
    // Another account's count for nothing.
    expect(await listed(accountId, { metadata: { batch: 'seven' } })).toEqual([]);
  });

  test('and leaves the index alone where too many jobs have that metadata, of whatever account', async () => {
    const { accountId: other } = await makeAccount(database.db);
    await makeJobs(other, 1000, () => ({ metadata: { common: 'yes' } }));
    const pages = await pagesOf(accountId, { types: ['test.rare'], metadata: { common: 'yes' } });
    expect(pages.map(({ items }) => items.length)).toEqual([0, 0, 1]);
  });
});

describe('a cursor', () => {
  let accountId: AccountId;
  const message = expect.stringMatching(/^must be the next_cursor/);
  const refused = { ok: false, code: 'invalid_query', faults: [{ path: '/cursor', message }] };
  const cursorOf = async (asked: Asked) => accepted(await ask(accountId, { ...asked, limit: 1 })).nextCursor!;
  beforeAll(async () => {
    ({ accountId } = await makeAccount(database.db));
    await makeJobs(accountId, 3, () => ({ type: 'test.a', metadata: { a: '1', b: '2' } }));
    await passHorizon(database.db);
  });

  const updatedAfter = new Date(1000);
  test.each<[string, Asked, Asked]>([
    ['without the filter', { types: ['test.a'] }, {}],
    ['with a filter more', {}, { types: ['test.a'] }],
    ['with another status', { statuses: ['queued'] }, { statuses: ['queued', 'failed'] }],
    ['with other metadata', { metadata: { a: '1' } }, { metadata: { b: '2' } }],
    ['with another time', { createdAfter: new Date(1) }, { createdAfter: new Date(2) }],
    ['with the bound on the other side', { createdAfter: new Date(1) }, { createdBefore: new Date(1) }],
    ['of a list in a walk', {}, { updatedAfter }],
    ['of a walk from another time', { updatedAfter }, { updatedAfter: new Date(1001) }],
    ['of a walk with other filters', { updatedAfter, types: ['test.a'] }, { updatedAfter }],
  ])('is refused %s', async (_why, asked, then) => {
    expect(await ask(accountId, { ...then, cursor: await cursorOf(asked) })).toMatchObject(refused);
  });

  test.each<[string, Asked, Asked]>([
    [
      'the same filters in another order',
      { statuses: ['queued', 'failed'], metadata: { a: '1', b: '2' } },
      { statuses: ['failed', 'queued', 'failed'], metadata: { b: '2', a: '1' } },
    ],
    ['another limit', { limit: 1 }, { limit: 200 }],
    ['the time that its walk began with', { updatedAfter }, { updatedAfter }],
    ['no time, though its walk began with one', { updatedAfter }, {}],
  ])('is good with %s', async (_what, asked, then) => {
    expect(accepted(await ask(accountId, { ...then, cursor: await cursorOf(asked) })).items.length).toBeGreaterThan(0);
  });

  test.each<Asked>([{}, { updatedAfter }])('of another account is refused', async (asked) => {
    const { accountId: other } = await makeAccount(database.db);
    await makeJobs(other, 1);
    expect(await ask(other, { ...asked, cursor: await cursorOf(asked) })).toMatchObject(refused);
  });

  // Well sealed, for whoever reads the source can do that.
  test.each([[[]], [['']], [['evt_01h455vb4pex5vsknk084sn02q']], [["job_'"]]])(
    'to no place of a list is refused: %j',
    async (place) => {
      const cursor = sealCursor(scopeOf('list', accountId, ANY), place);
      expect(await ask(accountId, { cursor })).toMatchObject(refused);
    },
  );

  const EVENT = 'evt_01h455vb4pex5vsknk084sn02q';
  test.each([
    [[]],
    [['1']],
    [['1', EVENT, '0']],
    [['-1', EVENT, '0', '0']],
    [['1', 'job_01h455vb4pex5vsknk084sn02q', '0', '0']],
    [['18446744073709551616', EVENT, '0', '0']],
    [['1', EVENT, '9'.repeat(16), '0']],
    [['1', EVENT, '0', '1e3']],
    [['0x10', EVENT, '0', '0']],
  ])('to no place of a walk is refused: %j', async (place) => {
    const cursor = sealCursor(scopeOf('walk', accountId, ANY), place);
    expect(await ask(accountId, { cursor })).toMatchObject(refused);
  });

  test('from before the database was restored is refused, with what to do', async () => {
    const cursor = sealCursor(scopeOf('walk', accountId, ANY), ['18446744073709551615', EVENT, '0', '0']);
    const answer = await ask(accountId, { cursor });
    expect(answer).toMatchObject({
      ok: false,
      code: 'invalid_query',
      detail: expect.stringContaining('updated_after'),
    });
  });

  test('to a place beyond everything answers an end', async () => {
    const cursor = sealCursor(scopeOf('list', accountId, ANY), [newId('job', 0)]);
    expect(accepted(await ask(accountId, { cursor }))).toEqual({ items: [], nextCursor: null, hasMore: false });
    const high = sealCursor(scopeOf('list', accountId, ANY), [idBound('job', Infinity)]);
    expect(accepted(await ask(accountId, { cursor: high })).items).toHaveLength(3);
  });
});

test('times that no job can have are no trouble', async () => {
  const { accountId } = await makeAccount(database.db);
  await makeJobs(accountId, 1);
  const extremes = [new Date(0), new Date('9999-12-31T23:59:59Z'), new Date(8.64e15)];
  for (const createdAfter of extremes) accepted(await ask(accountId, { createdAfter }));
  for (const createdBefore of extremes) accepted(await ask(accountId, { createdBefore }));
  for (const updatedAfter of extremes.slice(0, 2)) accepted(await ask(accountId, { updatedAfter }));
});
