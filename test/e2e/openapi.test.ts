import { beforeAll, describe, expect, it } from 'vitest';
import { useDatabase } from '../support/database.ts';
import { startReceiver } from '../support/receiver.ts';
import { type Answer, client, submit, untilDone } from './support/api.ts';
import { faultsOf, resolveRef, type Schema } from './support/json-schema.ts';
import { serviceEnv, useService } from './support/main-process.ts';

const database = useDatabase();
const key = 'rbk_for-openapi';
const service = useService(() => serviceEnv(database.url, { RINGBACK_BOOTSTRAP_KEY: key }));
const ask = (...args: Parameters<ReturnType<typeof client>>) => client(service.url, key)(...args);

interface Operation {
  readonly summary?: string;
  readonly security?: unknown[];
  readonly parameters?: ReadonlyArray<{ name: string; in: string; required?: boolean; schema: Schema }>;
  readonly requestBody?: { required?: boolean; content: Record<string, { schema: Schema }> };
  readonly responses: Record<
    string,
    { description?: string; content?: Record<string, { schema: Schema }>; headers?: object }
  >;
}

interface Document {
  readonly openapi: string;
  readonly info: { title: string; version: string };
  readonly paths: Record<string, Record<string, Operation>>;
  readonly components: { schemas: Record<string, Schema>; securitySchemes: object };
}

let document: Document;
beforeAll(async () => {
  document = (await ask('GET', '/openapi.json')).json;
});

function operations(): Array<{ name: string; path: string; method: string; operation: Operation }> {
  return Object.entries(document.paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, operation]) => ({
      name: `${method.toUpperCase()} ${path}`,
      path,
      method,
      operation,
    })),
  );
}

/** Of every template that fits the path: `/v1/jobs/batch` is one of `/v1/jobs/{id}` as well. */
function methodsAt(path: string): string[] {
  const fitting = Object.keys(document.paths).filter((template) =>
    new RegExp(`^${template.replaceAll(/\{\w+\}/g, '[^/]+')}$`).test(path),
  );
  const methods = fitting.flatMap((template) => Object.keys(document.paths[template]!));
  return [...new Set(methods.map((name) => name.toUpperCase()))].toSorted();
}

/** The token in the path is the authority of a back end. */
const needsKey = (path: string) => path.startsWith('/v1/') && !path.startsWith('/v1/completions/');

/** The contract's routes that there are so far, and what the service tells about itself. */
const ROUTES = [
  'DELETE /v1/schedules/{id}',
  'GET /.well-known/jwks.json',
  'GET /healthz',
  'GET /readyz',
  'GET /v1/deliveries',
  'GET /v1/deliveries/{id}',
  'GET /v1/deliveries/{id}/attempts',
  'GET /v1/endpoints',
  'GET /v1/endpoints/{id}',
  'GET /v1/endpoints/{id}/secrets',
  'GET /v1/events',
  'GET /v1/job-types',
  'GET /v1/jobs',
  'GET /v1/jobs/{id}',
  'GET /v1/jobs/{id}/deliveries',
  'GET /v1/jobs/{id}/events',
  'GET /v1/jobs/{id}/logs',
  'GET /v1/jobs/{id}/result',
  'GET /v1/jobs/{id}/runs',
  'GET /v1/schedules',
  'GET /v1/schedules/{id}',
  'PATCH /v1/schedules/{id}',
  'POST /v1/completions/{token}',
  'POST /v1/completions/{token}/progress',
  'POST /v1/endpoints',
  'POST /v1/endpoints/{id}/rotate-secret',
  'POST /v1/jobs',
  'POST /v1/jobs/batch',
  'POST /v1/jobs/{id}/cancel',
  'POST /v1/schedules',
  'POST /v1/schedules/{id}/pause',
  'POST /v1/schedules/{id}/resume',
  'POST /v1/schedules/{id}/trigger',
  'POST /v1/worker/claims',
  'POST /v1/worker/runs/{handle}/complete',
  'POST /v1/worker/runs/{handle}/fail',
  'POST /v1/worker/runs/{handle}/heartbeat',
  'POST /v1/worker/runs/{handle}/log',
  'POST /v1/worker/runs/{handle}/progress',
  'POST /v1/worker/runs/{handle}/release',
  'PUT /v1/completions/{token}/result',
  'PUT /v1/worker/runs/{handle}/result',
];

