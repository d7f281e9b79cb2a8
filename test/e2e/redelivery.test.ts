import { describe, expect, it } from 'vitest';
import { useDatabase } from '../support/database.ts';
import { eventually } from '../support/eventually.ts';
import { startReceiver } from '../support/receiver.ts';
import { client, submit, untilDone } from './support/api.ts';
import { serviceEnv, useService } from './support/main-process.ts';

const database = useDatabase();
const key = 'rbk_for-redelivery';
const service = useService(() =>
  serviceEnv(database.url, { RINGBACK_BOOTSTRAP_KEY: key, RINGBACK_CALLBACK_SCHEDULE: '0s,50ms' }),
);
const ask = (...args: Parameters<ReturnType<typeof client>>) => client(service.url, key)(...args);
const echo = { type: 'ringback.echo', input: 1 };

async function register(url: string, body: object = {}) {
  const made = await ask('POST', '/v1/endpoints', { url, ...body });
  expect(made.status, made.text).toBe(201);
  return made.json;
}

/** A job that named the endpoint, and its delivery once it is in that state. */
async function delivered(endpointId: string, status: string) {
  const job = await submit(ask, { ...echo, callback: { endpoint_id: endpointId } });
  return eventually(async () => {
    const [delivery] = (await ask('GET', `/v1/jobs/${job.id}/deliveries`)).json.items;
    expect(delivery).toMatchObject({ status });
    return delivery as { id: string; event_id: string };
  });
}

const untilStatus = (id: string, status: string) =>
  eventually(async () => {
    const { json } = await ask('GET', `/v1/deliveries/${id}`);
    expect(json).toMatchObject({ status });
    return json;
  });

describe('sending a delivery again', () => {
  it('brings the same event with the same bytes, with a fresh schedule', async () => {
    const receiver = await startReceiver();
    receiver.script({ status: 500 }, { status: 500 }, { status: 500 });
    const { id } = await register(receiver.url);
    const delivery = await delivered(id, 'exhausted');
    const sent = await ask('POST', `/v1/deliveries/${delivery.id}/redeliver`, {});
    expect(sent, sent.text).toMatchObject({ status: 202, json: { id: delivery.id, status: 'pending' } });
    expect(await untilStatus(delivery.id, 'delivered')).toMatchObject({ attempts: 4 });
    const { items } = (await ask('GET', `/v1/deliveries/${delivery.id}/attempts`)).json;
    expect(items.map((item: { trigger: string; outcome: string }) => [item.trigger, item.outcome])).toEqual([
      ['scheduled', 'rejected'],
      ['scheduled', 'rejected'],
      ['manual', 'rejected'],
      ['scheduled', 'delivered'],
    ]);
    expect(new Set(receiver.requests.map(({ body }) => body.toString())).size).toBe(1);
    expect(new Set(receiver.requests.map(({ headers }) => headers['webhook-id']))).toEqual(
      new Set([delivery.event_id]),
    );
  });

  it('once and no more, when it is asked for without retries', async () => {
    const receiver = await startReceiver();
    receiver.answerAll({ status: 500 });
    const { id } = await register(receiver.url);
    const delivery = await delivered(id, 'exhausted');
    await ask('POST', `/v1/deliveries/${delivery.id}/redeliver`, { retry: false });
    await receiver.waitFor(3);
    expect(await untilStatus(delivery.id, 'exhausted')).toMatchObject({ attempts: 3 });
  });

  it('also what was delivered', async () => {
    const receiver = await startReceiver();
    const { id } = await register(receiver.url);
    const delivery = await delivered(id, 'delivered');
    await ask('POST', `/v1/deliveries/${delivery.id}/redeliver`, {});
    await receiver.waitFor(2);
    expect(await untilStatus(delivery.id, 'delivered')).toMatchObject({ attempts: 2 });
  });

  it('to another endpoint makes a delivery there, and sends that again the next time', async () => {
    const [receiver, other] = [await startReceiver(), await startReceiver()];
    const { id } = await register(receiver.url);
    const to = await register(other.url);
    const delivery = await delivered(id, 'delivered');
    const copy = await ask('POST', `/v1/deliveries/${delivery.id}/redeliver`, { endpoint_id: to.id });
    expect(copy.json).toMatchObject({ endpoint_id: to.id, event_id: delivery.event_id });
    expect(copy.json.id).not.toBe(delivery.id);
    await untilStatus(copy.json.id, 'delivered');
    const again = await ask('POST', `/v1/deliveries/${delivery.id}/redeliver`, { endpoint_id: to.id });
    expect(again.json.id).toBe(copy.json.id);
    await other.waitFor(2);
    expect(receiver.requests).toHaveLength(1);
  });

  it('to another endpoint once and no more, when it is asked for without retries', async () => {
    const [receiver, other] = [await startReceiver(), await startReceiver()];
    other.answerAll({ status: 500 });
    const { id } = await register(receiver.url);
    const to = await register(other.url);
    const delivery = await delivered(id, 'delivered');
    const wanted = { endpoint_id: to.id, retry: false };
    const copy = await ask('POST', `/v1/deliveries/${delivery.id}/redeliver`, wanted);
    expect(await untilStatus(copy.json.id, 'exhausted')).toMatchObject({ attempts: 1 });
  });

  it('is refused for what is queued, what is not there, and where nothing is taken', async () => {
    const receiver = await startReceiver();
    const { id } = await register(receiver.url);
    await ask('POST', `/v1/endpoints/${id}/pause`);
    const queued = await delivered(id, 'pending');
    expect(await ask('POST', `/v1/deliveries/${queued.id}/redeliver`, {})).toMatchObject({
      status: 409,
      json: { code: 'delivery_pending' },
    });
    const nobody = `dlv_${'0'.repeat(26)}`;
    expect((await ask('POST', `/v1/deliveries/${nobody}/redeliver`, {})).status).toBe(404);
    const elsewhere = { endpoint_id: `ep_${'0'.repeat(26)}` };
    expect((await ask('POST', `/v1/deliveries/${queued.id}/redeliver`, elsewhere)).json.code).toBe(
      'endpoint_not_found',
    );
    await ask('DELETE', `/v1/endpoints/${id}`);
    await untilStatus(queued.id, 'discarded');
    expect((await ask('POST', `/v1/deliveries/${queued.id}/redeliver`, {})).json.code).toBe('endpoint_not_found');
  });
});

