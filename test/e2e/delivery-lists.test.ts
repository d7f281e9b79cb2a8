import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { useDatabase } from '../support/database.ts';
import { eventually } from '../support/eventually.ts';
import { makeAccount } from '../support/fixtures.ts';
import { type Ask, client, submit, untilDone } from './support/api.ts';
import { serviceEnv, useService } from './support/main-process.ts';
import { expectProblem } from './support/problem.ts';

const database = useDatabase();
const service = useService(() => serviceEnv(database.url, { RINGBACK_CALLBACK_SCHEDULE: '0s' }));

/** Answers with the status in the path. */
const receiver = createServer((request, response) => {
  request.resume().once('end', () => response.writeHead(Number(request.url!.slice(1))).end());
});

let ask: Ask;
let other: Ask;
/** Oldest first: jobs that succeed and are canceled by turns, to a receiver that takes everything and one that takes nothing. */
let deliveries: Array<Record<string, string>>;
let endpoints: Array<{ id: string }>;

/** The one delivery of a job, once it has that status. */
const untilOver = (jobId: string, status: string): Promise<Record<string, string>> =>
  eventually(async () => {
    const { items } = (await ask('GET', `/v1/jobs/${jobId}/deliveries`)).json;
    expect(items).toMatchObject([{ status }]);
    return items[0];
  });

beforeAll(async () => {
  ask = client(service.url, (await makeAccount(database.db)).key);
  other = client(service.url, (await makeAccount(database.db)).key);
  await once(receiver.listen(0, '127.0.0.1'), 'listening');
  const origin = `http://127.0.0.1:${(receiver.address() as AddressInfo).port}`;
  endpoints = [];
  for (const path of ['/200', '/500'])
    endpoints.push((await ask('POST', '/v1/endpoints', { url: `${origin}${path}` })).json);
  const made: typeof deliveries = [];
  for (let number = 0; number < 8; number++) {
    const endpoint_id = endpoints[number < 4 ? 0 : 1]!.id;
    const run_at = number % 2 === 0 ? {} : { run_at: new Date(Date.now() + 3_600_000).toISOString() };
    const { id } = await submit(ask, { type: 'ringback.echo', input: 1, ...run_at, callback: { endpoint_id } });
    if (number % 2 === 1) await ask('POST', `/v1/jobs/${id}/cancel`);
    await untilDone(ask, id);
    made.push(await untilOver(id, number < 4 ? 'delivered' : 'exhausted'));
  }
  deliveries = made;
});

afterAll(() => {
  receiver.close();
  receiver.closeAllConnections();
});

const get = (query: string | Record<string, string> = '') =>
  ask('GET', `/v1/deliveries?${new URLSearchParams(query).toString()}`);
const idsOf = (items: ReadonlyArray<Record<string, string>>) => items.map(({ id }) => id);
const newestFirst = (fits: (delivery: Record<string, string>, number: number) => boolean) =>
  idsOf(deliveries.filter(fits)).toReversed();