describe('the OpenAPI document', () => {
  it('is there without a key, as OpenAPI 3.1', async () => {
    const response = await fetch(`${service.url}/openapi.json`);
    expect(response.status).toBe(200);
    expect(response.headers.get('content-type')).toMatch(/^application\/json/);
    expect(document).toMatchObject({
      openapi: expect.stringMatching(/^3\.1\.\d+$/),
      info: { title: 'Ringback', version: expect.any(String) },
      servers: [{ url: service.url }],
      components: { securitySchemes: { apiKey: { type: 'http', scheme: 'bearer' } } },
    });
  });

  it('has every route of the contract that there is', () => {
    expect(operations().map(({ name }) => name)).toEqual(expect.arrayContaining(ROUTES));
  });

  it('has no route that the service does not have, and answers them with what it declares', async () => {
    for (const { name, path, method, operation } of operations()) {
      const answer = await ask(
        method.toUpperCase(),
        path.replace(/\{\w+\}/, 'nonsense'),
        method === 'post' ? {} : undefined,
      );
      expect(Object.keys(operation.responses), `${name}: ${answer.text}`).toContain(String(answer.status));
      expect(answer.json?.code, name).not.toBe('route_not_found');
    }
  });

  it('says what the service itself says of the methods of each path', async () => {
    for (const path of Object.keys(document.paths)) {
      const answer = await ask('PROPFIND', path.replace(/\{\w+\}/, 'nonsense'));
      const allowed = answer.headers
        .get('allow')
        ?.split(', ')
        .filter((method) => method !== 'HEAD');
      expect(allowed?.toSorted(), path).toEqual(methodsAt(path));
    }
  });

  it('refers to nothing that it does not hold', () => {
    const refs = [...JSON.stringify(document).matchAll(/"\$ref":"([^"]+)"/g)].map(([, ref]) => ref!);
    expect(refs.length).toBeGreaterThan(10);
    for (const ref of refs) expect(resolveRef(document, ref), ref).toBeTypeOf('object');
  });

  it('declares every parameter of a path, and a summary and a description everywhere', () => {
    for (const { name, path, operation } of operations()) {
      const inPath = [...path.matchAll(/\{(\w+)\}/g)].map(([, parameter]) => parameter);
      const declared = (operation.parameters ?? []).filter((parameter) => parameter.in === 'path');
      expect(
        declared.map((parameter) => parameter.name),
        name,
      ).toEqual(inPath);
      for (const parameter of declared) expect(parameter.required, name).toBe(true);
      expect(operation.summary, name).toBeTruthy();
      for (const response of Object.values(operation.responses)) expect(response.description, name).toBeTruthy();
    }
  });

  it('declares problems for what can go wrong, as problem+json', () => {
    for (const { name, path, method, operation } of operations()) {
      if (!path.startsWith('/v1/')) continue;
      const declared = Object.keys(operation.responses);
      expect(declared, name).toEqual(expect.arrayContaining(['401', '403', '500', '503']));
      if (path.includes('{id}')) expect(declared, name).toEqual(expect.arrayContaining(['400', '404']));
      if (operation.requestBody) expect(declared, name).toEqual(expect.arrayContaining(['400', '413', '415', '422']));
      expect(method === 'get' && operation.requestBody !== undefined, name).toBe(false);
      for (const status of declared.filter((text) => Number(text) >= 400)) {
        expect(Object.keys(operation.responses[status]!.content ?? {}), name).toEqual(['application/problem+json']);
      }
    }
  });

  it('needs a key for /v1, completion URLs aside, and for nothing else', async () => {
    for (const { name, path, method, operation } of operations()) {
      const response = await fetch(`${service.url}${path.replace(/\{\w+\}/, 'x')}`, { method: method.toUpperCase() });
      expect(response.status === 401, name).toBe(needsKey(path));
      expect(operation.security, name).toEqual(needsKey(path) ? undefined : []);
    }
  });
});

