import { afterAll, describe, expect, test } from 'vitest';
import postgres from 'postgres';
import { createCluster, createStandby, dump, POSTGRES_BIN, explainSkipped, restore } from '../support/cluster.ts';
import { eventually } from '../support/eventually.ts';
import { type RunningService, startService } from '../support/service.ts';

const env = { RINGBACK_BOOTSTRAP_KEY: `rbk_${'r'.repeat(32)}` };
const JOBS = 27;
const SINCE = 'updated_after=2020-01-01T00:00:00Z';

if (POSTGRES_BIN === undefined) afterAll(explainSkipped);

const start = (databaseUrl: string) => startService({ databaseUrl, env });

interface Walked {
  readonly ids: readonly string[];
  readonly cursor: string;
}

/** Pages of a list from there on, as many as there are, or one. */
async function walk(
  { request }: RunningService,
  path: string,
  { cursor, limit = 50, pages = Infinity }: { cursor?: string; limit?: number; pages?: number } = {},
): Promise<Walked> {
  const ids: string[] = [];
  let [next, hasMore] = [cursor, true];
  for (let page = 0; hasMore && page < pages; page++) {
    const query = `${path}${path.includes('?') ? '&' : '?'}limit=${limit}${next === undefined ? '' : `&cursor=${next}`}`;
    const { status, json, text } = await request('GET', query);
    expect(status, text).toBe(200);
    ids.push(...json.items.map(({ id }: { id: string }) => id));
    [next, hasMore] = [json.next_cursor, json.has_more];
  }
  return { ids, cursor: next! };
}

const feed = (service: RunningService, options?: Parameters<typeof walk>[2]) => walk(service, '/v1/events', options);
const changes = (service: RunningService, options?: Parameters<typeof walk>[2]) =>
  walk(service, `/v1/jobs?${SINCE}`, options);

/** Runs so many jobs; resolves when the feed and the changes show all of `total`, at rest. */
async function runJobs(service: RunningService, count: number, total: number): Promise<void> {
  const items = Array.from({ length: count }, (_, index) => ({ type: 'ringback.echo', input: index }));
  const { status, text } = await service.request('POST', '/v1/jobs/batch', { items });
  expect(status, text).toBe(207);
  await eventually(async () => {
    const { ids } = await walk(service, `/v1/jobs?${SINCE}&status=succeeded`);
    expect(ids).toHaveLength(total);
  }, 20_000);
  const { ids } = await feed(service);
  expect(ids).toHaveLength(3 * total);
}

/** So that what is stored lies above all that a fresh cluster will have given out. */
async function spendTransactions(url: string, count: number): Promise<void> {
  const sql = postgres(url, { max: 1 });
  await sql.unsafe(`DO $$ BEGIN FOR n IN 1..${count} LOOP PERFORM pg_current_xact_id(); COMMIT; END LOOP; END $$`);
  await sql.end();
}

const isUnique = (ids: readonly string[]) => expect(new Set(ids).size).toBe(ids.length);

