import { Hono } from 'hono';
import { describe, expect, onTestFinished, test } from 'vitest';
import { newId } from '#domain/ids.ts';
import { endRuns } from '#store/end-runs.ts';
import type { Env } from '../../../src/http/env.ts';
import { feedRoutes } from '../../../src/http/routes/events.ts';
import { listen } from '../../../src/http/server.ts';
import { useDatabase } from '../../support/database.ts';
import { openEventStream, type SentEvent } from '../../support/event-source.ts';
import { eventually } from '../../support/eventually.ts';
import {
  claimRun,
  finalEvent,
  insertJob,
  makeAccount,
  makeEndpoint,
  runEnd,
  waitingEnd,
} from '../../support/fixtures.ts';
import { passHorizon } from '../../support/horizon.ts';
import { startFeedInstance } from '../jobs/feed-instances.ts';

const database = useDatabase();

/** The route on a port of its own, asked by an account. */
async function serve({ heartbeatMs = 60_000, account = makeAccount(database.db) } = {}) {
  const { accountId } = await account;
  const instance = await startFeedInstance(database, { heartbeatMs });
  const app = new Hono<Env>();
  app.use((c, next) => {
    c.set('apiKey', { id: newId('key', Date.now()), accountId, scopes: ['read'] });
    return next();
  });
  app.route('/', feedRoutes(instance));
  const server = await listen({ host: '127.0.0.1', port: 0 });
  server.serve(app.fetch);
  onTestFinished(() => server.close(0));
  const url = `${server.url}/v1/events`;
  const ask = async (query = '', headers: Record<string, string> = {}) => {
    const response = await fetch(`${url}${query}`, { headers });
    // oxlint-disable-next-line typescript/no-explicit-any -- what a test expects of it, the test says
    return { status: response.status, headers: response.headers, json: (await response.json()) as any };
  };
  const publish = () => instance.changes.publish([accountId]);
  const write = async () => {
    const job = await insertJob(database.db, accountId);
    publish();
    return job;
  };
  const open = (query = '', headers: Record<string, string> = {}) => openEventStream(`${url}${query}`, headers);
  return { accountId, instance, server, ask, open, write, publish };
}

const after = (id: string) => ({ 'last-event-id': id });
const jobsOf = (events: readonly SentEvent[]) => events.map(({ data }) => data.job_id as string);
/** What a client sends back, whether it came with an event or by itself. */
const lastIdOf = (text: string) => [...text.matchAll(/^id: (.*)$/gm)].at(-1)![1]!;

