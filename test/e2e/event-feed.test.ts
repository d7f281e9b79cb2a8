import { describe, expect, it } from 'vitest';
import { useDatabase } from '../support/database.ts';
import { openEventStream, type SentEvent } from '../support/event-source.ts';
import { eventually } from '../support/eventually.ts';
import { makeAccount } from '../support/fixtures.ts';
import { passHorizon } from '../support/horizon.ts';
import { startReceiver } from '../support/receiver.ts';
import { client, submit, untilDone } from './support/api.ts';
import { type Environment, serviceEnv, spawnMain, useService } from './support/main-process.ts';

/** The feed as clients see it: real processes, over HTTP. */

const database = useDatabase();
const shared: Environment = {
  RINGBACK_BOOTSTRAP_KEY: 'rbk_for-feeds',
  RINGBACK_SECRET_KEY: Buffer.alloc(32, 7).toString('base64'),
};
const env = (more: Environment = {}) => serviceEnv(database.url, { ...shared, ...more });
const service = useService(() => env());

async function account() {
  const { key } = await makeAccount(database.db);
  const open = (query = '', headers: Record<string, string> = {}, url = service.url) =>
    openEventStream(`${url}/v1/events${query}`, { authorization: `Bearer ${key}`, ...headers });
  return { key, ask: client(service.url, key), open };
}

const inShort = (events: readonly SentEvent[]) => events.map(({ event, data }) => `${data.job_id} ${event}`);
const lifeOf = (id: string) => ['queued', 'started', 'succeeded'].map((what) => `${id} job.${what}`);
const echo = (input: unknown, more: object = {}) => ({ type: 'ringback.echo', input, ...more });

describe('the feed', () => {
  it('has the life of every job, and of those with a callback what was said', async () => {
    const { ask, open } = await account();
    const receiver = await startReceiver();
    const stream = await open();
    const { id } = await submit(ask, echo({ text: 'a\nb' }, { callback: { url: receiver.url } }));
    await stream.until(3);
    expect(inShort(stream.events())).toEqual(lifeOf(id));
    const { body, headers } = await receiver.next();
    const last = stream.events().at(-1)!.data;
    expect(last.id).toBe(headers['webhook-id']);
    expect(last.data).toEqual(JSON.parse(String(body)).data);
    expect(last.data.job).toEqual(await untilDone(ask, id));
    await passHorizon(database.db);
    expect((await ask('GET', '/v1/events')).json.items).toEqual(stream.events().map(({ data }) => data));
  });

  it('is one account’s, and nobody’s without a key', async () => {
    const [one, other] = [await account(), await account()];
    await untilDone(one.ask, (await submit(one.ask, echo(1))).id);
    await passHorizon(database.db);
    const { json } = await one.ask('GET', '/v1/events');
    expect(json.items).toHaveLength(3);
    expect((await other.ask('GET', '/v1/events')).json).toMatchObject({ items: [], has_more: false });
    const foreign = await other.ask('GET', `/v1/events?cursor=${json.next_cursor}`);
    expect(foreign).toMatchObject({ status: 400, json: { code: 'invalid_query', errors: [{ path: '/cursor' }] } });
    expect((await fetch(`${service.url}/v1/events`)).status).toBe(401);
  });

  it('is told to who follows at another process, also when what it listens with was cut', async () => {
    const { ask, open } = await account();
    const other = spawnMain(env({ RINGBACK_ROLES: 'api' }));
    const stream = await open('', {}, await other.listening());
    const { id: first } = await submit(ask, echo(1));
    await stream.until(3);
    const cut = await database.sql`
      SELECT pg_terminate_backend(pid) FROM pg_stat_activity
      WHERE datname = current_database() AND application_name = 'ringback-listen'`;
    expect(cut).toHaveLength(2);
    const { id: second } = await submit(ask, echo(2));
    await stream.until(6);
    expect(inShort(stream.events())).toEqual([...lifeOf(first), ...lifeOf(second)]);
  });

  it('goes on where its stream was cut, at another process, while jobs go on', async () => {
    const { ask, open } = await account();
    const other = spawnMain(env({ RINGBACK_ROLES: 'api' }));
    const urls = [service.url, await other.listening()];
    const ids: string[] = [];
    const told: string[] = [];
    let lastId = '';
    for (let round = 0; round < 6; round++) {
      const stream = await open('', { 'last-event-id': lastId }, urls[round % 2]);
      for (let count = 0; count < 3; count++) ids.push((await submit(ask, echo(count))).id);
      await stream.until(round + 1);
      stream.cut();
      await stream.ended;
      told.push(...inShort(stream.events()));
      lastId = stream.events().at(-1)?.id ?? lastId;
    }
    for (const id of ids) await untilDone(ask, id);
    const rest = await open('', { 'last-event-id': lastId });
    await rest.until(ids.length * 3 - told.length);
    told.push(...inShort(rest.events()));
    expect(told).toHaveLength(ids.length * 3);
    expect(told.toSorted()).toEqual(ids.flatMap(lifeOf).toSorted());
  });

  it('ends well when the service is told to stop', { timeout: 60_000 }, async () => {
    const { open } = await account();
    const other = spawnMain(env({ RINGBACK_ROLES: 'api' }));
    const url = await other.listening();
    const streams = await Promise.all([open('', {}, url), open('', {}, url)]);
    for (const stream of streams) await eventually(() => expect(stream.text()).toContain('id: '));
    const { code, tookMs } = await other.ends({ signal: 'SIGTERM' });
    expect({ code, stderr: other.stderr }).toEqual({ code: 0, stderr: [] });
    expect(tookMs).toBeLessThan(6000);
    await Promise.all(streams.map(({ ended }) => ended));
    expect(streams.map((stream) => stream.isEnded())).toEqual([true, true]);
  });
});
