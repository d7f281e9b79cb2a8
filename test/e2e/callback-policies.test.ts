import { describe, expect, it } from 'vitest';
import { useDatabase } from '../support/database.ts';
import { eventually } from '../support/eventually.ts';
import { makeAccount } from '../support/fixtures.ts';
import { startReceiver } from '../support/receiver.ts';
import { client, submit, untilDone } from './support/api.ts';
import { serviceEnv, useService } from './support/main-process.ts';

const database = useDatabase();
const service = useService(() => serviceEnv(database.url));
const echo = { type: 'ringback.echo', input: 1 };

/** An account with a key of its own, under that policy from the start. */
async function account(policy: string) {
  const { accountId, key } = await makeAccount(database.db);
  const setPolicy = (to: string) =>
    database.sql`UPDATE ringback.accounts SET callback_policy = ${to} WHERE account_id = ${accountId}`;
  await setPolicy(policy);
  return { ask: client(service.url, key), setPolicy };
}
type Ask = Awaited<ReturnType<typeof account>>['ask'];

const urlsOf = async (ask: Ask): Promise<string[]> =>
  (await ask('GET', '/v1/endpoints')).json.items.map(({ url }: { url: string }) => url);

const unregistered = (path: string) => ({
  status: 422,
  json: { code: 'endpoint_not_registered', detail: expect.stringContaining('POST /v1/endpoints'), errors: [{ path }] },
});

let count = 0;
const freshUrl = () => `http://127.0.0.1:9/never/${++count}`;

describe('under the policy "any"', () => {
  it('a URL that a job names is called back, and registered only once that is asked for', async () => {
    const { ask } = await account('any');
    const receiver = await startReceiver();
    await submit(ask, { ...echo, callback: { url: receiver.url } });
    await receiver.next();
    const [named] = (await ask('GET', '/v1/endpoints')).json.items;
    expect(named).toMatchObject({ url: receiver.url, registered: false, status: 'enabled' });
    const settings = { description: 'orders', ordering: 'none', concurrency: 3 };
    const registered = await ask('POST', '/v1/endpoints', { url: receiver.url, ...settings });
    expect(registered).toMatchObject({ status: 200, json: { id: named.id, registered: true, ...settings } });
    const again = await ask('POST', '/v1/endpoints', { url: receiver.url, description: 'other' });
    expect(again, 'as it is').toMatchObject({ status: 200, json: { id: named.id, ...settings } });
    expect(registered.json).not.toHaveProperty('signing_secret');
  });
});

describe('under the policy "registered"', () => {
  it('a job is refused whose URL is not registered, and no endpoint is made of it', async () => {
    const { ask } = await account('registered');
    const url = freshUrl();
    expect(await ask('POST', '/v1/jobs', { ...echo, callback: { url } })).toMatchObject(unregistered('/callback/url'));
    const batch = await ask('POST', '/v1/jobs/batch', { items: [echo, { ...echo, callback: { url } }] });
    expect(batch.json.items).toMatchObject([{ status: 202 }, { status: 422 }]);
    const job = { ...echo, callback: { url } };
    const schedule = await ask('POST', '/v1/schedules', { name: 'hourly', cron: '@hourly', job });
    expect(schedule).toMatchObject(unregistered('/job/callback/url'));
    expect(await urlsOf(ask)).toEqual([]);
  });

  it('a job may name what is registered, by its URL and by its id', async () => {
    const { ask } = await account('registered');
    const receiver = await startReceiver();
    const made = await ask('POST', '/v1/endpoints', { url: receiver.url });
    expect(made).toMatchObject({ status: 201, json: { registered: true, status: 'enabled' } });
    await submit(ask, { ...echo, callback: { url: `${receiver.url}#fragment` } });
    await submit(ask, { ...echo, callback: { endpoint_id: made.json.id } });
    await receiver.waitFor(2);
  });

  it('what jobs named before has to be registered first, whatever it is used for', async () => {
    const { ask, setPolicy } = await account('any');
    const receiver = await startReceiver();
    await submit(ask, { ...echo, callback: { url: freshUrl() } });
    const [{ id, url }] = (await ask('GET', '/v1/endpoints')).json.items;
    await setPolicy('registered');
    const made = await ask('POST', '/v1/endpoints', { url: receiver.url });
    const job = await submit(ask, { ...echo, callback: { url: receiver.url } });
    await untilDone(ask, job.id);
    const [delivery] = (await ask('GET', `/v1/jobs/${job.id}/deliveries`)).json.items;

    expect(await ask('POST', '/v1/jobs', { ...echo, callback: { endpoint_id: id } })).toMatchObject(
      unregistered('/callback/endpoint_id'),
    );
    const replay = await ask('POST', `/v1/deliveries/${delivery.id}/redeliver`, { endpoint_id: id });
    expect(replay).toMatchObject(unregistered('/endpoint_id'));
    const all = { since: '2020-01-01T00:00:00Z', endpoint_id: id };
    expect(await ask('POST', `/v1/endpoints/${made.json.id}/recover`, all)).toMatchObject(unregistered('/endpoint_id'));
    // As that route does, but without its look at the policy.
    const past = { endpoint_id: made.json.id, to_endpoint_id: id, since: all.since, until: new Date().toISOString() };
    const input = { ...past, statuses: ['delivered'] };
    const byHand = await submit(ask, { type: 'ringback.recover', input });
    expect(await untilDone(ask, byHand.id)).toMatchObject({ status: 'failed' });
    const subscribed = await ask('PATCH', `/v1/endpoints/${id}`, { event_types: ['*'] });
    expect(subscribed).toMatchObject(unregistered('/event_types'));
    const led = await ask('PATCH', `/v1/endpoints/${id}`, { url: freshUrl() });
    expect(led).toMatchObject(unregistered('/url'));
    expect((await ask('PATCH', `/v1/endpoints/${id}`, { url, description: 'the same URL' })).status).toBe(200);
    expect((await ask('PATCH', `/v1/endpoints/${made.json.id}`, { event_types: ['job.expired'] })).status).toBe(200);

    expect(await ask('POST', '/v1/endpoints', { url })).toMatchObject({ status: 200, json: { id, registered: true } });
    await submit(ask, { ...echo, callback: { endpoint_id: id } });
  });

  it('what was allowed a moment ago is believed for seconds, not for longer', { timeout: 15_000 }, async () => {
    const { ask, setPolicy } = await account('any');
    const url = freshUrl();
    await submit(ask, { ...echo, callback: { url } });
    await submit(ask, { ...echo, callback: { url } });
    await setPolicy('registered');
    await eventually(
      async () =>
        expect(await ask('POST', '/v1/jobs', { ...echo, callback: { url } })).toMatchObject(
          unregistered('/callback/url'),
        ),
      8000,
    );
  });

  it('a schedule made before is triggered no more', async () => {
    const { ask, setPolicy } = await account('any');
    const job = { ...echo, callback: { url: freshUrl() } };
    const made = await ask('POST', '/v1/schedules', { name: 'hourly', cron: '@hourly', job });
    expect(made.status, made.text).toBe(201);
    await setPolicy('registered');
    const trigger = () => ask('POST', `/v1/schedules/${made.json.id}/trigger`);
    expect(await trigger()).toMatchObject(unregistered('/job/callback/endpoint_id'));
    expect((await ask('GET', '/v1/jobs')).json.items).toEqual([]);
    await ask('POST', '/v1/endpoints', { url: job.callback.url });
    expect((await trigger()).status).toBe(202);
  });
});