describe('GET /v1/deliveries', () => {
  it('lists the deliveries as they are found one by one', async () => {
    const { status, json } = await get();
    expect(status).toBe(200);
    expect(json).toEqual({ items: deliveries.toReversed(), next_cursor: null, has_more: false });
    const [first] = json.items;
    expect((await ask('GET', `/v1/deliveries/${first.id}`)).json).toEqual(first);
  });

  it.each<[string, () => string, (delivery: Record<string, string>, number: number) => boolean]>([
    ['one status', () => 'status=exhausted', ({ status }) => status === 'exhausted'],
    ['several statuses', () => 'status=exhausted&status=delivered', () => true],
    ['several statuses with commas', () => 'status=held,delivered', ({ status }) => status === 'delivered'],
    ['one type', () => 'event_type=job.canceled', (_, number) => number % 2 === 1],
    ['a family of types', () => 'event_type=job.*', () => true],
    ['a type that was not sent', () => 'event_type=endpoint.*,job.failed', () => false],
    ['endpoint', () => `endpoint_id=${endpoints[1]!.id}`, (_, number) => number >= 4],
    ['job', () => `job_id=${deliveries[2]!['job_id']}`, (_, number) => number === 2],
    [
      'all together',
      () => `status=exhausted&event_type=job.succeeded&endpoint_id=${endpoints[1]!.id}`,
      (_, number) => number === 4 || number === 6,
    ],
  ])('filters by %s', async (_by, query, fits) => {
    expect(idsOf((await get(query())).json.items)).toEqual(newestFirst(fits));
  });

  it('filters by the time they were made', async () => {
    const time = deliveries[4]!['created_at']!;
    expect(idsOf((await get({ created_after: time })).json.items)).toEqual(newestFirst((_, number) => number > 4));
    expect(idsOf((await get({ created_before: time })).json.items)).toEqual(newestFirst((_, number) => number < 4));
  });

  it.each(['1', '3', '8', '200'])('gives every delivery once in pages of %s', async (limit) => {
    const ids: unknown[] = [];
    for (let cursor = {}; ;) {
      const { json } = await get({ limit, ...cursor });
      ids.push(...idsOf(json.items));
      expect(json.has_more).toBe(json.next_cursor !== null);
      if (json.next_cursor === null) break;
      cursor = { cursor: json.next_cursor };
    }
    expect(ids).toEqual(newestFirst(() => true));
  });

  it.each<[string, string, string[]]>([
    ['an unknown parameter', 'foo=1', ['']],
    ['a status that there is not', 'status=done', ['/status/0']],
    ['one of several that there is not', 'status=held,done', ['/status/1']],
    ['a type that no callback has', 'event_type=job.retrying', ['/event_type/0']],
    ['all types', 'event_type=*', ['/event_type/0']],
    ['an endpoint that is none', 'endpoint_id=job_01h455vb4pex5vsknk084sn02q', ['/endpoint_id']],
    ['two endpoints', 'endpoint_id=ep_01h455vb4pex5vsknk084sn02q&endpoint_id=x', ['/endpoint_id']],
    ['a job that is none', 'job_id=x', ['/job_id']],
    ['a date', 'created_after=2026-01-01', ['/created_after']],
    ['a limit of none', 'limit=0', ['/limit']],
    ['a limit too high', 'limit=201', ['/limit']],
    ['nonsense for a cursor', 'cursor=nonsense', ['/cursor']],
    ['an endless cursor', `cursor=${'x'.repeat(1001)}`, ['/cursor']],
    ['several at once', 'status=x&limit=0', ['/status/0', '/limit']],
  ])('refuses %s, and says where', async (_what, query, paths) => {
    const { errors } = expectProblem(await ask('GET', `/v1/deliveries?${query}`), 'invalid_query');
    expect(errors.map(({ path }: { path: string }) => path)).toEqual(paths);
  });

  it('refuses a cursor that was changed, with other filters, of another list or of another account', async () => {
    const { next_cursor: cursor } = (await get({ status: 'exhausted,delivered', limit: '1' })).json;
    expect((await get({ status: 'delivered,exhausted', cursor })).json.items, 'the same filters').toHaveLength(7);
    const changed = `${cursor.slice(0, -3)}${cursor.at(-3) === 'A' ? 'B' : 'A'}${cursor.slice(-2)}`;
    const { next_cursor: ofJobs } = (await ask('GET', '/v1/jobs?limit=1')).json;
    for (const answer of [
      await get({ status: 'exhausted,delivered', cursor: changed }),
      await get({ cursor }),
      await get({ status: 'exhausted', cursor }),
      await get({ status: 'exhausted,delivered', event_type: 'job.*', cursor }),
      await get({ cursor: ofJobs }),
      await ask('GET', `/v1/jobs?cursor=${cursor}`),
      await other('GET', `/v1/deliveries?status=exhausted,delivered&cursor=${cursor}`),
    ]) {
      expect(expectProblem(answer, 'invalid_query').errors).toMatchObject([{ path: '/cursor' }]);
    }
  });

  it('shows an account its own', async () => {
    for (const query of ['', `?endpoint_id=${endpoints[0]!.id}`, `?job_id=${deliveries[0]!['job_id']}`]) {
      const { json } = await other('GET', `/v1/deliveries${query}`);
      expect(json).toEqual({ items: [], next_cursor: null, has_more: false });
    }
  });
});

describe('the health of an endpoint', () => {
  it('tells how its latest deliveries went, one by one and in the list', async () => {
    const expected = [
      { success_rate: 1, recent: { attempted: 4, delivered: 4 } },
      { success_rate: 0, recent: { attempted: 4, delivered: 0 } },
    ];
    const { items } = (await ask('GET', '/v1/endpoints')).json;
    expect(items.map(({ health }: { health: object }) => health)).toMatchObject(expected);
    for (const [index, { id }] of endpoints.entries())
      expect((await ask('GET', `/v1/endpoints/${id}`)).json.health).toMatchObject(expected[index]!);
  });

  it('has no rate before the first attempt', async () => {
    const made = await other('POST', '/v1/endpoints', { url: 'http://127.0.0.1:9/' });
    expect(made.json.health).toMatchObject({ success_rate: null, recent: { attempted: 0, delivered: 0 } });
  });
});
