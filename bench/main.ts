import { type ChildProcess, fork } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { cpus, tmpdir } from 'node:os';
import { join } from 'node:path';
import { startEmbeddedPostgres } from '#embedded/postgres.ts';
import { cpuMicros, rssMiB, treeCpuMicros } from './cpu.ts';
import type { LoadOrder, LoadReport } from './load.ts';
import type { ReceiverMessage } from './receiver.ts';
import { type BenchService, startService } from './service.ts';

/**
 * `npm run bench`: what a job costs, from its POST to its callback, through one process with every role.
 * Everything runs on this machine: service, PostgreSQL (durable), load generator, receiver. CPU figures are the
 * processes' own; multiples of a no-op Hono request make them comparable between machines.
 */
const JOBS = Number(process.env['BENCH_JOBS'] ?? 20_000);
const CONNECTIONS = Number(process.env['BENCH_CONNECTIONS'] ?? 64);
const LATENCY_SAMPLES = 200;

const child = (file: string, env: NodeJS.ProcessEnv = {}): ChildProcess =>
  fork(new URL(file, import.meta.url), [], {
    env: { ...process.env, ...env },
    stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
  });

function message<T>(from: ChildProcess, wanted: (message: never) => boolean = () => true): Promise<T> {
  const { promise, resolve, reject } = Promise.withResolvers<T>();
  const onMessage = (received: unknown) => {
    if (!wanted(received as never)) return;
    from.off('message', onMessage).off('exit', onExit);
    resolve(received as T);
  };
  const onExit = (code: number | null) => reject(new Error(`a child process ended with ${code}`));
  from.on('message', onMessage).on('exit', onExit);
  return promise;
}

function run(load: ChildProcess, order: LoadOrder): Promise<LoadReport> {
  const report = message<LoadReport>(load);
  load.send(order);
  return report;
}

async function countOf(receiver: ChildProcess): Promise<number> {
  const reply = message<{ count: number }>(receiver, (received: ReceiverMessage) => received.kind === 'count');
  receiver.send('count');
  return (await reply).count;
}

/** Submits one job at a time; milliseconds from just before the POST until the receiver has the callback. */
async function measureLatency(service: BenchService, receiver: ChildProcess, port: number): Promise<number[]> {
  const times: number[] = [];
  for (let sample = 0; sample < LATENCY_SAMPLES; sample++) {
    const arrival = message<{ at: number }>(receiver, (received: ReceiverMessage) => received.kind === 'one');
    const sentAt = performance.timeOrigin + performance.now();
    const response = await fetch(`${service.url}/v1/jobs`, {
      method: 'POST',
      headers: { authorization: `Bearer ${service.key}`, 'content-type': 'application/json' },
      body: submission(`http://127.0.0.1:${port}/one`),
    });
    if (response.status !== 202) throw new Error(`submission answered ${response.status}: ${await response.text()}`);
    await response.text();
    times.push((await arrival).at - sentAt);
  }
  return times.slice(LATENCY_SAMPLES / 10).toSorted((a, b) => a - b);
}

function submission(callbackUrl: string): string {
  return JSON.stringify({ type: 'ringback.echo', input: { hello: 'world', n: 1 }, callback: { url: callbackUrl } });
}

interface Throughput {
  readonly jobsPerSecond: number;
  readonly acceptedPerSecond: number;
  readonly report: LoadReport;
  readonly nodeMicros: number;
  readonly postgresMicros: number;
  readonly rssMiB: number;
}