describe('as JSON', () => {
  test('an event is itself and what its callback says', async () => {
    const { accountId, ask } = await serve();
    const endpoint = await makeEndpoint(database.db, accountId);
    const job = await insertJob(database.db, accountId, {}, endpoint);
    const end = runEnd(await claimRun(database.db, job), finalEvent('job.succeeded', endpoint));
    // JSON of which PostgreSQL's operators make nothing: U+0000, and half of a pair.
    const body = String.raw`{"type":"job.succeeded","timestamp":"now","sequence":3,"data":{"job":{"output":"\u0000\ud800"}}}`;
    await endRuns(database.sql, [
      { ...end, event: { ...end.event, body: [body.split('3')[0]!, body.split('3').slice(1).join('3')] } },
    ]);
    const at = new Date();
    const ofEndpoint = newId('evt', at.getTime());
    await database.sql`
      INSERT INTO ringback.events (account_id, id, type, body, created_at)
      VALUES (${accountId}, ${ofEndpoint}, 'endpoint.disabled', ${Buffer.from('{"data":{"endpoint":{"id":"ep"}}}')}, ${at})`;
    await passHorizon(database.db);
    const { status, headers, json } = await ask();
    expect(status).toBe(200);
    expect(headers.get('vary')).toBe('Accept');
    expect(json).toEqual({
      items: [
        {
          ...ofJob(1, 'queued'),
          id: job.eventId,
          created_at: job.createdAt.toISOString(),
          timestamp: job.createdAt.toISOString(),
        },
        ofJob(2, 'started'),
        { ...ofJob(3, 'succeeded'), id: end.event.id, data: { job: { output: '\0\ud800' } } },
        {
          id: ofEndpoint,
          type: 'endpoint.disabled',
          created_at: at.toISOString(),
          timestamp: at.toISOString(),
          data: { endpoint: { id: 'ep' } },
        },
      ],
      next_cursor: expect.any(String),
      has_more: false,
    });

    function ofJob(sequence: number, type: string) {
      const [id, createdAt] = [expect.stringMatching(/^evt_/), expect.stringMatching(/Z$/)];
      return {
        id,
        type: `job.${type}`,
        job_id: job.id,
        sequence,
        created_at: createdAt,
        timestamp: createdAt,
        data: null,
      };
    }
  });

  test('goes on from any cursor, filtered or not', async () => {
    const { ask, write } = await serve();
    const jobs = [await write(), await write(), await write()];
    await endRuns(database.sql, [waitingEnd(jobs[1]!, 'canceled')]);
    await passHorizon(database.db);
    const walk = async (query: string) => {
      const seen: string[] = [];
      for (let cursor = '', more = true; more;) {
        const { json } = await ask(`?limit=1&${query}${cursor && `&cursor=${cursor}`}`);
        seen.push(...json.items.map((item: { type: string; job_id: string }) => `${item.job_id} ${item.type}`));
        [cursor, more] = [json.next_cursor, json.has_more];
      }
      return seen;
    };
    const queued = jobs.map(({ id }) => `${id} job.queued`);
    const canceled = `${jobs[1]!.id} job.canceled`;
    expect(await walk('')).toEqual([...queued, canceled]);
    expect(await walk('type=job.canceled,endpoint.*')).toEqual([canceled]);
    expect(await walk('type=job.queued&type=delivery.exhausted')).toEqual(queued);
    expect(await walk(`job_id=${jobs[1]!.id}&type=job.*`)).toEqual([queued[1], canceled]);
    expect(await walk(`created_after=${jobs[2]!.createdAt.toISOString()}`)).not.toContain(queued[2]);
  });

  test.each([
    ['?cursor=garbage', '/cursor'],
    ['?cursor=', '/cursor'],
    [`?cursor=${'x'.repeat(1001)}`, '/cursor'],
    ['?type=job', '/type/0'],
    ['?type=job.started,job.done', '/type/1'],
    ['?type=*', '/type/0'],
    ['?job_id=evt_01h455vb4pex5vsknk084sn02q', '/job_id'],
    ['?created_after=yesterday', '/created_after'],
    ['?limit=0', '/limit'],
    ['?limit=201', '/limit'],
    ['?after=1', ''],
  ])('%s is refused', async (query, path) => {
    const { ask } = await serve();
    const { status, headers, json } = await ask(query);
    expect({ status, json }).toMatchObject({ status: 400, json: { code: 'invalid_query', errors: [{ path }] } });
    expect(headers.get('content-type')).toBe('application/problem+json');
  });

  test('a cursor of another account is refused, and so is one as Last-Event-ID', async () => {
    const [one, other] = [await serve(), await serve()];
    const { json: page } = await one.ask();
    expect(await other.ask(`?cursor=${page.next_cursor}`)).toMatchObject({
      status: 400,
      json: { code: 'invalid_query' },
    });
    for (const accept of ['text/event-stream', 'application/json'])
      expect(await other.ask('', { accept, ...after(page.next_cursor) })).toMatchObject({
        status: 400,
        json: { code: 'invalid_last_event_id' },
      });
    expect(await one.ask('', after(page.next_cursor))).toMatchObject({ status: 200, json: { items: [] } });
  });
});

