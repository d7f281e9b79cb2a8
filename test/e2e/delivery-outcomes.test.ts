import type net from 'node:net';
import { beforeAll, describe, expect, it } from 'vitest';
import { ATTEMPT_OUTCOMES, type AttemptOutcome } from '#domain/attempt.ts';
import { DELIVERY_STATUSES, type DeliveryStatus } from '#domain/delivery.ts';
import { HOSTILE_RECEIVERS } from '../integration/egress/hostile-receivers.ts';
import { listen, listenRaw } from '../integration/egress/receivers.ts';
import { useDatabase } from '../support/database.ts';
import { eventually } from '../support/eventually.ts';
import { type Ask, client, submit, untilDone } from './support/api.ts';
import { byPsql, expanded, masked, type Page, readPage, rewrite } from './support/documented-outcomes.ts';
import { serviceEnv, spawnMain, useService } from './support/main-process.ts';

/**
 * docs/guides/delivery-outcomes.md shows what is really there: each outcome and status is brought about, and compared with what the
 * page shows, volatile values masked. `UPDATE_DOCS=1` writes what is there into the page.
 */

const database = useDatabase();
const key = 'rbk_for-delivery-outcomes';
let env: ReturnType<typeof serviceEnv>;
const service = useService(() => {
  env = serviceEnv(database.url, {
    RINGBACK_BOOTSTRAP_KEY: key,
    RINGBACK_CONFIG: 'test/e2e/support/steps.config.ts',
    RINGBACK_CALLBACK_SCHEDULE: '0s,5m',
    RINGBACK_PROGRESS_EVERY_MS: '0',
  });
  return env;
});
const ask: Ask = (...args) => client(service.url, key)(...args);

let page: Page;
beforeAll(async () => {
  page = await readPage();
});

const REFUSED = 'http://127.0.0.1:9';
const raw = (answer: string) => listenRaw((socket) => socket.end(answer));
const plain = async (receiver: Promise<{ port: number }>) => `http://127.0.0.1:${(await receiver).port}`;
const answering = (status: string, body = '', headers = '') =>
  plain(
    raw(`HTTP/1.1 ${status}\r\ncontent-type: text/plain\r\n${headers}content-length: ${body.length}\r\n\r\n${body}`),
  );
/** One of those that the egress tests are about. */
const hostile = (name: string): net.Server => HOSTILE_RECEIVERS.find((one) => one.name === name)!.server();

let count = 0;
async function register(origin: string, settings: object = {}): Promise<string> {
  const made = await ask('POST', '/v1/endpoints', { url: `${origin}/${++count}`, ...settings });
  expect(made.status, made.text).toBe(201);
  return made.json.id;
}

/** A delivery of a job that named the endpoint. */
async function deliveryTo(endpointId: string, asker = ask): Promise<string> {
  const job = await submit(asker, { type: 'ringback.echo', input: 1, callback: { endpoint_id: endpointId } });
  await untilDone(asker, job.id);
  return (await asker('GET', `/v1/jobs/${job.id}/deliveries`)).json.items[0].id;
}

/** As if the name in its URL had been pointed elsewhere since it was registered. */
async function deliveryToRepointed(url: string): Promise<string> {
  const id = await register(REFUSED);
  await database.sql`UPDATE ringback.endpoints SET url = ${url} WHERE id = ${id}`;
  return deliveryTo(id);
}

const attemptsOf = async (id: string, asker = ask) => (await asker('GET', `/v1/deliveries/${id}/attempts`)).json.items;
const untilAttempted = (id: string, asker = ask) =>
  eventually(async () => {
    const items = await attemptsOf(id, asker);
    expect(items).not.toHaveLength(0);
    return items as object[];
  }, 20_000);
const untilStatus = (id: string, status: string) =>
  eventually(async () => {
    const { json } = await ask('GET', `/v1/deliveries/${id}`);
    expect(json).toMatchObject({ status });
    return json as object;
  }, 20_000);

const pick = (from: object, names: readonly string[]) =>
  Object.fromEntries(names.map((name) => [name, (from as Record<string, unknown>)[name]]));

/** Of an attempt, what its outcome shows in. */
function trimmed(attempt: object): object {
  const members = [
    'number',
    'trigger',
    'outcome',
    'error',
    'response',
    'remote_address',
    'finished_at',
    'next_attempt_at',
  ];
  const shown = pick(attempt, members);
  const response = shown['response'] as { body: string } | null;
  if (response === null || response.body.length <= 40) return shown;
  return { ...shown, response: { ...response, body: `${response.body.slice(0, 20)}...` } };
}

const TRIMMED_DELIVERY = ['id', 'event_type', 'status', 'attempts', 'next_attempt_at', 'finished_at'];

/** Runs the page's own statements; psql, where there is one, must print the same. */
async function askSql(id: string, statements: readonly string[]): Promise<string> {
  const printed = [];
  for (const statement of statements) {
    const asked = statement.replaceAll('dlv_...', id);
    const text = await expanded(database.url, asked);
    const bySelf = await byPsql(database.url, asked);
    if (bySelf !== undefined) expect(text.trimEnd(), 'as psql prints it').toBe(bySelf.trimEnd());
    printed.push(text.trimEnd());
  }
  return printed.join('\n');
}

