import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { cpus } from 'node:os';
import { setTimeout as pause } from 'node:timers/promises';
import { openDatabase } from '#store/database.ts';
import { cpuMicros, treeCpuMicros } from './cpu.ts';
import { startPostgres } from './postgres.ts';
import { type BenchService, startService } from './service.ts';

/**
 * `node bench/callbacks.ts`: what an attempt costs while a backlog is sent, to one endpoint and to ten that each hear of every
 * event; and how long callbacks to healthy endpoints take, alone and beside one that never answers and has 10,000 waiting.
 * One process with every role; everything on this machine.
 */
const BACKLOG = Number(process.env['BENCH_BACKLOG'] ?? 10_000);
const ENDPOINTS = 10;
/** Of one phase of the isolation, and how many phases of each kind, alternating. */
const PHASE_S = Number(process.env['BENCH_PHASE_S'] ?? 20);
const PHASES = Number(process.env['BENCH_PHASES'] ?? 2);
const JOBS_PER_SECOND = 100;
/** Short, so that a phase sees the endpoint time out, its circuit open and be tried. */
const TIMEOUT_MS = 5000;
const BATCH = 1000;

interface Receiver {
  readonly origin: string;
  /** Requests so far. */
  readonly count: () => number;
  /** From the event to its arrival, in milliseconds, of those at `/steady`; taken away when they are asked for. */
  readonly takeDelays: () => number[];
  close(): void;
}