describe('what the service answers', () => {
  const expectDeclared = (answer: Answer, method: string, path: string) => {
    const response = document.paths[path]?.[method]?.responses[answer.status];
    const type = answer.headers.get('content-type')!.split(';')[0]!;
    const schema = response?.content?.[type]?.schema;
    expect(schema, `${method} ${path}: ${answer.status} ${type} is not declared`).toBeDefined();
    expect(faultsOf(document, schema!, answer.json), `${method} ${path}: ${answer.text}`).toEqual([]);
  };

  it('fits its schemas, on every route, whatever became of the job', async () => {
    const receiver = await startReceiver();
    receiver.script({ status: 500, headers: { 'x-odd': 'ä' }, body: 'no' });
    const callback = { url: receiver.url };
    const accepted = await ask('POST', '/v1/jobs', {
      type: 'ringback.echo',
      input: { a: 1 },
      callback,
      metadata: { b: 'c' },
    });
    expectDeclared(accepted, 'post', '/v1/jobs');
    await receiver.next();
    const { id } = accepted.json;
    await untilDone(ask, id);
    const sleeping = await submit(ask, { type: 'ringback.sleep', input: { ms: 600_000 } });
    const failing = await submit(ask, { type: 'ringback.fail', input: { times: 9 } });
    await untilDone(ask, failing.id);

    for (const job of [id, sleeping.id, failing.id, 'job_nonsense']) {
      for (const rest of ['', '/result', '/logs', '/runs', '/deliveries', '/events']) {
        expectDeclared(await ask('GET', `/v1/jobs/${job}${rest}`), 'get', `/v1/jobs/{id}${rest}`);
      }
      expectDeclared(await ask('POST', `/v1/jobs/${job}/cancel`), 'post', '/v1/jobs/{id}/cancel');
    }
    const [delivery] = (await ask('GET', `/v1/jobs/${id}/deliveries`)).json.items;
    for (const rest of ['', '/attempts']) {
      expectDeclared(await ask('GET', `/v1/deliveries/${delivery.id}${rest}`), 'get', `/v1/deliveries/{id}${rest}`);
    }
    const endpoint = `/v1/endpoints/${delivery.endpoint_id}`;
    expectDeclared(await ask('GET', endpoint), 'get', '/v1/endpoints/{id}');
    expectDeclared(await ask('POST', `${endpoint}/rotate-secret`), 'post', '/v1/endpoints/{id}/rotate-secret');
    const asymmetric = { scheme: 'v1a', grace_ms: 0 };
    expectDeclared(
      await ask('POST', `${endpoint}/rotate-secret`, asymmetric),
      'post',
      '/v1/endpoints/{id}/rotate-secret',
    );
    expectDeclared(await ask('GET', `${endpoint}/secrets`), 'get', '/v1/endpoints/{id}/secrets');
    for (const query of [`?endpoint_id=${delivery.endpoint_id}`, ''])
      expectDeclared(await ask('GET', `/.well-known/jwks.json${query}`), 'get', '/.well-known/jwks.json');
    expectDeclared(await ask('POST', '/v1/endpoints', callback), 'post', '/v1/endpoints');
    expectDeclared(await ask('POST', '/v1/endpoints', { url: `${receiver.url}/new` }), 'post', '/v1/endpoints');
    expectDeclared(await ask('POST', '/v1/endpoints', { url: 'ftp://x' }), 'post', '/v1/endpoints');
    expectDeclared(await ask('POST', '/v1/jobs', { type: 'ringback.ecko', input: 1 }), 'post', '/v1/jobs');
    for (const path of [
      '/v1/jobs',
      '/v1/deliveries',
      '/v1/events',
      '/v1/endpoints',
      '/v1/job-types',
      '/healthz',
      '/readyz',
    ]) {
      expectDeclared(await ask('GET', path), 'get', path);
    }
  });

  it('to a batch fits its schema, whatever became of its items', async () => {
    const items = [{ type: 'ringback.echo', run_at: '2100-01-01T00:00:00Z' }, { type: 'ringback.ecko' }, 7];
    for (const batch of [{ items }, { items: [] }, []]) {
      expectDeclared(await ask('POST', '/v1/jobs/batch', batch), 'post', '/v1/jobs/batch');
    }
  });

  it('about schedules fits its schemas', async () => {
    const schedule = {
      name: 'nightly',
      cron: '@daily',
      job: { type: 'ringback.echo', callback: { url: 'http://127.0.0.1:9/' } },
    };
    for (const body of [schedule, schedule, { ...schedule, name: 'other', cron: 'never' }]) {
      expectDeclared(await ask('POST', '/v1/schedules', body), 'post', '/v1/schedules');
    }
    const { json } = await ask('GET', '/v1/schedules');
    for (const id of [json.items[0].id, 'sch_nonsense']) {
      for (const action of ['trigger', 'pause', 'resume']) {
        const answer = await ask('POST', `/v1/schedules/${id}/${action}`);
        expectDeclared(answer, 'post', `/v1/schedules/{id}/${action}`);
      }
      expectDeclared(await ask('GET', `/v1/schedules/${id}`), 'get', '/v1/schedules/{id}');
      expectDeclared(await ask('PATCH', `/v1/schedules/${id}`, { cron: '@weekly' }), 'patch', '/v1/schedules/{id}');
    }
    expectDeclared(await ask('GET', '/v1/schedules'), 'get', '/v1/schedules');
  });

  it('to a submission agrees with the schema about what is required', async () => {
    const schema = document.paths['/v1/jobs']!['post']!.requestBody!.content['application/json']!.schema;
    for (const body of [
      {},
      { type: 'ringback.echo' },
      { type: 'ringback.echo', input: 1 },
      { input: 1, type: 'x', y: 1 },
    ]) {
      const refused = (await ask('POST', '/v1/jobs', body)).json.code === 'invalid_body';
      expect(faultsOf(document, schema, body).length > 0, JSON.stringify(body)).toBe(refused);
    }
  });
});