describe('as a stream', () => {
  test('it has what was, then what happens; each event is a line of JSON that is the same as in the list', async () => {
    const { ask, open, write } = await serve();
    const jobs = [await write(), await write()];
    await passHorizon(database.db);
    const stream = await open();
    expect(stream.headers).toMatchObject({
      'content-type': 'text/event-stream',
      'cache-control': 'no-store, no-transform',
      'x-accel-buffering': 'no',
      vary: 'Accept',
    });
    await stream.until(2);
    jobs.push(await write());
    const events = await stream.until(3);
    expect(stream.text()).toMatch(/^retry: 1000\n\n: still here\nid: \S+\n\nid: \S+\nevent: job.queued\ndata: \{/);
    expect(events.map(({ event }) => event)).toEqual(['job.queued', 'job.queued', 'job.queued']);
    expect(jobsOf(events)).toEqual(jobs.map(({ id }) => id));
    const { json } = await ask();
    expect(events.map(({ data }) => data)).toEqual(json.items);
  });

  test('cut at any time, it goes on without a gap and without a repeat: here, at another process, or as a list', async () => {
    const account = makeAccount(database.db);
    const [here, there] = [await serve({ account }), await serve({ account })];
    const ids: string[] = [];
    const told: string[] = [];
    let lastId = '';
    for (let round = 0; round < 12; round++) {
      const stream = await (round % 2 === 0 ? here : there).open('?type=job.*', after(lastId));
      // Cut before anything has come, in the midst of it, or after all of it.
      const wanted = round % 3;
      for (let count = 0; count < 2; count++) ids.push((await here.write()).id);
      there.publish();
      await eventually(() => expect(stream.text()).toContain('id: '));
      await stream.until(wanted);
      stream.cut();
      await stream.ended;
      // What was not whole when the connection broke is no event.
      const whole = stream.text().slice(0, stream.text().lastIndexOf('\n\n') + 2);
      told.push(...jobsOf(stream.events()));
      lastId = lastIdOf(whole);
    }
    await passHorizon(database.db);
    const { json } = await there.ask(`?type=job.*&limit=200&cursor=${lastId}`);
    told.push(...json.items.map((item: { job_id: string }) => item.job_id));
    expect(told).toEqual(ids);
  });

  test('begins at a time, and reconnects under the same URL', async () => {
    const { open, write } = await serve();
    await write();
    await passHorizon(database.db);
    const query = `?created_after=${new Date().toISOString()}`;
    const first = await open(query);
    await eventually(() => expect(first.text()).toContain('id: '));
    first.cut();
    const second = await open(query, after(lastIdOf(first.text())));
    const { id } = await write();
    expect(jobsOf(await second.until(1))).toEqual([id]);
  });

  test('on which nothing happens has a sign of life that is no event', async () => {
    const { open } = await serve({ heartbeatMs: 20 });
    const stream = await open();
    await eventually(() => expect(stream.text()).toMatch(/(?:: still here\nid: \S+\n\n){3}$/));
    expect(stream.events()).toEqual([]);
  });

  test('whose client does not read is not read for, and holds up nobody', async () => {
    const { instance, ask, open, write, accountId } = await serve();
    const lazy = await open();
    await eventually(() => expect(lazy.text()).toContain('id: '));
    lazy.pause();
    // 72 MB: many times what the buffers of a connection hold, and 140 readings.
    const body = JSON.stringify({ data: { job: { output: 'x'.repeat(60_000) } } });
    const ids = Array.from({ length: 1200 }, () => newId('evt', Date.now()));
    await database.sql`
      INSERT INTO ringback.events (account_id, id, type, body, created_at)
      SELECT ${accountId}, id, 'delivery.exhausted', ${Buffer.from(body)}, now()
      FROM json_array_elements_text(${JSON.stringify(ids)}::text::json) AS id`;
    await passHorizon(database.db);
    const before = instance.db.statements;
    instance.changes.publish([accountId]);
    const eager = await open(`?type=job.*&created_after=${new Date().toISOString()}`);
    for (let count = 1; count <= 3; count++) {
      await write();
      await eager.until(count);
    }
    expect(instance.db.statements - before).toBeLessThan(100);
    lazy.cut();
    eager.cut();
    await eventually(() => expect(instance.watching).toEqual([true, false]));
    expect(instance.errors).toEqual([]);
    const rest: string[] = [];
    for (let cursor = lastIdOf(lazy.text()), more = true; more;) {
      const { json } = await ask(`?limit=200&cursor=${cursor}`);
      rest.push(...json.items.map(({ id }: { id: string }) => id));
      [cursor, more] = [json.next_cursor, json.has_more];
    }
    expect(rest.slice(0, ids.length)).toEqual(ids.toSorted());
  });

  test('is no longer followed once its client has gone, or asked for the header only', async () => {
    const { instance, open, server } = await serve();
    const head = await fetch(`${server.url}/v1/events`, { method: 'HEAD', headers: { accept: 'text/event-stream' } });
    expect(head.headers.get('content-type')).toBe('text/event-stream');
    expect(instance.watching).toEqual([]);
    await Promise.all(Array.from({ length: 20 }, async () => (await open()).cut()));
    await eventually(() => expect(instance.watching.at(-1) ?? false).toBe(false));
    const stream = await open();
    await eventually(() => expect(instance.watching.at(-1)).toBe(true));
    await instance.watch.close();
    await stream.ended;
    expect(stream.isEnded()).toBe(true);
  });
});
