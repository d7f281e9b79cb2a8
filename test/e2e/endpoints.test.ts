import { randomBytes } from 'node:crypto';
import { Webhook } from 'standardwebhooks';
import { describe, expect, it } from 'vitest';
import { useDatabase } from '../support/database.ts';
import { eventually } from '../support/eventually.ts';
import { startReceiver } from '../support/receiver.ts';
import { client, submit, untilDone } from './support/api.ts';
import { serviceEnv, useService } from './support/main-process.ts';

const database = useDatabase();
const key = 'rbk_for-endpoints';
const service = useService(() =>
  serviceEnv(database.url, { RINGBACK_BOOTSTRAP_KEY: key, RINGBACK_CALLBACK_SCHEDULE: '0s,100ms,200ms' }),
);
const ask = (...args: Parameters<ReturnType<typeof client>>) => client(service.url, key)(...args);
const echo = { type: 'ringback.echo', input: 1 };

async function register(body: Record<string, unknown>) {
  const made = await ask('POST', '/v1/endpoints', body);
  expect(made.status, made.text).toBe(201);
  return made.json;
}

let count = 0;
const freshUrl = () => `http://127.0.0.1:9/never/${++count}`;
const NOBODY = `ep_${'0'.repeat(26)}`;

describe('an endpoint', () => {
  it('is made with settings, shown, changed, and left as it was by a bad change', async () => {
    const settings = {
      description: 'orders',
      metadata: { team: 'b' },
      event_types: ['job.*'],
      headers: { 'X-Tenant': '4711' },
      timeout_ms: 2000,
      concurrency: 3,
      rate_per_second: 2.5,
      retry_schedule_ms: [0, 1000],
      ordering: 'endpoint',
    };
    const made = await register({ url: freshUrl(), ...settings });
    expect(made).toMatchObject({ ...settings, status: 'enabled', signing_secret: expect.stringMatching(/^whsec_/) });
    const { signing_secret: _secret, ...shown } = made;
    expect((await ask('GET', `/v1/endpoints/${made.id}`)).json).toEqual(shown);
    expect(shown.health).toMatchObject({
      circuit: 'closed',
      consecutive_failures: 0,
      backlog: 0,
      last_success_at: null,
    });

    const changed = await ask('PATCH', `/v1/endpoints/${made.id}`, { concurrency: null, ordering: 'none' });
    expect(changed.json).toMatchObject({ ...settings, concurrency: null, ordering: 'none' });
    const bad = await ask('PATCH', `/v1/endpoints/${made.id}`, { description: 'x', concurrency: 0 });
    expect(bad).toMatchObject({ status: 422, json: { code: 'invalid_body', errors: [{ path: '/concurrency' }] } });
    expect((await ask('GET', `/v1/endpoints/${made.id}`)).json.description).toBe('orders');
    // It would hear of every other test's jobs.
    await ask('DELETE', `/v1/endpoints/${made.id}`);
  });

  it.each<[string, object, string]>([
    ['a reserved header', { headers: { 'Content-Length': '1' } }, '/headers/Content-Length'],
    ['a header of the signature', { headers: { 'webhook-id': 'x' } }, '/headers/webhook-id'],
    ['a header that splits the request', { headers: { 'X-A': 'b\r\nX-C: d' } }, '/headers/X-A'],
    ['a name that is none', { headers: { 'a b': 'c' } }, '/headers/a b'],
    ['a header twice', { headers: { 'x-a': '1', 'X-A': '2' } }, '/headers'],
    ['an unknown event type', { event_types: ['job.done'] }, '/event_types/0'],
    ['pings of others', { event_types: ['endpoint.ping'] }, '/event_types/0'],
    ['a schedule that begins late', { retry_schedule_ms: [5] }, '/retry_schedule_ms'],
    ['an unknown order', { ordering: 'random' }, '/ordering'],
    ['no rate at all', { rate_per_second: 0 }, '/rate_per_second'],
    ['a member that is none', { retries: 3 }, ''],
    ['a private address', { url: 'http://10.0.0.1/' }, '/url'],
  ])('is refused with %s, and not made', async (_what, body, path) => {
    const before = (await ask('GET', '/v1/endpoints?limit=200')).json.items.length;
    const refused = await ask('POST', '/v1/endpoints', { url: freshUrl(), ...body });
    expect(refused.status, refused.text).toBe(422);
    expect(refused.json.errors.map((fault: { path: string }) => fault.path)).toEqual([path]);
    expect((await ask('GET', '/v1/endpoints?limit=200')).json.items).toHaveLength(before);
  });

  it('keeps its URL to itself', async () => {
    const [one, other] = [await register({ url: freshUrl() }), await register({ url: freshUrl() })];
    const taken = await ask('PATCH', `/v1/endpoints/${one.id}`, { url: other.url });
    expect(taken).toMatchObject({ status: 409, json: { code: 'endpoint_url_taken' } });
  });

  it.each(['GET', 'PATCH', 'DELETE'])('that is not there answers 404 to %s', async (method) => {
    const body = method === 'PATCH' ? {} : undefined;
    expect(await ask(method, `/v1/endpoints/${NOBODY}`, body)).toMatchObject({
      status: 404,
      json: { code: 'endpoint_not_found' },
    });
  });

  it.each(['pause', 'enable', 'ping'])('that is not there answers 404 to %s', async (verb) => {
    const answer = await ask('POST', `/v1/endpoints/${NOBODY}/${verb}`);
    expect(answer).toMatchObject({ status: 404, json: { code: 'endpoint_not_found' } });
  });
});

