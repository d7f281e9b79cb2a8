import { Webhook } from 'standardwebhooks';
import { describe, expect, it } from 'vitest';
import { useDatabase } from '../support/database.ts';
import { eventually } from '../support/eventually.ts';
import { type ReceivedRequest, startReceiver } from '../support/receiver.ts';
import { client, submit, untilDone } from './support/api.ts';
import { serviceEnv, useService } from './support/main-process.ts';
import { postWithoutReading } from './support/raw-http.ts';

const database = useDatabase();
const key = 'rbk_for-callbacks';
const service = useService(() =>
  serviceEnv(database.url, { RINGBACK_BOOTSTRAP_KEY: key, RINGBACK_CALLBACK_SCHEDULE: '0s,100ms,200ms' }),
);
const ask = (...args: Parameters<ReturnType<typeof client>>) => client(service.url, key)(...args);

/** As a receiver verifies; throws when the signature does not fit. */
function verify(secret: string, { headers, body }: ReceivedRequest) {
  return new Webhook(secret).verify(body, headers as Record<string, string>);
}

function signatures({ headers }: ReceivedRequest): string[] {
  return String(headers['webhook-signature']).split(' ');
}

interface SentItem {
  readonly request: { readonly headers: Record<string, string> };
}

const echo = { type: 'ringback.echo', input: { hello: 'world' } };

