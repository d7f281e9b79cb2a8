import { beforeAll, describe, expect, it } from 'vitest';
import { useDatabase } from '../support/database.ts';
import { eventually } from '../support/eventually.ts';
import { makeAccount } from '../support/fixtures.ts';
import { passHorizon } from '../support/horizon.ts';
import { type Ask, client, submit, untilDone } from './support/api.ts';
import { serviceEnv, useService } from './support/main-process.ts';
import { expectProblem } from './support/problem.ts';

const database = useDatabase();
const service = useService(() => serviceEnv(database.url));

async function newClient(): Promise<{ ask: Ask; accountId: string }> {
  const { accountId, key } = await makeAccount(database.db);
  return { ask: client(service.url, key), accountId };
}

let ask: Ask;
/** Three of each: succeeded, canceled, and yet to be run; oldest first. */
const jobs: Array<{ id: string; type: string; status: string; metadata: Record<string, string>; created_at: string }> =
  [];

beforeAll(async () => {
  ({ ask } = await newClient());
  for (let number = 0; number < 9; number++) {
    const later = number % 3 === 0 ? {} : { run_at: new Date(Date.now() + 3_600_000).toISOString() };
    const type = number % 3 === 0 ? 'ringback.echo' : 'ringback.sleep';
    const input = number % 3 === 0 ? number : { ms: 1 };
    const metadata = { order: `n° ${number}`, 'a.b&c=d': 'ü', half: String(number % 2) };
    const job = await submit(ask, { type, input, metadata, ...later });
    if (number % 3 === 0) await untilDone(ask, job.id);
    if (number % 3 === 1) await ask('POST', `/v1/jobs/${job.id}/cancel`);
    jobs.push((await ask('GET', `/v1/jobs/${job.id}`)).json);
  }
  await passHorizon(database.db);
});

const get = (query: string | Record<string, string> = '') =>
  ask('GET', `/v1/jobs?${new URLSearchParams(query).toString()}`);
const idsOf = (items: ReadonlyArray<{ id: string }>) => items.map(({ id }) => id);
const newestFirst = (fits: (job: (typeof jobs)[number], number: number) => boolean) =>
  idsOf(jobs.filter(fits)).toReversed();

async function allOf(query: Record<string, string>, limit: string): Promise<string[]> {
  const ids: string[] = [];
  for (let cursor = {}; ;) {
    const { json } = await get({ ...query, limit, ...cursor });
    ids.push(...idsOf(json.items));
    expect(json.has_more).toBe(json.next_cursor !== null);
    if (json.next_cursor === null) return ids;
    cursor = { cursor: json.next_cursor };
  }
}