describe('a secret of its owner', () => {
  const own = `whsec_${randomBytes(32).toString('base64')}`;

  it('signs from the first callback on, and is not shown again', async () => {
    const receiver = await startReceiver();
    const made = await register({ url: receiver.url, signing_secret: own });
    expect(made).not.toHaveProperty('signing_secret');
    await submit(ask, { ...echo, callback: { endpoint_id: made.id } });
    const { body, headers } = await receiver.next();
    expect(() => new Webhook(own).verify(body, headers as Record<string, string>)).not.toThrow();
  });

  it.each([
    [{ signing_secret: 'whsec_short' }, '/signing_secret'],
    [{ signing_secret: own, scheme: 'v1a' }, '/scheme'],
  ])('is refused when it cannot be used: case %#', async (body, path) => {
    const refused = await ask('POST', '/v1/endpoints', { url: freshUrl(), ...body });
    expect(refused).toMatchObject({ status: 422, json: { code: 'invalid_signing_secret', errors: [{ path }] } });
  });

  it('is refused for a URL that is registered already: it would not sign', async () => {
    const made = await register({ url: freshUrl() });
    const again = await ask('POST', '/v1/endpoints', { url: made.url, signing_secret: own });
    expect(again).toMatchObject({ status: 409, json: { code: 'endpoint_url_taken' } });
    expect((await ask('POST', '/v1/endpoints', { url: made.url })).json.id).toBe(made.id);
  });

  it('may be one of ed25519', async () => {
    const made = await register({ url: freshUrl(), scheme: 'v1a' });
    expect(made.signing_secret).toMatch(/^whsk_/);
  });
});

describe('custom headers', () => {
  it('go with every request beside the signature', async () => {
    const receiver = await startReceiver();
    const { id } = await register({
      url: receiver.url,
      headers: { Authorization: 'Bearer t0ken', 'X-Tenant': '4711' },
    });
    await submit(ask, { ...echo, callback: { endpoint_id: id } });
    const { headers } = await receiver.next();
    expect(headers).toMatchObject({ authorization: 'Bearer t0ken', 'x-tenant': '4711' });
    expect(headers['webhook-signature']).toMatch(/^v1,/);
  });

  it('are on record by name only, and ours as they were sent', async () => {
    const receiver = await startReceiver();
    const { id } = await register({
      url: receiver.url,
      headers: { Authorization: 'Bearer s3cret', 'X-Tenant': '4711' },
    });
    const job = await submit(ask, { ...echo, callback: { endpoint_id: id } });
    const { headers: sent } = await receiver.next();
    expect(sent).toMatchObject({ authorization: 'Bearer s3cret', 'x-tenant': '4711' });
    const rows = await eventually(async () => {
      const made = await database.sql<{ delivery_id: string; text: string }[]>`
        SELECT delivery_id, row_to_json(attempt)::text AS text FROM ringback.delivery_attempts AS attempt
        WHERE job_id = ${job.id}`;
      expect(made).toHaveLength(1);
      return made;
    });
    expect(rows[0]!.text).not.toContain('s3cret');
    const [attempt] = (await ask('GET', `/v1/deliveries/${rows[0]!.delivery_id}/attempts`)).json.items;
    expect(attempt.request.headers).toEqual({
      Authorization: '***',
      'X-Tenant': '***',
      'content-type': 'application/json',
      'webhook-id': sent['webhook-id'],
      'webhook-timestamp': sent['webhook-timestamp'],
      'webhook-signature': sent['webhook-signature'],
    });
  });
});

