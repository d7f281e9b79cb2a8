import { beforeAll, describe, expect, it } from 'vitest';
import { SUBSCRIBABLE_EVENT_TYPES } from '#domain/endpoint-policy.ts';
import { newId } from '#domain/ids.ts';
import { endpointEvent } from '../../src/callbacks/settle.ts';
import { useDatabase } from '../support/database.ts';
import { eventually } from '../support/eventually.ts';
import { type Receiver, startReceiver } from '../support/receiver.ts';
import { client, submit, untilDone } from './support/api.ts';
import { faultsOf, resolveRef, type Schema } from './support/json-schema.ts';
import { serviceEnv, useService } from './support/main-process.ts';

const database = useDatabase();
const key = 'rbk_for-webhooks';
const service = useService(() =>
  serviceEnv(database.url, {
    RINGBACK_BOOTSTRAP_KEY: key,
    RINGBACK_CONFIG: 'test/e2e/support/steps.config.ts',
    RINGBACK_CALLBACK_SCHEDULE: '0s',
    RINGBACK_PROGRESS_EVERY_MS: '0',
  }),
);
const ask = (...args: Parameters<ReturnType<typeof client>>) => client(service.url, key)(...args);

interface Operation {
  readonly summary: string;
  readonly description: string;
  readonly security: unknown[];
  readonly parameters: ReadonlyArray<{ name: string; in: string; required: boolean }>;
  readonly requestBody: { required: boolean; content: Record<string, { schema: Schema }> };
  readonly responses: Record<string, { description: string; content?: Record<string, { schema: Schema }> }>;
}
let document: { readonly webhooks: Record<string, { readonly post: Operation }> };
beforeAll(async () => {
  document = (await ask('GET', '/openapi.json')).json;
});

const schemaOf = (type: string) => document.webhooks[type]!.post.requestBody.content['application/json']!.schema;

/** Members that a payload has and its schema does not declare: a free form (`output`, `metadata`) declares all. */
function undeclared(schema: Schema, value: unknown, at = ''): string[] {
  const target = schema.$ref === undefined ? schema : resolveRef(document, schema.$ref)!;
  if (target.properties === undefined || typeof value !== 'object' || value === null) return [];
  return Object.entries(value).flatMap(([name, member]) => {
    const known = target.properties![name];
    return known === undefined ? [`${at}/${name}`] : undeclared(known, member, `${at}/${name}`);
  });
}

function expectDescribed(body: unknown): void {
  const { type } = body as { type: string };
  const text = JSON.stringify(body);
  expect(faultsOf(document, schemaOf(type), body), text).toEqual([]);
  expect(undeclared(schemaOf(type), body), text).toEqual([]);
}

/** What the receiver has got so far, by type. */
const byType = ({ requests }: Receiver) =>
  new Map(requests.map((request) => [(request.json as { type: string }).type, request]));

/** Each way in which a job can go. */
async function runJobs(): Promise<void> {
  const job = { type: 'ringback.echo', input: 1 };
  const later = new Date(Date.now() + 3_600_000).toISOString();
  const succeeding = { type: 'test.steps', input: { steps: 2, every_ms: 1000 } };
  const failing = { type: 'ringback.fail', input: { times: 1 }, retry: { max_runs: 1 } };
  await submit(ask, { ...succeeding, metadata: { a: 'b' }, priority: 3, timeout_ms: 5000 });
  await submit(ask, failing);
  await submit(ask, { type: 'test.undone', input: 1, expires_at: new Date(Date.now() + 500).toISOString() });
  const { id } = await submit(ask, { ...job, run_at: later });
  await ask('POST', `/v1/jobs/${id}/cancel`);
}

/** An endpoint that answers with a status, and the job whose callback met it. */
async function sendTo(status: number): Promise<string> {
  const receiver = await startReceiver();
  receiver.answerAll({ status });
  const { id } = (await ask('POST', '/v1/endpoints', { url: receiver.url })).json;
  const job = await submit(ask, { type: 'ringback.echo', input: 1, callback: { endpoint_id: id } });
  await untilDone(ask, job.id);
  await receiver.next();
  return id;
}

describe('the webhooks of the OpenAPI document', () => {
  it('are what an endpoint can be told of, each once', () => {
    expect(Object.keys(document.webhooks).toSorted()).toEqual([...SUBSCRIBABLE_EVENT_TYPES].toSorted());
  });

  it('say for each what it is, how it is signed, and what answers mean', () => {
    const names = new Set<string>();
    for (const [type, { post }] of Object.entries(document.webhooks)) {
      names.add(schemaOf(type).$ref!);
      expect([post.summary.length > 0, post.security, post.requestBody.required], type).toEqual([true, [], true]);
      expect(post.parameters, type).toMatchObject(
        ['webhook-id', 'webhook-timestamp', 'webhook-signature'].map((name) => ({
          name,
          in: 'header',
          required: true,
        })),
      );
      const known = ['2XX', '3XX', '410', '429', '502', '503', '504', 'default'];
      const statuses = type === 'endpoint.challenge' ? ['2XX', 'default'] : known;
      expect(Object.keys(post.responses).toSorted(), type).toEqual(statuses.toSorted());
      for (const { description } of Object.values(post.responses)) expect(description, type).toBeTruthy();
    }
    expect(names.size, 'a schema each').toBe(SUBSCRIBABLE_EVENT_TYPES.length);
  });

  it('describe what is really sent, to the last member', async () => {
    const receiver = await startReceiver();
    const event_types = ['job.queued', 'job.*', 'endpoint.*', 'delivery.*'];
    const { id } = (await ask('POST', '/v1/endpoints', { url: receiver.url, event_types })).json;
    await runJobs();
    await sendTo(500);
    const gone = await sendTo(410);
    await eventually(async () => {
      expect((await ask('GET', `/v1/endpoints/${gone}`)).json).toMatchObject({ status: 'disabled' });
    });
    await ask('POST', `/v1/endpoints/${gone}/enable`);
    await ask('POST', `/v1/endpoints/${id}/ping`);
    const sent = SUBSCRIBABLE_EVENT_TYPES.filter((type) => type !== 'endpoint.challenge');
    await eventually(() => expect([...byType(receiver).keys()].toSorted()).toEqual([...sent].toSorted()), 20_000);
    await ask('DELETE', `/v1/endpoints/${id}`);
    for (const { json, headers } of receiver.requests) {
      expectDescribed(json);
      expect(headers).toMatchObject({ 'webhook-id': expect.stringMatching(/^evt_/) });
    }
  });

  it('describe a challenge, and how it is to be answered', () => {
    const now = Date.now();
    const about = { accountId: newId('acc', now), endpointId: newId('ep', now) };
    const { body } = endpointEvent('endpoint.challenge', about, new Date(now), { challenge: 'x'.repeat(32) });
    expectDescribed(JSON.parse(body));
    const { content } = document.webhooks['endpoint.challenge']!.post.responses['2XX']!;
    const echo = { challenge: 'x'.repeat(32) };
    expect(faultsOf(document, content!['application/json']!.schema, echo)).toEqual([]);
    expect(content!['application/json']!.schema.required).toEqual(['challenge']);
    expect(content!['text/plain']!.schema).toEqual({ type: 'string' });
  });

  it('refuse what is not sent', () => {
    const event = { type: 'endpoint.disabled', timestamp: '2026-01-31T12:00:00Z', data: { endpoint: { id: 'ep_1' } } };
    expect(faultsOf(document, schemaOf('endpoint.disabled'), event)).toEqual(['/data/reason: is missing']);
    expect(faultsOf(document, schemaOf('job.failed'), event)).not.toEqual([]);
  });
});