async function expectShown(heading: string, json: object, id: string, statements: readonly string[]): Promise<void> {
  const psql = await askSql(id, statements);
  if (process.env['UPDATE_DOCS'] === '1') return rewrite(heading, json, psql);
  const shown = page.shown(heading);
  expect(JSON.parse(masked(JSON.stringify(json))), `the JSON under ${heading}; UPDATE_DOCS=1 writes it`).toEqual(
    shown.json,
  );
  expect(masked(psql), `what psql prints under ${heading}; UPDATE_DOCS=1 writes it`).toBe(shown.psql);
}

async function expectOutcome(heading: string, outcome: AttemptOutcome, id: string, asker = ask): Promise<void> {
  const [attempt] = await untilAttempted(id, asker);
  expect(attempt).toMatchObject({ outcome });
  await expectShown(heading, trimmed(attempt!), id, page.statements.slice(0, 1));
}

/** How each is brought about; what the last one takes is below. */
const OUTCOMES: Record<Exclude<AttemptOutcome, 'interrupted'>, () => Promise<string>> = {
  delivered: async () => deliveryTo(await register(await answering('200 OK', 'ok'))),
  rejected: async () => deliveryTo(await register(await answering('503 Busy', 'stocktaking', 'retry-after: 120\r\n'))),
  timeout: async () => {
    const receiver = listen(hostile('never answers'));
    return deliveryTo(await register(await plain(receiver), { timeout_ms: 500 }));
  },
  // No name: what stands for one that is not there, wherever this runs.
  dns: () => deliveryToRepointed(`http://${'x'.repeat(64)}.invalid/`),
  network: async () => deliveryTo(await register(REFUSED)),
  tls: async () => {
    const { port } = await listen(hostile('has a certificate of an unknown authority'));
    return deliveryTo(await register(`https://127.0.0.1:${port}`));
  },
  protocol: async () => deliveryTo(await register(await plain(listen(hostile('speaks SSH'))))),
  blocked: () => deliveryToRepointed('http://169.254.169.254/'),
};

const ONCE = { retry_schedule_ms: [0] };

async function paused(): Promise<string> {
  const id = await register(REFUSED);
  await ask('POST', `/v1/endpoints/${id}/pause`);
  return id;
}

async function held(): Promise<string> {
  const id = await register(await answering('410 Gone'), ONCE);
  await untilAttempted(await deliveryTo(id));
  return deliveryTo(id);
}

async function discarded(): Promise<string> {
  const id = await paused();
  const delivery = await deliveryTo(id);
  await ask('DELETE', `/v1/endpoints/${id}`);
  return delivery;
}

/** The first progress of a job that goes on, at an endpoint that takes nothing for now. */
async function superseded(): Promise<string> {
  const callback = { endpoint_id: await paused(), events: ['job.progress'] };
  const { id } = await submit(ask, { type: 'test.steps', input: { steps: 3, every_ms: 600 }, callback });
  await untilDone(ask, id);
  return (await ask('GET', `/v1/jobs/${id}/deliveries`)).json.items[0].id;
}

const STATUSES: Record<DeliveryStatus, () => Promise<string>> = {
  pending: async () => {
    const id = await deliveryTo(await register(await answering('500 Oops')));
    await untilAttempted(id);
    return id;
  },
  delivered: async () => deliveryTo(await register(await answering('200 OK', 'ok'))),
  exhausted: async () => deliveryTo(await register(await answering('500 Oops'), ONCE)),
  held,
  discarded,
  superseded,
};

describe('the page about outcomes', () => {
  it('has a section for every outcome and every status', () => {
    expect(page.headings).toEqual([
      ...ATTEMPT_OUTCOMES,
      'A response that is too large',
      ...DELIVERY_STATUSES.map((status) => `Status ${status}`),
    ]);
  });

  it('names every code that a hostile receiver can bring about, under its outcome', () => {
    for (const { outcome, errorCodes } of HOSTILE_RECEIVERS) {
      for (const code of errorCodes.filter((one) => one !== null && !one.startsWith('status_')))
        expect(page.text(outcome), outcome).toContain(`\`${code}\``);
    }
  });

  it.each(Object.entries(OUTCOMES))('shows an attempt that is %s as it is', async (outcome, bringAbout) => {
    await expectOutcome(outcome, outcome as AttemptOutcome, await bringAbout());
  });

  it('shows an answer without end as it is', async () => {
    const endpoint = await register(await plain(listen(hostile('sends a body without end'))));
    await expectOutcome('A response that is too large', 'delivered', await deliveryTo(endpoint));
  });

  it.each(Object.entries(STATUSES))('shows a delivery that is %s as it is', async (status, bringAbout) => {
    const id = await bringAbout();
    const delivery = await untilStatus(id, status);
    await expectShown(`Status ${status}`, pick(delivery, TRIMMED_DELIVERY), id, page.statements.slice(1));
  });

  it('shows an attempt that is interrupted as it is', async () => {
    const receiver = await listen(hostile('never answers'));
    const endpoint = await register(`http://127.0.0.1:${receiver.port}`);
    const id = await deliveryTo(endpoint);
    await eventually(() => expect(receiver.connections()).toBe(1));
    await service.main.kill();
    // So that nobody waits for what the dead courier holds, nor for what is sent after it.
    await database.sql`UPDATE ringback.delivery_queue SET lease_expires_at = now() WHERE delivery_id = ${id}`;
    const next = spawnMain({ ...env, RINGBACK_ROLES: 'api,keeper' });
    await expectOutcome('interrupted', 'interrupted', id, client(await next.listening(), key));
  });
});