describe('a ping', () => {
  it('sends a signed event at once and answers with the response', async () => {
    const receiver = await startReceiver();
    receiver.script({ status: 418, body: 'short and stout' });
    const { id } = await register({ url: receiver.url });
    await ask('POST', `/v1/endpoints/${id}/pause`);
    const pinged = await ask('POST', `/v1/endpoints/${id}/ping`);
    expect(pinged.json, pinged.text).toMatchObject({
      trigger: 'probe',
      outcome: 'rejected',
      response: { status: 418, body: 'short and stout' },
    });
    const request = await receiver.next();
    expect(request.json).toMatchObject({ type: 'endpoint.ping', data: { endpoint: { id } } });
    expect(request.headers['webhook-signature']).toMatch(/^v1,/);
    const again = await ask('POST', `/v1/endpoints/${id}/ping`);
    expect(again.json).toMatchObject({ outcome: 'delivered', response: { status: 200 } });
    expect(receiver.requests, 'without retries').toHaveLength(2);
  });
});

describe('a paused endpoint', () => {
  it('is sent nothing until it is enabled; then all, in order', async () => {
    const receiver = await startReceiver();
    const { id } = await register({ url: receiver.url, ordering: 'endpoint' });
    expect((await ask('POST', `/v1/endpoints/${id}/pause`)).json.status).toBe('paused');
    expect((await ask('POST', `/v1/endpoints/${id}/pause`)).json.status, 'again').toBe('paused');
    const jobs = [];
    for (let made = 0; made < 5; made++) {
      const job = await submit(ask, { ...echo, callback: { endpoint_id: id } });
      await untilDone(ask, job.id);
      jobs.push(job.id);
    }
    expect((await ask('GET', `/v1/endpoints/${id}`)).json.health.backlog).toBe(5);
    expect(receiver.requests).toEqual([]);
    expect((await ask('POST', `/v1/endpoints/${id}/enable`)).json.status).toBe('enabled');
    const requests = await receiver.waitFor(5);
    expect(requests.map(({ json }) => (json as { data: { job: { id: string } } }).data.job.id)).toEqual(jobs);
  });
});

describe('a deleted endpoint', () => {
  it('is gone, what was for it is discarded on record, and its URL is free again', async () => {
    const receiver = await startReceiver();
    const { id } = await register({ url: receiver.url });
    await ask('POST', `/v1/endpoints/${id}/pause`);
    const job = await submit(ask, { ...echo, callback: { endpoint_id: id } });
    await untilDone(ask, job.id);
    expect((await ask('DELETE', `/v1/endpoints/${id}`)).status).toBe(204);
    expect((await ask('GET', `/v1/endpoints/${id}`)).status).toBe(404);
    expect((await ask('DELETE', `/v1/endpoints/${id}`)).status).toBe(404);
    await eventually(async () => {
      const { items } = (await ask('GET', `/v1/jobs/${job.id}/deliveries`)).json;
      expect(items).toMatchObject([{ status: 'discarded', endpoint_id: id, url: receiver.url, next_attempt_at: null }]);
    });
    const anew = await register({ url: receiver.url });
    expect(anew.id).not.toBe(id);
    expect(receiver.requests).toEqual([]);
  });
});

describe('an endpoint that subscribes to events of the account', () => {
  it('is told of all jobs that match, once each, also of those that name it', async () => {
    const receiver = await startReceiver();
    const named = await startReceiver();
    const { id } = await register({ url: receiver.url, event_types: ['job.succeeded'] });
    const silent = await submit(ask, echo);
    const both = await submit(ask, { ...echo, callback: { url: named.url } });
    const same = await submit(ask, { ...echo, callback: { endpoint_id: id } });
    const failing = await submit(ask, { type: 'ringback.fail', input: { times: 99 }, retry: { max_runs: 1 } });
    await untilDone(ask, failing.id);
    const requests = await receiver.waitFor(3);
    await named.waitFor(1);
    const told = requests.map(({ json }) => (json as { data: { job: { id: string } } }).data.job.id);
    expect(told.toSorted()).toEqual([silent.id, both.id, same.id].toSorted());
    const { items } = (await ask('GET', `/v1/jobs/${both.id}/deliveries`)).json;
    expect(items).toHaveLength(2);
    expect(new Set(items.map((item: { event_id: string }) => item.event_id)).size).toBe(1);
    await ask('DELETE', `/v1/endpoints/${id}`);
  });
});