describe('a callback', () => {
  it('is signed with the secret of the 202 and carries the status representation', async () => {
    const receiver = await startReceiver();
    const job = await submit(ask, { ...echo, metadata: { order: '4711' }, callback: { url: receiver.url } });
    expect(job.callback).toMatchObject({ url: receiver.url, signing_secret: expect.stringMatching(/^whsec_/) });

    const call = await receiver.next();
    expect(verify(job.callback.signing_secret, call)).toEqual(call.json);
    expect(call).toMatchObject({
      method: 'POST',
      path: '/callback',
      headers: {
        'content-type': 'application/json',
        'content-length': String(call.body.length),
        'webhook-id': expect.stringMatching(/^evt_[0-9a-z]{26}$/),
        'webhook-timestamp': expect.stringMatching(/^\d{10}$/),
        'user-agent': expect.stringMatching(/^Ringback\//),
      },
    });
    const { json: status } = await ask('GET', `/v1/jobs/${job.id}`);
    expect(call.json).toEqual({
      type: 'job.succeeded',
      timestamp: status.finished_at,
      sequence: 3,
      data: { job: status },
    });
    expect(status).toMatchObject({ done: true, output: { hello: 'world' } });
  });

  it('does not verify once a byte of it has changed, or with another secret', async () => {
    const receiver = await startReceiver();
    const { callback } = await submit(ask, { ...echo, callback: { url: receiver.url } });
    const call = await receiver.next();
    const forged = { ...call, body: Buffer.from(call.body.toString().replace('world', 'w0rld')) };
    expect(() => verify(callback.signing_secret, forged)).toThrow('No matching signature');
    expect(() => verify('whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw', call)).toThrow('No matching signature');
  });

  it('is sent again after a failure: same id, same bytes, its own time and signature, each attempt on record', async () => {
    const receiver = await startReceiver();
    receiver.script({ status: 500, headers: { 'retry-after': '1' }, body: 'not now' }, 'reset');
    const job = await submit(ask, { ...echo, callback: { url: receiver.url } });
    const calls = await receiver.waitFor(3);
    expect(new Set(calls.map(({ headers }) => headers['webhook-id'])).size).toBe(1);
    expect(new Set(calls.map(({ body }) => body.toString('hex'))).size).toBe(1);
    for (const call of calls) expect(verify(job.callback.signing_secret, call)).toEqual(calls[0]!.json);
    const times = calls.map(({ headers }) => Number(headers['webhook-timestamp']));
    expect(times[1]! - times[0]!, 'the receiver asked for a second').toBeGreaterThanOrEqual(1);
    expect(signatures(calls[1]!)).not.toEqual(signatures(calls[0]!));

    const delivery = await eventually(async () => {
      const { json } = await ask('GET', `/v1/jobs/${job.id}/deliveries`);
      expect(json.items).toMatchObject([{ status: 'delivered', attempts: 3, next_attempt_at: null }]);
      return json.items[0];
    });
    expect(delivery).toMatchObject({
      event_id: calls[0]!.headers['webhook-id'],
      endpoint_id: job.callback.endpoint_id,
    });
    const { json } = await ask('GET', `/v1/deliveries/${delivery.id}/attempts`);
    expect(json.items).toMatchObject([
      { number: 1, outcome: 'rejected', response: { status: 500, body: 'not now' } },
      { number: 2, outcome: 'network', response: null },
      { number: 3, outcome: 'delivered', error: null, response: { status: 200 }, next_attempt_at: null },
    ]);
    expect(json.items.map((item: SentItem) => item.request.headers['webhook-timestamp'])).toEqual(times.map(String));
  });

  it('is given up when the schedule is used up, and the job is none the worse', async () => {
    const receiver = await startReceiver();
    receiver.answerAll({ status: 302, headers: { location: receiver.url } });
    const { id } = await submit(ask, { ...echo, callback: { url: receiver.url } });
    await eventually(async () => {
      const { json } = await ask('GET', `/v1/jobs/${id}/deliveries`);
      expect(json.items).toMatchObject([{ status: 'exhausted', attempts: 3, next_attempt_at: null }]);
    });
    expect(receiver.requests).toHaveLength(3);
    expect(await untilDone(ask, id)).toMatchObject({ status: 'succeeded' });
  });

  it('tells of a failure too, with the error and no output', async () => {
    const receiver = await startReceiver();
    const { id } = await submit(ask, {
      type: 'ringback.fail',
      input: { times: 9 },
      callback: { url: receiver.url },
    });
    const call = await receiver.next();
    expect(call.json).toMatchObject({ type: 'job.failed', data: { job: { id, status: 'failed', runs: 3 } } });
    expect(call.json).toMatchObject({ data: { job: (await ask('GET', `/v1/jobs/${id}`)).json } });
  });

  it('is not sent for an end that callback.events leaves out', async () => {
    const receiver = await startReceiver();
    const quiet = await submit(ask, { ...echo, callback: { url: receiver.url, events: ['job.failed'] } });
    expect(quiet.callback.events).toEqual(['job.failed']);
    await untilDone(ask, quiet.id);
    const loud = await submit(ask, { ...echo, callback: { url: receiver.url, events: ['job.succeeded'] } });
    const call = await receiver.next();
    expect(call.json).toMatchObject({ data: { job: { id: loud.id } } });
    expect((await ask('GET', `/v1/jobs/${quiet.id}/deliveries`)).json.items).toEqual([]);
    expect(receiver.requests).toHaveLength(1);
  });
});

describe('the 202 and the callback', () => {
  it('may come in either order: the callback does not wait for the 202 to be read', async () => {
    const receiver = await startReceiver();
    const pending = await postWithoutReading(`${service.url}/v1/jobs`, key, {
      ...echo,
      callback: { url: receiver.url },
    });
    const call = await receiver.next();
    const accepted = await pending.read();
    expect(accepted.status).toBe(202);
    expect(call.json).toMatchObject({ data: { job: { id: accepted.json.id, status: 'succeeded' } } });
    // What came first can be verified with what comes second.
    expect(verify(accepted.json.callback.signing_secret, call)).toEqual(call.json);
  });

  it('may come in either order: a client that has read the 202 waits for the callback', async () => {
    const receiver = await startReceiver();
    const input = { ms: 300 };
    const { id } = await submit(ask, { type: 'ringback.sleep', input, callback: { url: receiver.url } });
    expect(receiver.requests).toHaveLength(0);
    expect((await receiver.next()).json).toMatchObject({ data: { job: { id, output: { slept_ms: 300 } } } });
  });
});

describe('the signing secret', () => {
  it('is shown once: a second submission to the same URL, however spelt, is signed with the first', async () => {
    const receiver = await startReceiver();
    const first = await submit(ask, { ...echo, callback: { url: receiver.url } });
    const second = await submit(ask, { ...echo, callback: { url: receiver.url } });
    const odd = `${receiver.url.replace('http:', 'HTTP:').replace('/callback', '/x/../callback')}#fragment`;
    const third = await submit(ask, { ...echo, callback: { url: odd } });
    for (const { callback } of [second, third]) {
      expect(callback).toEqual({
        endpoint_id: first.callback.endpoint_id,
        url: receiver.url,
        events: first.callback.events,
      });
    }
    for (const call of await receiver.waitFor(3)) verify(first.callback.signing_secret, call);
    expect(JSON.stringify((await ask('GET', `/v1/jobs/${first.id}`)).json)).not.toContain('whsec_');
  });

  it('is shown to exactly one of many submissions at once that name a new URL', async () => {
    const receiver = await startReceiver();
    const jobs = await Promise.all(
      Array.from({ length: 20 }, () => submit(ask, { ...echo, callback: { url: receiver.url } })),
    );
    const secrets = jobs.flatMap(({ callback }) => callback.signing_secret ?? []);
    expect(secrets).toHaveLength(1);
    expect(new Set(jobs.map(({ callback }) => callback.endpoint_id)).size).toBe(1);
    for (const call of await receiver.waitFor(20)) verify(secrets[0], call);
  });

  it('comes with a registered endpoint, once, and signs what names that endpoint', async () => {
    const receiver = await startReceiver();
    const made = await ask('POST', '/v1/endpoints', { url: receiver.url });
    expect(made.status).toBe(201);
    expect(made.headers.get('location')).toBe(`/v1/endpoints/${made.json.id}`);
    const { signing_secret: secret, ...endpoint } = made.json;
    const again = await ask('POST', '/v1/endpoints', { url: receiver.url });
    expect({ status: again.status, json: again.json }).toEqual({ status: 200, json: endpoint });
    expect((await ask('GET', `/v1/endpoints/${endpoint.id}`)).json).toEqual(endpoint);

    const job = await submit(ask, { ...echo, callback: { endpoint_id: endpoint.id } });
    expect(job.callback).toMatchObject({ endpoint_id: endpoint.id, url: receiver.url });
    expect(job.callback).not.toHaveProperty('signing_secret');
    verify(secret, await receiver.next());
  });

  it('is rotated with a grace period in which the old and the new one both sign', async () => {
    const receiver = await startReceiver();
    const { json: endpoint } = await ask('POST', '/v1/endpoints', { url: receiver.url });
    const rotated = await ask('POST', `/v1/endpoints/${endpoint.id}/rotate-secret`);
    expect(rotated.status).toBe(200);
    expect(rotated.json.signing_secret).not.toBe(endpoint.signing_secret);
    expect(Date.parse(rotated.json.old_secrets_sign_until)).toBeGreaterThan(Date.now() + 23 * 3_600_000);

    await submit(ask, { ...echo, callback: { endpoint_id: endpoint.id } });
    const call = await receiver.next();
    expect(signatures(call)).toHaveLength(2);
    verify(endpoint.signing_secret, call);
    verify(rotated.json.signing_secret, call);

    await database.sql`
      UPDATE ringback.endpoint_secrets SET expires_at = now() - interval '1 s'
      WHERE endpoint_id = ${endpoint.id} AND expires_at IS NOT NULL`;
    await submit(ask, { ...echo, callback: { endpoint_id: endpoint.id } });
    const later = await receiver.next();
    expect(signatures(later)).toHaveLength(1);
    verify(rotated.json.signing_secret, later);
    expect(() => verify(endpoint.signing_secret, later)).toThrow('No matching signature');
  });
});
