import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { useDatabase } from '../support/database.ts';
import { type EventStream, openEventStream, type SentEvent } from '../support/event-source.ts';
import { eventually } from '../support/eventually.ts';
import { makeAccount } from '../support/fixtures.ts';
import { type Ask, client, submit, untilDone } from './support/api.ts';
import { serviceEnv, spawnMain, useService } from './support/main-process.ts';

const database = useDatabase();
const key = 'rbk_for-streams';
const env = () =>
  serviceEnv(database.url, {
    RINGBACK_BOOTSTRAP_KEY: key,
    RINGBACK_SECRET_KEY: Buffer.alloc(32, 7).toString('base64'),
    RINGBACK_CONFIG: fileURLToPath(new URL('./support/steps.config.ts', import.meta.url)),
  });
const service = useService(env);
const ask: Ask = (...args) => client(service.url, key)(...args);

const open = (id: string, headers: Record<string, string> = {}, url = service.url): Promise<EventStream> =>
  openEventStream(`${url}/v1/jobs/${id}/events`, { authorization: `Bearer ${key}`, ...headers });
const after = (id: string) => ({ 'last-event-id': id });
const recorded = (events: readonly SentEvent[]) =>
  events.filter(({ id }) => id !== undefined).map(({ id, event }) => `${id} ${event}`);
const steps = (count: number, more: object = {}) => ({
  type: 'test.steps',
  input: { steps: count, every_ms: 300, ...more },
});

describe('the stream of a job', () => {
  it('tells its life as it happens, and ends with it', async () => {
    const { id } = await submit(ask, steps(3, { failures: 1 }));
    const stream = await open(id);
    expect(stream.status).toBe(200);
    expect(stream.headers).toMatchObject({
      'content-type': 'text/event-stream',
      'cache-control': 'no-store, no-transform',
      'x-accel-buffering': 'no',
      vary: 'Accept',
    });
    await stream.ended;
    expect(stream.isEnded()).toBe(true);
    expect(stream.text()).toMatch(/^retry: \d+\n\n/);
    const events = stream.events();
    expect(recorded(events)).toEqual(['1 job.queued', '2 job.started', '3 job.retrying', '4 job.succeeded']);
    const percents = events
      .filter(({ event }) => event === 'job.progress')
      .map(({ data }) => data.job.progress.percent);
    expect(percents.length).toBeGreaterThan(1);
    expect(percents).toEqual([...new Set<number>(percents)].toSorted((a, b) => a - b));
    const last = events.at(-1)!;
    expect(last.data).toEqual({
      id: expect.stringMatching(/^evt_/),
      type: 'job.succeeded',
      sequence: 4,
      timestamp: last.data.job.finished_at,
      created_at: last.data.job.finished_at,
      job: (await ask('GET', `/v1/jobs/${id}`)).json,
    });
  });

  it('goes on where it was cut, without a gap and without a repeat, wherever that was', async () => {
    const { id } = await submit(ask, steps(6, { failures: 2 }));
    const seen: string[] = [];
    let lastId: string | undefined;
    for (let connection = 0; ; connection++) {
      const stream = await open(id, lastId === undefined ? {} : after(lastId));
      if (stream.status === 204) break;
      // Cut after its first event on record, in the midst of what follows.
      await eventually(() => expect(recorded(stream.events()).length > 0 || stream.isEnded()).toBe(true));
      if (!stream.isEnded()) stream.cut();
      await stream.ended;
      const events = stream.events().filter((event) => event.id !== undefined);
      seen.push(...recorded(events));
      lastId = events.at(-1)?.id ?? lastId;
      expect(connection).toBeLessThan(20);
    }
    expect(seen).toEqual(['1 job.queued', '2 job.started', '3 job.retrying', '4 job.retrying', '5 job.succeeded']);
  });

  it('goes on at another process', async () => {
    const { id } = await submit(ask, steps(8));
    const here = await open(id);
    await here.until(2);
    here.cut();
    const other = spawnMain(env());
    const there = await open(id, after('1'), await other.listening());
    await there.ended;
    expect(recorded(there.events())).toEqual(['2 job.started', '3 job.succeeded']);
  });

  it('of a job that is over is all of it at once', async () => {
    const { id } = await submit(ask, { type: 'ringback.echo', input: 1 });
    const job = await untilDone(ask, id);
    const stream = await open(id);
    await stream.ended;
    expect(recorded(stream.events())).toEqual(['1 job.queued', '2 job.started', '3 job.succeeded']);
    for (const { data } of stream.events()) expect(data.job).toEqual(job);
  });

  it('is not there for a client that has seen the end: 204 keeps it from connecting again', async () => {
    const { id } = await submit(ask, { type: 'ringback.echo', input: 1 });
    await untilDone(ask, id);
    const stream = await open(id, after('3'));
    await stream.ended;
    expect(stream).toMatchObject({ status: 204 });
    expect(stream.text()).toBe('');
  });

  it.each(['-1', 'x', '1.5', '1e1', '99', '4', ' ', '1, 2', 'evt_01h455vb4pex5vsknk084sn02q', '9'.repeat(30)])(
    'does not go on after %s, which is no event of the job',
    async (lastId) => {
      const { json } = await ask('POST', '/v1/jobs', { type: 'ringback.echo', input: 1 }, { prefer: 'wait=20' });
      const path = `/v1/jobs/${json.id}/events?last_event_id=${encodeURIComponent(lastId)}`;
      const answer = await ask('GET', path, undefined, { accept: 'text/event-stream' });
      expect(answer).toMatchObject({ status: 400, json: { code: 'invalid_last_event_id' } });
      expect(answer.headers.get('content-type')).toBe('application/problem+json');
    },
  );

  it('takes the last id from the query where the header cannot be set, and from the header where it is', async () => {
    const { json } = await ask('POST', '/v1/jobs', { type: 'ringback.echo', input: 1 }, { prefer: 'wait=20' });
    const url = (last: string) => `${service.url}/v1/jobs/${json.id}/events?last_event_id=${last}`;
    const auth = { authorization: `Bearer ${key}` };
    for (const [stream, expected] of [
      [await openEventStream(url('2'), auth), ['3 job.succeeded']],
      [await openEventStream(url(''), auth), ['1 job.queued', '2 job.started', '3 job.succeeded']],
      [await openEventStream(url('0'), { ...auth, ...after('2') }), ['3 job.succeeded']],
    ] as const) {
      await stream.ended;
      expect(recorded(stream.events())).toEqual(expected);
    }
  });

  it('is nobody else’s', async () => {
    const { id } = await submit(ask, steps(1));
    const stranger = (await makeAccount(database.db)).key;
    expect(await open(id, { authorization: `Bearer ${stranger}` })).toMatchObject({ status: 404 });
    expect(await open(id, { authorization: 'Bearer rbk_nonsense' })).toMatchObject({ status: 401 });
  });
});

