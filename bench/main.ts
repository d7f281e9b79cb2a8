import type { ChildProcess } from 'node:child_process';
import { cpus } from 'node:os';
import { cpuMicros } from './cpu.ts';
import type { LoadOrder } from './load.ts';
import { startPostgres } from './postgres.ts';
import type { ReceiverMessage } from './receiver.ts';
import { type BenchService, startService } from './service.ts';
import { child, CONNECTIONS, measureThroughput, message, run, startSurroundings, submission } from './throughput.ts';

/**
 * `npm run bench`: what a job costs, from its POST to its callback, through one process with every role.
 * Everything runs on this machine: service, PostgreSQL (durable), load generator, receiver. CPU figures are the
 * processes' own; multiples of a no-op Hono request make them comparable between machines.
 */
const JOBS = Number(process.env['BENCH_JOBS'] ?? 20_000);
const LATENCY_SAMPLES = 200;

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
  const postgres = await startPostgres();
  const surroundings = await startSurroundings();
  const service = await startService(postgres.url);
  try {
    console.log(`${cpus().length} cores, Node ${process.version}, ${JOBS} jobs over ${CONNECTIONS} connections\n`);
    const yardstick = await measureYardstick(surroundings.load);
    const latency = await measureLatency(service, surroundings.receiver, surroundings.port);
    const at = (share: number) => latency[Math.floor(latency.length * share)]!.toFixed(1);
    const measured = { ...surroundings, service, postmaster: postgres.postmaster };
    await measureThroughput(measured, Math.min(JOBS, 4000)); // warms up
    const result = await measureThroughput(measured, JOBS);
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
    surroundings.close();
    await postgres.stop();
  }
}

await main();
