import { type ChildProcess, fork } from 'node:child_process';
import { subscribe } from 'node:diagnostics_channel';
import { once } from 'node:events';
import type { Socket } from 'node:net';
import { setTimeout as pause } from 'node:timers/promises';
import type { AttemptResult } from '#domain/attempt.ts';
import { parseCidr } from '#domain/address.ts';
import { createSender, type Sender, type SendRequest } from '#egress/send.ts';
import { TEST_CERTIFICATE } from '../test/integration/egress/certificates.ts';
import { HOSTILE_RECEIVERS, type HostileReceiver } from '../test/integration/egress/hostile-receivers.ts';
import type { ReceiverMessage } from './receiver.ts';

/**
 * `node --expose-gc bench/hostile.ts`: what each hostile receiver costs the process that calls it back, 50 attempts at once. Bytes
 * are those that a connection has read at most; memory is the peak of the resident set above what it was before; beside
 * them one attempt after the other goes to a healthy receiver on the same sender.
 */
const AT_ONCE = 50;
const DEADLINE_MS = 1000;
/** The first one warms up. */
const ROUNDS = Number(process.env['BENCH_ROUNDS'] ?? 2);
const MIB = 1_048_576;

let sockets: Socket[] = [];
subscribe('net.client.socket', (message) => sockets.push((message as { socket: Socket }).socket));

async function startChild(file: string): Promise<{ child: ChildProcess; message: unknown }> {
  const child = fork(new URL(file, import.meta.url));
  const [message] = (await once(child, 'message')) as [unknown];
  return { child, message };
}

function to(url: string, bodyBytes = 1000): SendRequest {
  return { url, headers: {}, body: Buffer.alloc(bodyBytes, 'x'), timeoutMs: DEADLINE_MS };
}

const at = (sorted: readonly number[], share: number) =>
  sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? Number.NaN;
const ascending = (numbers: Iterable<number>) => [...numbers].toSorted((a, b) => a - b);

/** Calls the healthy receiver until `over`; milliseconds of each attempt. */
async function callHealthy(sender: Sender, url: string, over: () => boolean): Promise<number[]> {
  const times: number[] = [];
  do {
    const { outcome, timings } = await sender.send({ ...to(url), timeoutMs: 10_000 });
    if (outcome !== 'delivered') throw new Error(`the healthy receiver's attempt ended as ${outcome}`);
    times.push(timings.totalMs);
    await pause(2);
  } while (!over());
  return times;
}

/** The largest resident set while `work` is under way. */
async function peakOf(work: Promise<unknown>): Promise<number> {
  let peak = process.memoryUsage.rss();
  const timer = setInterval(() => (peak = Math.max(peak, process.memoryUsage.rss())), 5);
  await work;
  clearInterval(timer);
  return Math.max(peak, process.memoryUsage.rss());
}

async function measure(sender: Sender, hostile: HostileReceiver, port: number, healthyUrl: string) {
  const host = hostile.secureHost === undefined ? 'http://127.0.0.1' : `https://${hostile.secureHost}`;
  // Of 16 MB to send, one: what is held then is our own.
  const count = hostile.bodyBytes === undefined ? AT_ONCE : 1;
  const burst = () =>
    Promise.all(Array.from({ length: count }, () => sender.send(to(`${host}:${port}/`, hostile.bodyBytes))));
  sockets = [];
  if (hostile.second) await burst();
  if (hostile.second === 'once closed') await pause(100);
  const before = process.memoryUsage.rss();
  let over = false;
  const work = burst().finally(() => (over = true));
  const [results, healthy, peak] = await Promise.all([work, callHealthy(sender, healthyUrl, () => over), peakOf(work)]);
  const bytes = Math.max(...sockets.map(({ bytesRead }) => bytesRead), 0);
  return { results, healthy, bytes, grown: peak - before };
}

function isExpected(hostile: HostileReceiver, { outcome, errorCode }: AttemptResult): boolean {
  return outcome === hostile.outcome && hostile.errorCodes.includes(errorCode);
}

function print(hostile: HostileReceiver, measured: Awaited<ReturnType<typeof measure>>): boolean {
  const { results, bytes, grown } = measured;
  const times = ascending(results.map(({ timings }) => timings.totalMs));
  const healthy = ascending(measured.healthy);
  const met = results.every((result) => isExpected(hostile, result));
  const seen = [...new Set(results.map(({ outcome, errorCode }) => [outcome, errorCode ?? ''].join(' ').trim()))];
  const cells = [
    hostile.name.padEnd(54),
    (seen.join(', ') + (met ? '' : ' UNEXPECTED')).padEnd(38),
    `${at(times, 0.5).toFixed(0)}/${at(times, 1).toFixed(0)} ms`.padStart(13),
    `${(bytes / 1024).toFixed(0)} KiB`.padStart(9),
    `${(grown / MIB).toFixed(1)} MiB`.padStart(10),
    `${at(healthy, 0.5).toFixed(1)}/${at(healthy, 0.99).toFixed(1)} ms`.padStart(15),
  ];
  console.log(cells.join(' '));
  return met;
}

async function main(): Promise<void> {
  const servers = await startChild('hostile-servers.ts');
  const receiver = await startChild('receiver.ts');
  const { ports } = servers.message as { ports: number[] };
  const { port } = receiver.message as Extract<ReceiverMessage, { kind: 'port' }>;
  const healthyUrl = `http://127.0.0.1:${port}/`;
  const policy = { allow: [parseCidr('127.0.0.0/8')!], allowHttp: false, ports: [] };
  const resolve = async () => ['127.0.0.1'];
  const sender = createSender({
    policy,
    userAgent: 'Ringback/bench',
    now: () => new Date(),
    resolve,
    tls: { ca: TEST_CERTIFICATE },
  });
  try {
    const rounds = Date.now() + 2000;
    const alone = ascending(await callHealthy(sender, healthyUrl, () => Date.now() > rounds));
    console.log(`healthy receiver alone: p50 ${at(alone, 0.5).toFixed(1)} ms, p99 ${at(alone, 0.99).toFixed(1)} ms`);
    const sizes = [process.memoryUsage.rss()];
    let met = true;
    for (let round = 0; round < ROUNDS; round++) {
      if (round > 0)
        console.log('a receiver that ... | outcome | time p50/max | read | memory | beside it, healthy p50/p99');
      for (const [index, hostile] of HOSTILE_RECEIVERS.entries()) {
        const measured = await measure(sender, hostile, ports[index]!, healthyUrl);
        if (round > 0) met = print(hostile, measured) && met;
      }
      sockets = [];
      globalThis.gc?.();
      sizes.push(process.memoryUsage.rss());
    }
    const mib = sizes.map((size) => `${(size / MIB).toFixed(0)} MiB`);
    console.log(`resident set before all, and after each round: ${mib.join(', ')}`);
    if (!met) process.exitCode = 1;
  } finally {
    servers.child.disconnect();
    receiver.child.disconnect();
  }
}

await main();
process.exit();