describe('the same as a list', () => {
  it.each([
    undefined,
    'application/json',
    '*/*',
    'text/html',
    'text/event-stream;q=0.5, application/json',
    'text/event-stream;q=0',
  ])('is what a client gets that accepts %s', async (accept) => {
    const { json: job } = await ask('POST', '/v1/jobs', { type: 'ringback.echo', input: 1 }, { prefer: 'wait=20' });
    const answer = await ask('GET', `/v1/jobs/${job.id}/events`, undefined, accept === undefined ? {} : { accept });
    expect(answer.status).toBe(200);
    expect(answer.headers.get('vary')).toBe('Accept');
    expect(answer.json).toEqual({
      items: [
        {
          id: expect.stringMatching(/^evt_/),
          type: 'job.queued',
          sequence: 1,
          created_at: job.created_at,
          timestamp: job.created_at,
        },
        {
          id: expect.stringMatching(/^evt_/),
          type: 'job.started',
          sequence: 2,
          created_at: job.started_at,
          timestamp: job.started_at,
        },
        {
          id: expect.stringMatching(/^evt_/),
          type: 'job.succeeded',
          sequence: 3,
          created_at: job.finished_at,
          timestamp: job.finished_at,
        },
      ],
    });
  });

  it('begins after the event that was seen', async () => {
    const { json } = await ask('POST', '/v1/jobs', { type: 'ringback.echo', input: 1 }, { prefer: 'wait=20' });
    const answer = await ask('GET', `/v1/jobs/${json.id}/events?last_event_id=2`);
    expect(answer.json.items.map(({ sequence }: { sequence: number }) => sequence)).toEqual([3]);
    expect((await ask('GET', `/v1/jobs/${json.id}/events?last_event_id=3`)).json).toEqual({ items: [] });
    expect(await ask('GET', `/v1/jobs/${json.id}/events?after=2`)).toMatchObject({ status: 400 });
  });
});

it('a service that is told to stop lets everybody go who waits, and ends at once', { timeout: 60_000 }, async () => {
  const other = spawnMain({ ...env(), RINGBACK_SHUTDOWN_TIMEOUT_MS: '10000' });
  const url = await other.listening();
  const there = client(url, key);
  const later = new Date(Date.now() + 3_600_000).toISOString();
  const { id } = await submit(there, { ...steps(1), run_at: later });
  const streams = await Promise.all([open(id, {}, url), open(id, {}, url)]);
  await Promise.all(streams.map((stream) => stream.until(1)));
  const waiting = there('GET', `/v1/jobs/${id}`, undefined, { prefer: 'wait=60' });
  const posted = there('POST', '/v1/jobs', { ...steps(1), run_at: later }, { prefer: 'wait=60' });
  await eventually(async () => {
    const [row] = await database.sql`SELECT count(*)::int AS jobs FROM ringback.jobs WHERE run_at = ${later}`;
    expect(row!.jobs).toBe(2);
  });
  await there('GET', '/healthz');
  const { code, tookMs } = await other.ends({ signal: 'SIGTERM' });
  expect({ code, stderr: other.stderr }).toEqual({ code: 0, stderr: [] });
  expect(tookMs).toBeLessThan(6000);
  expect(await waiting).toMatchObject({ status: 200, json: { status: 'queued' } });
  expect(await posted).toMatchObject({ status: 202, json: { status: 'queued' } });
  for (const stream of streams) {
    await stream.ended;
    expect(stream.isEnded(), 'ended well').toBe(true);
  }
});