describe('GET /v1/jobs', () => {
  it('lists the jobs as they are found one by one', async () => {
    const { status, json } = await get();
    expect(status).toBe(200);
    expect(json).toEqual({ items: jobs.toReversed(), next_cursor: null, has_more: false });
  });

  it.each<[string, string, (job: (typeof jobs)[number], number: number) => boolean]>([
    ['one type', 'type=ringback.echo', ({ type }) => type === 'ringback.echo'],
    ['several types', 'type=ringback.echo&type=ringback.sleep', () => true],
    ['several types with commas', 'type=ringback.echo,ringback.fail', ({ type }) => type === 'ringback.echo'],
    ['one status', 'status=queued', ({ status }) => status === 'queued'],
    ['several statuses', 'status=queued&status=canceled', ({ status }) => status !== 'succeeded'],
    ['several statuses with commas', 'status=queued,canceled', ({ status }) => status !== 'succeeded'],
    ['metadata', `metadata.order=${encodeURIComponent('n° 4')}`, (_, number) => number === 4],
    ['metadata with a name that must be encoded', `metadata.${encodeURIComponent('a.b&c=d')}=%C3%BC`, () => true],
    ['several metadata', `metadata.half=1&metadata.order=${encodeURIComponent('n° 3')}`, (_, number) => number === 3],
    ['empty metadata', 'metadata.half=', () => false],
    ['all together', 'status=succeeded&type=ringback.echo&metadata.half=0', (_, number) => number % 6 === 0],
  ])('filters by %s', async (_by, query, fits) => {
    const { json } = await get(query);
    expect(idsOf(json.items)).toEqual(newestFirst(fits));
  });

  it('filters by the time of submission, whatever its offset', async () => {
    const { created_at } = jobs[4]!;
    const elsewhere = `${new Date(Date.parse(created_at) + 2 * 3_600_000).toISOString().slice(0, -1)}+02:00`;
    for (const time of [created_at, elsewhere]) {
      expect(idsOf((await get({ created_after: time })).json.items)).toEqual(newestFirst((_, number) => number > 4));
      expect(idsOf((await get({ created_before: time })).json.items)).toEqual(newestFirst((_, number) => number < 4));
    }
  });

  it.each(['1', '2', '4', '9', '200'])('gives every job once in pages of %s', async (limit) => {
    expect(await allOf({}, limit)).toEqual(newestFirst(() => true));
    expect(await allOf({ status: 'queued,succeeded' }, limit)).toEqual(
      newestFirst(({ status }) => status !== 'canceled'),
    );
  });

  it.each<[string, string, string[]]>([
    ['an unknown parameter', 'foo=1', ['/foo']],
    ['a filter without a name', 'metadata.=1', ['/metadata.']],
    ['metadata as one parameter', 'metadata=1', ['/metadata']],
    ['metadata that is given twice', 'metadata.a=1&metadata.a=2', ['/metadata.a']],
    ['metadata with NUL', 'metadata.a=%00', ['/metadata.a']],
    ['metadata with NUL in its name', 'metadata.%00=1', ['/metadata.\0']],
    ['too long metadata', `metadata.a=${'x'.repeat(501)}`, ['/metadata.a']],
    ['too many metadata', Array.from({ length: 11 }, (_, n) => `metadata.k${n}=1`).join('&'), ['']],
    ['a status that there is not', 'status=done', ['/status/0']],
    ['an empty status', 'status=', ['/status/0']],
    ['one of several that there is not', 'status=queued,done', ['/status/1']],
    ['a type with a space', 'type=a%20b', ['/type/0']],
    ['a limit of none', 'limit=0', ['/limit']],
    ['a limit too high', 'limit=201', ['/limit']],
    ['a limit that is no number', 'limit=ten', ['/limit']],
    ['a limit that is no whole number', 'limit=1.5', ['/limit']],
    ['two limits', 'limit=1&limit=2', ['/limit']],
    ['a date', 'created_after=2026-01-01', ['/created_after']],
    ['a time beyond the year 9999', 'updated_after=9999-12-31T23:59:59-23:59', ['/updated_after']],
    ['a time without its zone', 'created_before=2026-01-01T00:00:00', ['/created_before']],
    ['a time that there is not', 'updated_after=2026-02-30T00:00:00Z', ['/updated_after']],
    ['an offset whose + was not encoded', 'updated_after=2026-01-01T00:00:00+01:00', ['/updated_after']],
    ['a number', 'updated_after=1767225600', ['/updated_after']],
    ['nonsense for a cursor', 'cursor=nonsense', ['/cursor']],
    ['an id for a cursor', 'cursor=job_01h455vb4pex5vsknk084sn02q', ['/cursor']],
    ['an empty cursor', 'cursor=', ['/cursor']],
    ['an endless cursor', `cursor=${'x'.repeat(1001)}`, ['/cursor']],
    ['everything at once', 'foo=1&status=x&limit=0&metadata.=1', ['/status/0', '/limit', '/foo', '/metadata.']],
  ])('refuses %s, and says where', async (_what, query, paths) => {
    const { errors } = expectProblem(await ask('GET', `/v1/jobs?${query}`), 'invalid_query');
    expect(errors.map(({ path }: { path: string }) => path)).toEqual(paths);
  });

  it('takes extreme times for what they are', async () => {
    for (const name of ['created_after', 'created_before', 'updated_after']) {
      for (const time of ['0000-01-01T00:00:00Z', '1969-12-31T23:59:59.999Z', '9999-12-31T23:59:59Z']) {
        expect((await get({ [name]: time })).status, `${name} ${time}`).toBe(200);
      }
    }
    expect((await get({ created_after: '9999-12-31T23:59:59Z' })).json.items).toEqual([]);
    expect((await get({ created_before: '0000-01-01T00:00:00Z' })).json.items).toEqual([]);
  });

  it('refuses a cursor that was changed, with other filters, or of another account', async () => {
    const { next_cursor: cursor } = (await get({ status: 'queued', limit: '1' })).json;
    expect((await get({ status: 'queued', cursor })).json.items).toHaveLength(2);
    const changed = `${cursor.slice(0, -3)}${cursor.at(-3) === 'A' ? 'B' : 'A'}${cursor.slice(-2)}`;
    const { ask: other } = await newClient();
    for (const answer of [
      await get({ status: 'queued', cursor: changed }),
      await get({ cursor }),
      await get({ status: 'queued,failed', cursor }),
      await get({ status: 'queued', 'metadata.half': '1', cursor }),
      await get({ status: 'queued', updated_after: '2026-01-01T00:00:00Z', cursor }),
      await other('GET', `/v1/jobs?status=queued&cursor=${cursor}`),
    ]) {
      expect(expectProblem(answer, 'invalid_query').errors).toMatchObject([{ path: '/cursor' }]);
    }
  });

  it('walks by change: every job once, then nothing, then what changes', async () => {
    const { ask: own } = await newClient();
    const walk = async (query: Record<string, string>) => {
      await passHorizon(database.db);
      const { status, json } = await own('GET', `/v1/jobs?${new URLSearchParams({ limit: '2', ...query }).toString()}`);
      expect(status).toBe(200);
      return json;
    };
    const run_at = new Date(Date.now() + 3_600_000).toISOString();
    const ids: string[] = [];
    for (const _ of [1, 2, 3]) ids.push((await submit(own, { type: 'ringback.echo', input: 1, run_at })).id);
    const first = await walk({ updated_after: '2026-01-01T00:00:00Z' });
    expect([idsOf(first.items), first.has_more]).toEqual([ids.slice(0, 2), true]);
    const second = await walk({ cursor: first.next_cursor });
    expect([idsOf(second.items), second.has_more]).toEqual([ids.slice(2), false]);
    expect(await walk({ cursor: second.next_cursor })).toMatchObject({ items: [], has_more: false });
    await own('POST', `/v1/jobs/${ids[1]}/cancel`);
    const third = await walk({ cursor: second.next_cursor });
    expect(third).toMatchObject({ items: [{ id: ids[1], status: 'canceled' }], has_more: false });
    // A client may as well repeat what it began with.
    const time = '2026-01-01T00:00:00Z';
    expect((await walk({ updated_after: time, cursor: first.next_cursor })).items).toHaveLength(2);
    const refused = await own('GET', `/v1/jobs?updated_after=2026-01-02T00:00:00Z&cursor=${first.next_cursor}`);
    expectProblem(refused, 'invalid_query');
    // From now on, nothing has changed.
    expect(await walk({ updated_after: new Date().toISOString() })).toMatchObject({ items: [], has_more: false });
  });
});

