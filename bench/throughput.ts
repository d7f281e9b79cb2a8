import { type ChildProcess, fork } from 'node:child_process';
import { cpuMicros, rssMiB, treeCpuMicros } from './cpu.ts';
import type { LoadOrder, LoadReport } from './load.ts';
import type { ReceiverMessage } from './receiver.ts';
import type { BenchService } from './service.ts';

export const CONNECTIONS = Number(process.env['BENCH_CONNECTIONS'] ?? 64);

export const child = (file: string, env: NodeJS.ProcessEnv = {}): ChildProcess =>
  fork(new URL(file, import.meta.url), [], {
    env: { ...process.env, ...env },
    stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
  });

export function message<T>(from: ChildProcess, wanted: (message: never) => boolean = () => true): Promise<T> {
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

export function run(load: ChildProcess, order: LoadOrder): Promise<LoadReport> {
  const report = message<LoadReport>(load);
  load.send(order);
  return report;
}

async function countOf(receiver: ChildProcess): Promise<number> {
  const reply = message<{ count: number }>(receiver, (received: ReceiverMessage) => received.kind === 'count');
  receiver.send('count');
  return (await reply).count;
}

/** Who submits and who is called back, each in a process of its own. */
export interface Surroundings {
  readonly load: ChildProcess;
  readonly receiver: ChildProcess;
  readonly port: number;
  close(): void;
}

export async function startSurroundings(): Promise<Surroundings> {
  const load = child('load.ts');
  const receiver = child('receiver.ts');
  const { port } = await message<{ port: number }>(receiver, (received: ReceiverMessage) => received.kind === 'port');
  const close = () => {
    load.disconnect();
    receiver.disconnect();
  };
  return { load, receiver, port, close };
}

export function submission(callbackUrl: string): string {
  return JSON.stringify({ type: 'ringback.echo', input: { hello: 'world', n: 1 }, callback: { url: callbackUrl } });
}

/** A service with its database. */
export interface Measured extends Surroundings {
  readonly service: BenchService;
  readonly postmaster: number;
}

export interface Throughput {
  readonly jobsPerSecond: number;
  readonly acceptedPerSecond: number;
  readonly report: LoadReport;
  readonly nodeMicros: number;
  readonly postgresMicros: number;
  readonly rssMiB: number;
}

/** What `jobs` jobs cost, from the first POST to the last callback. */
export async function measureThroughput(
  { service, postmaster, load, receiver, port }: Measured,
  jobs: number,
): Promise<Throughput> {
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