async function measureThroughput(
  service: BenchService,
  parts: { load: ChildProcess; receiver: ChildProcess; port: number; postmaster: number; jobs: number },
): Promise<Throughput> {
  const { load, receiver, port, postmaster, jobs } = parts;
  const pid = service.process.pid!;
  const before = { count: await countOf(receiver), node: cpuMicros(pid), postgres: treeCpuMicros(postmaster) };
  const started = performance.now();
  let peak = 0;
  const sampler = setInterval(() => (peak = Math.max(peak, rssMiB(pid))), 100);
  const report = await run(load, {
    origin: service.url,
    method: 'POST',
    path: '/v1/jobs',
    headers: { authorization: `Bearer ${service.key}`, 'content-type': 'application/json' },
    body: submission(`http://127.0.0.1:${port}/many`),
    requests: jobs,
    connections: CONNECTIONS,
  });
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  const deadline = performance.now() + 120_000;
  const poll = setInterval(() => {
    countOf(receiver).then((count) => {
      if (count - before.count >= jobs) resolve();
      else if (performance.now() > deadline)
        reject(new Error(`only ${count - before.count} of ${jobs} callbacks arrived`));
    }, reject);
  }, 20);
  await promise.finally(() => clearInterval(poll));
  const seconds = (performance.now() - started) / 1000;
  clearInterval(sampler);
  return {
    jobsPerSecond: jobs / seconds,
    acceptedPerSecond: jobs / report.seconds,
    report,
    nodeMicros: (cpuMicros(pid) - before.node) / jobs,
    postgresMicros: (treeCpuMicros(postmaster) - before.postgres) / jobs,
    rssMiB: peak,
  };
}

/** CPU of a no-op Hono request, in microseconds. */
async function measureYardstick(load: ChildProcess): Promise<number> {
  const noop = child('noop.ts');
  const { port } = await message<{ port: number }>(noop);
  const order: LoadOrder = {
    origin: `http://127.0.0.1:${port}`,
    method: 'GET',
    path: '/',
    headers: {},
    requests: 20_000,
    connections: CONNECTIONS,
  };
  await run(load, order);
  const before = cpuMicros(noop.pid!);
  await run(load, { ...order, requests: 40_000 });
  const micros = (cpuMicros(noop.pid!) - before) / 40_000;
  noop.disconnect();
  return micros;
}

function print(name: string, value: string): void {
  console.log(`${name.padEnd(44)} ${value}`);
}

async function main(): Promise<void> {
  const dataDir = await mkdtemp(join(tmpdir(), 'ringback-bench-'));
  const postgres = await startEmbeddedPostgres({ dataDir });
  const postmaster = Number(readFileSync(join(postgres.clusterDir, 'postmaster.pid'), 'utf8').split('\n')[0]);
  const load = child('load.ts');
  const receiver = child('receiver.ts');
  const { port } = await message<{ port: number }>(receiver, (received: ReceiverMessage) => received.kind === 'port');
  const service = await startService(postgres.url);
  try {
    console.log(`${cpus().length} cores, Node ${process.version}, ${JOBS} jobs over ${CONNECTIONS} connections\n`);
    const yardstick = await measureYardstick(load);
    const latency = await measureLatency(service, receiver, port);
    const at = (share: number) => latency[Math.floor(latency.length * share)]!.toFixed(1);
    const parts = { load, receiver, port, postmaster };
    await measureThroughput(service, { ...parts, jobs: Math.min(JOBS, 4000) }); // warms up
    const result = await measureThroughput(service, { ...parts, jobs: JOBS });
    const total = result.nodeMicros + result.postgresMicros;
    print('idle: submit to callback received', `p50 ${at(0.5)} ms, p95 ${at(0.95)} ms, p99 ${at(0.99)} ms`);
    print(
      'load: end to end',
      `${result.jobsPerSecond.toFixed(0)} jobs/s (accepted ${result.acceptedPerSecond.toFixed(0)}/s)`,
    );
    print('load: POST answered', `p50 ${result.report.p50Ms.toFixed(1)} ms, p99 ${result.report.p99Ms.toFixed(1)} ms`);
    print('load: statuses', JSON.stringify(result.report.byStatus));
    print('CPU of a no-op Hono request', `${yardstick.toFixed(1)} us`);
    const times = (micros: number) => `${micros.toFixed(0)} us = ${(micros / yardstick).toFixed(1)} no-op requests`;
    print('CPU a job: Node', times(result.nodeMicros));
    print('CPU a job: PostgreSQL', times(result.postgresMicros));
    print('CPU a job: all', times(total));
    print('RSS of the service, peak', `${result.rssMiB.toFixed(0)} MiB`);
  } finally {
    await service.stop();
    load.disconnect();
    receiver.disconnect();
    await postgres.stop();
    await rm(dataDir, { recursive: true, force: true });
  }
}

await main();