describe('a job that is no longer kept', () => {
  it('answers 410 and how it ended on every route, and is in no list', async () => {
    const { ask: own, accountId } = await newClient();
    const { id } = await submit(own, { type: 'ringback.echo', input: 1 });
    const job = await untilDone(own, id);
    await database.sql`UPDATE ringback.accounts SET retention_days = 0 WHERE account_id = ${accountId}`;
    await eventually(async () => expect((await own('GET', `/v1/jobs/${id}`)).status).toBe(410), 20_000);
    for (const [method, rest] of [
      ['GET', ''],
      ['GET', '/result'],
      ['GET', '/runs'],
      ['GET', '/deliveries'],
      ['GET', '/logs'],
      ['GET', '/events'],
      ['POST', '/cancel'],
    ] as const) {
      const document = expectProblem(await own(method, `/v1/jobs/${id}${rest}`), 'job_expired');
      const { type, status, created_at, finished_at } = job;
      expect(document.job, rest).toEqual({ id, type, status, created_at, finished_at, expired_at: expect.any(String) });
      expectProblem(await ask(method, `/v1/jobs/${id}${rest}`), 'job_not_found');
    }
    expect((await own('GET', '/v1/jobs')).json.items).toEqual([]);
    expect((await own('GET', '/v1/jobs?updated_after=2026-01-01T00:00:00Z')).json.items).toEqual([]);
  });

  it('still answers its submission, sent again under the same key', async () => {
    const { ask: own, accountId } = await newClient();
    const again = () => own('POST', '/v1/jobs', { type: 'ringback.echo', input: 1 }, { 'idempotency-key': 'once' });
    const first = await again();
    await untilDone(own, first.json.id);
    await database.sql`UPDATE ringback.accounts SET retention_days = 0 WHERE account_id = ${accountId}`;
    await eventually(async () => expect((await own('GET', `/v1/jobs/${first.json.id}`)).status).toBe(410), 20_000);
    const second = await again();
    expect([second.status, second.text]).toEqual([202, first.text]);
  });
});