describe('recovering what an endpoint has missed', () => {
  it('is a job of its own, and brings everything in order', async () => {
    const receiver = await startReceiver();
    receiver.answerAll({ status: 410 });
    const since = new Date().toISOString();
    const { id } = await register(receiver.url, { ordering: 'endpoint' });
    const first = await delivered(id, 'held');
    const others = [await delivered(id, 'held'), await delivered(id, 'held')];
    const endpoint = (await ask('GET', `/v1/endpoints/${id}`)).json;
    expect(endpoint).toMatchObject({ status: 'disabled', disabled_reason: 'gone' });
    const early = await ask('POST', `/v1/endpoints/${id}/recover`, { since });
    expect(early).toMatchObject({ status: 409, json: { code: 'endpoint_disabled' } });

    receiver.answerAll({ status: 200 });
    await ask('POST', `/v1/endpoints/${id}/enable`);
    const accepted = await ask('POST', `/v1/endpoints/${id}/recover`, { since });
    expect(accepted, accepted.text).toMatchObject({ status: 202, json: { type: 'ringback.recover' } });
    expect(await untilDone(ask, accepted.json.id)).toMatchObject({ status: 'succeeded', output: { queued: 3 } });
    const requests = await receiver.waitFor(4);
    expect(requests.slice(1).map(({ headers }) => headers['webhook-id'])).toEqual(
      [first, ...others].map(({ event_id }) => event_id),
    );
  });

  it('for another endpoint brings it the events of one that is gone, in order, each once', async () => {
    const [receiver, other] = [await startReceiver(), await startReceiver()];
    const since = new Date().toISOString();
    const { id } = await register(receiver.url);
    await ask('POST', `/v1/endpoints/${id}/pause`);
    const lost = [await delivered(id, 'pending'), await delivered(id, 'pending'), await delivered(id, 'pending')];
    await ask('DELETE', `/v1/endpoints/${id}`);
    for (const delivery of lost) await untilStatus(delivery.id, 'discarded');
    const to = await register(other.url, { ordering: 'endpoint' });
    const gone = await ask('POST', `/v1/endpoints/${id}/recover`, { since });
    expect(gone, 'by itself').toMatchObject({ status: 404, json: { code: 'endpoint_not_found' } });
    for (const queued of [3, 0]) {
      const accepted = await ask('POST', `/v1/endpoints/${id}/recover`, { since, endpoint_id: to.id });
      expect(accepted, accepted.text).toMatchObject({ status: 202 });
      expect(await untilDone(ask, accepted.json.id)).toMatchObject({ status: 'succeeded', output: { queued } });
    }
    const requests = await other.waitFor(3);
    expect(requests.map(({ headers }) => headers['webhook-id'])).toEqual(lost.map(({ event_id }) => event_id));
    expect(receiver.requests).toEqual([]);
  });

  it('for another endpoint is refused where that is not there, or the one to recover never was', async () => {
    const receiver = await startReceiver();
    const { id } = await register(receiver.url);
    const nobody = `ep_${'0'.repeat(26)}`;
    const since = '2026-01-01T00:00:00Z';
    for (const [from, to] of [
      [id, nobody],
      [nobody, id],
    ])
      expect(await ask('POST', `/v1/endpoints/${from}/recover`, { since, endpoint_id: to })).toMatchObject({
        status: 404,
        json: { code: 'endpoint_not_found' },
      });
  });

  it.each([
    [{}, '/since'],
    [{ since: 'yesterday' }, '/since'],
    [{ since: '2026-01-01T00:00:00Z', statuses: [] }, '/statuses'],
    [{ since: '2026-01-01T00:00:00Z', statuses: ['pending'] }, '/statuses/0'],
    [{ since: '2026-01-01T00:00:00Z', endpoint_id: 'nobody' }, '/endpoint_id'],
  ])('is refused with %j', async (body, path) => {
    const receiver = await startReceiver();
    const { id } = await register(receiver.url);
    const refused = await ask('POST', `/v1/endpoints/${id}/recover`, body);
    expect(refused).toMatchObject({ status: 422, json: { errors: [{ path }] } });
  });
});