describe.skipIf(POSTGRES_BIN === undefined)('cursors handed out before', { timeout: 120_000 }, () => {
  test('a dump of a running service was restored into a fresh cluster go on without a gap or a repeat', async () => {
    const old = await createCluster();
    await spendTransactions(old.url, 20_000);
    const before = await start(old.url);
    await runJobs(before, JOBS, JOBS);
    const all = await feed(before);
    const head = await feed(before, { limit: 40, pages: 1 });
    const jobs = await changes(before);
    const firstJobs = await changes(before, { limit: 10, pages: 1 });
    const file = await dump(old);
    await runJobs(before, 3, JOBS + 3);
    const lost = await feed(before);

    const fresh = await createCluster();
    await restore(file, fresh);
    const after = await start(fresh.url);
    expect((await feed(after)).ids).toEqual(all.ids);
    expect((await changes(after)).ids).toEqual(jobs.ids);
    expect([...head.ids, ...(await feed(after, head)).ids]).toEqual(all.ids);
    expect([...firstJobs.ids, ...(await changes(after, firstJobs)).ids]).toEqual(jobs.ids);
    expect((await feed(after, all)).ids).toEqual([]);

    await runJobs(after, 1, JOBS + 1);
    const grown = await feed(after);
    isUnique(grown.ids);
    expect(grown.ids.slice(0, all.ids.length)).toEqual(all.ids);
    const news = grown.ids.slice(all.ids.length);
    expect(news).toHaveLength(3);
    // One that stands behind events that are gone misses nothing of what came after the restore.
    for (const from of [all, lost]) expect((await feed(after, { cursor: from.cursor })).ids).toEqual(news);
    expect((await changes(after, { cursor: jobs.cursor })).ids).toHaveLength(1);

    // The old database goes on: what the new one handed out is a place in another history.
    const refused = await before.request('GET', `/v1/events?cursor=${grown.cursor}`);
    expect(refused.status).toBe(400);
    expect(refused.text).toContain('start anew with created_after');
    const walked = await changes(after);
    expect((await before.request('GET', `/v1/jobs?${SINCE}&cursor=${walked.cursor}`)).text).toContain('start anew');
    const stream = await before.request('GET', '/v1/events', undefined, {
      accept: 'text/event-stream',
      'last-event-id': grown.cursor,
    });
    expect([stream.status, stream.json.code]).toEqual([400, 'invalid_last_event_id']);
    await Promise.all([before.stop(), after.stop()]);
  });

  test('a dump was restored twice are refused by the other copy', async () => {
    const old = await createCluster();
    const before = await start(old.url);
    await runJobs(before, 2, 2);
    await before.stop();
    const file = await dump(old);
    const copies = await Promise.all([createCluster(), createCluster()]);
    const [one, other] = await Promise.all(
      copies.map(async (copy) => {
        await restore(file, copy);
        return start(copy.url);
      }),
    );
    const { cursor } = await feed(one!);
    expect((await other!.request('GET', `/v1/events?cursor=${cursor}`)).status).toBe(400);
    expect((await feed(one!, { cursor })).ids).toEqual([]);
    await Promise.all([one!.stop(), other!.stop()]);
  });

  test('a standby that lacks the last transactions was promoted go on without a gap or a repeat', async () => {
    const primary = await createCluster();
    const before = await start(primary.url);
    await runJobs(before, JOBS, JOBS);
    const all = await feed(before);
    const standby = await createStandby(primary);
    await standby.stop('fast');
    await runJobs(before, 5, JOBS + 5);
    const lost = await feed(before);
    await before.stop();
    await primary.stop('immediate');

    await standby.start();
    await standby.promote();
    // Already what the first transaction writes comes after all that was lost, though nobody has looked yet.
    const sql = postgres(standby.url, { max: 1 });
    const [row] = await sql<[{ isAbove: boolean }]>`
      SELECT ringback.feed_position('0'::xid8) > max(xid) AS "isAbove" FROM ringback.events`;
    await sql.end();
    expect(row.isAbove).toBe(true);

    const after = await start(standby.url);
    expect((await feed(after)).ids).toEqual(all.ids);
    await runJobs(after, 2, JOBS + 2);
    const grown = await feed(after);
    const news = grown.ids.slice(all.ids.length);
    expect(news).toHaveLength(6);
    for (const { cursor } of [all, lost]) expect((await feed(after, { cursor })).ids).toEqual(news);
    await after.stop();
  });

  test('the server was restarted under a running service go on without a gap or a repeat', async () => {
    const cluster = await createCluster();
    const service = await start(cluster.url);
    await runJobs(service, 2, 2);
    const { cursor, ids } = await feed(service);
    await cluster.stop('fast');
    await cluster.start();
    await eventually(() => {
      expect(service.logs.some(({ msg }) => String(msg).startsWith('the database is on another server'))).toBe(true);
      expect(service.logs.filter(({ number, msg }) => number === 2 && /another server/.test(String(msg)))).toHaveLength(
        1,
      );
    }, 30_000);
    await runJobs(service, 1, 3);
    const news = await feed(service, { cursor });
    expect(news.ids).toHaveLength(3);
    expect((await feed(service)).ids).toEqual([...ids, ...news.ids]);
    await service.stop();
  });
});
