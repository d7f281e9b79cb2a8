import { fork } from 'node:child_process';
import { cpus } from 'node:os';
import { setTimeout as pause } from 'node:timers/promises';
import postgres, { type Sql } from 'postgres';
import { cpuMicros, rssMiB } from './cpu.ts';
import { startPostgres } from './postgres.ts';
import { type BenchService, startService } from './service.ts';
import type { WaitMessage, WaitOrder } from './waiting-clients.ts';

/**
 * `node bench/waiters.ts`: what 5,000 clients cost that hold `Prefer: wait` on a job each, while nothing happens, and how
 * soon they are told when something does. Two processes with the API: the clients wait at one; jobs end there or at the
 * other one. Times are from the job's `finished_at`, which is taken before its commit, to the client's having the answer.
 */
const WAITERS = Number(process.env['BENCH_WAITERS'] ?? 5000);
const IDLE_SECONDS = Number(process.env['BENCH_IDLE_SECONDS'] ?? 30);
const ONE_BY_ONE = 200;
const AT_ONCE = 64;

interface Scene {
  readonly sql: Sql;
  readonly here: BenchService;
  readonly there: BenchService;
  readonly told: Map<string, number>;
}

function ask({ url, key }: BenchService, path: string, body?: object): Promise<Response> {
  const headers = { authorization: `Bearer ${key}`, 'content-type': 'application/json' };
  return fetch(`${url}${path}`, { method: 'POST', headers, ...(body && { body: JSON.stringify(body) }) });
}

/** Jobs that nobody runs: they wait for an hour. */
async function makeJobs(at: BenchService): Promise<string[]> {
  const runAt = new Date(Date.now() + 3_600_000).toISOString();
  const jobs: string[] = [];
  for (let left = WAITERS; left > 0; left -= 1000) {
    const item = { type: 'ringback.echo', input: 1, run_at: runAt };
    const response = await ask(at, '/v1/jobs/batch', {
      items: Array.from({ length: Math.min(left, 1000) }, () => item),
    });
    const { items } = (await response.json()) as { items: { job: { id: string } }[] };
    jobs.push(...items.map(({ job }) => job.id));
  }
  return jobs;
}

/** PostgreSQL's counts are whole once a session has been idle for ten seconds. */
const SETTLE_MS = 12_000;

/** All clients ask, and wait until `work` is done: less than the minute after which they would ask again. */
async function whileWaiting<T>({ here, told }: Scene, jobs: readonly string[], work: () => Promise<T>): Promise<T> {
  const clients = fork(new URL('waiting-clients.ts', import.meta.url), [], {
    stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
  });
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  clients.on('exit', (code) => reject(new Error(`the clients ended with ${code}`)));
  clients.on('message', (message: WaitMessage) => {
    if (message.kind === 'asked') resolve();
    else told.set(message.job, message.at - message.finishedAt);
  });
  const order: WaitOrder = { origin: here.url, key: here.key, jobs };
  clients.send(order);
  try {
    await promise;
    return await work();
  } finally {
    clients.disconnect();
  }
}

async function measureIdle({ sql, here, there }: Scene): Promise<{ statements: number; cpuMs: number }> {
  const committed = async () => {
    const [row] = await sql<[{ commits: number }]>`
      SELECT xact_commit::int AS commits FROM pg_stat_database WHERE datname = current_database()`;
    return row.commits;
  };
  const cpu = () => (cpuMicros(here.process.pid!) + cpuMicros(there.process.pid!)) / 1000;
  const before = { commits: await committed(), cpu: cpu() };
  await pause(IDLE_SECONDS * 1000);
  return {
    statements: ((await committed()) - before.commits) / IDLE_SECONDS,
    cpuMs: (cpu() - before.cpu) / IDLE_SECONDS,
  };
}

async function cancel(at: BenchService, job: string): Promise<void> {
  const response = await ask(at, `/v1/jobs/${job}/cancel`);
  if (response.status !== 200) throw new Error(`${response.status}: ${await response.text()}`);
  await response.text();
}

/** Ends the jobs, so many at a time; milliseconds until each client was told, in their order. */
async function measureWakes(
  at: BenchService,
  jobs: readonly string[],
  { told }: Scene,
  atOnce: number,
): Promise<number[]> {
  const queue = [...jobs];
  const work = async () => {
    for (let job = queue.pop(); job !== undefined; job = queue.pop()) {
      await cancel(at, job);
      if (atOnce === 1) await untilTold([job], told);
    }
  };
  await Promise.all(Array.from({ length: atOnce }, work));
  await untilTold(jobs, told);
  return jobs.map((job) => told.get(job)!).toSorted((a, b) => a - b);
}

async function untilTold(jobs: readonly string[], told: Map<string, number>): Promise<void> {
  const deadline = performance.now() + 60_000;
  while (!jobs.every((job) => told.has(job))) {
    if (performance.now() > deadline) throw new Error(`${jobs.filter((job) => !told.has(job)).length} were not told`);
    await pause(5);
  }
}

function print(name: string, value: string): void {
  console.log(`${name.padEnd(52)} ${value}`);
}

function printTimes(name: string, times: readonly number[]): void {
  const at = (share: number) => times[Math.min(times.length - 1, Math.floor(times.length * share))]!;
  print(name, `p50 ${at(0.5)} ms, p99 ${at(0.99)} ms, longest ${times.at(-1)} ms`);
}

async function measure(scene: Scene): Promise<void> {
  const { here, there } = scene;
  const jobs = await makeJobs(here);
  await pause(SETTLE_MS);
  const without = await measureIdle(scene);
  const rss = rssMiB(here.process.pid!);
  const idle = await whileWaiting(scene, jobs, async () => {
    await pause(SETTLE_MS);
    return { ...(await measureIdle(scene)), rss: rssMiB(here.process.pid!) };
  });
  const idleOf = ({ statements, cpuMs }: Pick<typeof idle, 'statements' | 'cpuMs'>) =>
    `${statements.toFixed(1)} transactions/s, ${cpuMs.toFixed(1)} ms of CPU/s`;
  print('idle, nobody waits', idleOf(without));
  print(`idle, ${WAITERS} wait`, idleOf(idle));
  print('memory of a waiter, its connection included', `${((1024 * (idle.rss - rss)) / WAITERS).toFixed(1)} KiB`);
  const [first, second] = [jobs.slice(0, ONE_BY_ONE), jobs.slice(ONE_BY_ONE, 2 * ONE_BY_ONE)];
  const rest = jobs.slice(2 * ONE_BY_ONE);
  await whileWaiting(scene, jobs, async () => {
    await pause(3000);
    printTimes('told, one ends in the same process', await measureWakes(here, first, scene, 1));
    printTimes('told, one ends in another process', await measureWakes(there, second, scene, 1));
    const times = await measureWakes(there, rest, scene, AT_ONCE);
    printTimes(`told, ${rest.length} end in another process, ${AT_ONCE} at a time`, times);
  });
}

async function main(): Promise<void> {
  const server = await startPostgres();
  const here = await startService(server.url);
  const there = await startService(server.url);
  const sql = postgres(server.url, { max: 1, onnotice: () => undefined });
  try {
    console.log(
      `${cpus().length} cores, Node ${process.version}, ${WAITERS} clients, each on a connection of its own\n`,
    );
    await measure({ sql, here, there, told: new Map() });
  } finally {
    await Promise.all([here.stop(), there.stop(), sql.end()]);
    await server.stop();
  }
}

await main();