/** Answers 200; at `/hang` nothing. */
async function startReceiver(): Promise<Receiver> {
  let count = 0;
  let delays: number[] = [];
  const server = createServer((request, response) => {
    if (request.url === '/hang') {
      request.resume();
      return;
    }
    const isSteady = request.url?.startsWith('/steady') === true;
    let body = '';
    if (isSteady) request.setEncoding('utf8').on('data', (chunk: string) => (body += chunk));
    else request.resume();
    request.on('end', () => {
      count += 1;
      if (isSteady) delays.push(Date.now() - Date.parse((JSON.parse(body) as { timestamp: string }).timestamp));
      response.end();
    });
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    origin: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    count: () => count,
    takeDelays: () => {
      const taken = delays;
      delays = [];
      return taken.toSorted((a, b) => a - b);
    },
    close: () => server.close().closeAllConnections(),
  };
}

interface Bench {
  readonly service: BenchService;
  readonly receiver: Receiver;
  readonly postmaster: number;
  /** Jobs that have not ended. */
  readonly unended: () => Promise<number>;
}

async function ask<T>({ service }: Pick<Bench, 'service'>, method: string, path: string, body?: object): Promise<T> {
  const response = await fetch(`${service.url}${path}`, {
    method,
    headers: { authorization: `Bearer ${service.key}`, 'content-type': 'application/json' },
    ...(body && { body: JSON.stringify(body) }),
  });
  if (!response.ok) throw new Error(`${method} ${path} answered ${response.status}: ${await response.text()}`);
  return (await response.json()) as T;
}

const register = (bench: Bench, path: string, settings: object = {}) =>
  ask<{ id: string }>(bench, 'POST', '/v1/endpoints', { url: `${bench.receiver.origin}${path}`, ...settings });

const echo = (callback?: object) => ({
  type: 'ringback.echo',
  input: { hello: 'world' },
  ...(callback && { callback }),
});

async function until(holds: () => boolean | Promise<boolean>): Promise<void> {
  while (!(await holds())) await pause(20);
}

/** Has so many jobs end, whose callbacks wait. */
async function fill(bench: Bench, jobs: number, callback?: object): Promise<void> {
  for (let sent = 0; sent < jobs; sent += BATCH) {
    const items = Array.from({ length: Math.min(BATCH, jobs - sent) }, () => echo(callback));
    await ask(bench, 'POST', '/v1/jobs/batch', { items });
  }
  await until(async () => (await bench.unended()) === 0);
}

/** Sends what waits for endpoints that are paused; prints the rate, and the CPU that an attempt takes. */
async function measureDrain(bench: Bench, name: string, ids: readonly string[], attempts: number): Promise<void> {
  const { service, receiver, postmaster } = bench;
  const before = {
    count: receiver.count(),
    node: cpuMicros(service.process.pid!),
    postgres: treeCpuMicros(postmaster),
  };
  const startedAt = performance.now();
  for (const id of ids) await ask(bench, 'POST', `/v1/endpoints/${id}/enable`);
  await until(() => receiver.count() - before.count >= attempts);
  const seconds = (performance.now() - startedAt) / 1000;
  const node = (cpuMicros(service.process.pid!) - before.node) / attempts;
  const postgres = (treeCpuMicros(postmaster) - before.postgres) / attempts;
  const cpu = `${(node + postgres).toFixed(0)} us an attempt (Node ${node.toFixed(0)}, PostgreSQL ${postgres.toFixed(0)})`;
  print(name, `${(attempts / seconds).toFixed(0)} attempts/s, ${cpu}`);
}

async function measureSustained(bench: Bench): Promise<void> {
  const { id } = await register(bench, '/one');
  for (const jobs of [BACKLOG / 5, BACKLOG]) {
    await ask(bench, 'POST', `/v1/endpoints/${id}/pause`);
    await fill(bench, jobs, { endpoint_id: id });
    await measureDrain(bench, `one endpoint, ${jobs} deliveries`, [id], jobs);
  }
}

async function measureFanOut(bench: Bench): Promise<void> {
  const ids: string[] = [];
  while (ids.length < ENDPOINTS) {
    const { id } = await register(bench, `/fan-out/${ids.length}`, { event_types: ['job.succeeded'] });
    await ask(bench, 'POST', `/v1/endpoints/${id}/pause`);
    ids.push(id);
  }
  const jobs = BACKLOG / ENDPOINTS;
  await fill(bench, jobs);
  await measureDrain(bench, `${jobs} events to ${ENDPOINTS} endpoints each`, ids, jobs * ENDPOINTS);
  for (const id of ids) await ask(bench, 'PATCH', `/v1/endpoints/${id}`, { event_types: [] });
}

/** A steady stream of jobs for so long, round the healthy endpoints; the delays of their callbacks. */
async function measureSteady(bench: Bench, ids: readonly string[]): Promise<number[]> {
  bench.receiver.takeDelays();
  const jobs = PHASE_S * JOBS_PER_SECOND;
  const startedAt = performance.now();
  const submissions: Promise<unknown>[] = [];
  for (let job = 0; job < jobs; job++) {
    const wait = startedAt + (job * 1000) / JOBS_PER_SECOND - performance.now();
    if (wait > 0) await pause(wait);
    submissions.push(ask(bench, 'POST', '/v1/jobs', echo({ endpoint_id: ids[job % ids.length]! })));
  }
  await Promise.all(submissions);
  const delays: number[] = [];
  await until(() => delays.push(...bench.receiver.takeDelays()) >= jobs);
  return delays.toSorted((a, b) => a - b);
}

const at = (sorted: readonly number[], share: number) => sorted[Math.floor(sorted.length * share)]!;

async function measureIsolation(bench: Bench): Promise<void> {
  const healthy: string[] = [];
  while (healthy.length < ENDPOINTS) healthy.push((await register(bench, `/steady/${healthy.length}`)).id);
  const { id: hanging } = await register(bench, '/hang', { timeout_ms: TIMEOUT_MS, retry_schedule_ms: [0, 3_600_000] });
  await ask(bench, 'POST', `/v1/endpoints/${hanging}/pause`);
  await fill(bench, BACKLOG, { endpoint_id: hanging });
  await measureSteady(bench, healthy); // warms up
  const alone: number[] = [];
  const beside: number[] = [];
  for (let phase = 0; phase < PHASES; phase++) {
    alone.push(...(await measureSteady(bench, healthy)));
    await ask(bench, 'POST', `/v1/endpoints/${hanging}/enable`);
    beside.push(...(await measureSteady(bench, healthy)));
    await ask(bench, 'POST', `/v1/endpoints/${hanging}/pause`);
    await pause(TIMEOUT_MS + 1000); // what is under way there runs out
  }
  const [before, after] = [alone.toSorted((a, b) => a - b), beside.toSorted((a, b) => a - b)];
  const { health } = await ask<{ health: object }>(bench, 'GET', `/v1/endpoints/${hanging}`);
  const figures = (sorted: readonly number[]) =>
    `p50 ${at(sorted, 0.5)} ms, p95 ${at(sorted, 0.95)} ms, p99 ${at(sorted, 0.99)} ms of ${sorted.length}`;
  print('event to arrival, alone', figures(before));
  print(`event to arrival, beside ${BACKLOG} for one that hangs`, figures(after));
  print('ratio of the p99', (at(after, 0.99) / at(before, 0.99)).toFixed(2));
  print('the one that hangs, at the end', JSON.stringify(health));
}

function print(name: string, value: string): void {
  console.log(`${name.padEnd(52)} ${value}`);
}

async function main(): Promise<void> {
  const postgres = await startPostgres();
  const service = await startService(postgres.url);
  const receiver = await startReceiver();
  const db = openDatabase({ url: postgres.url, applicationName: 'ringback-bench', max: 1, pooled: false });
  const unended = async () => {
    const [row] = await db.sql<[{ jobs: number }]>`SELECT count(*)::int AS jobs FROM ringback.run_queue`;
    return row.jobs;
  };
  try {
    console.log(`${cpus().length} cores, Node ${process.version}\n`);
    const bench = { service, receiver, postmaster: postgres.postmaster, unended };
    await measureSustained(bench);
    await measureFanOut(bench);
    await measureIsolation(bench);
  } finally {
    await db.close();
    await service.stop();
    receiver.close();
    await postgres.stop();
  }
}

await main();
