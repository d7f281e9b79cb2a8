import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import type net from 'node:net';
import { expect, onTestFinished, test } from 'vitest';
import type { AttemptResult } from '#domain/attempt.ts';
import { TEST_CERTIFICATE } from './certificates.ts';
import { eventually } from '../../support/eventually.ts';
import { HOSTILE_RECEIVERS, type HostileReceiver } from './hostile-receivers.ts';
import { listen, listenHttp, makeSender, request, urlOf } from './receivers.ts';

const DEADLINE_MS = 1000;
/** A stall of the machine, not of the sender. */
const SLACK_MS = 2000;
/** What may be read of one response: see `maxWireBytes`, and one more read of the kernel's. */
const MOST_BYTES = 8 * (16_384 + 65_536) + 131_072;
const AT_ONCE = 5;

/** Every TCP socket that this process opens, while the test lasts. */
function watchSockets(): net.Socket[] {
  const sockets: net.Socket[] = [];
  const onSocket = (message: unknown) => sockets.push((message as { socket: net.Socket }).socket);
  subscribe('net.client.socket', onSocket);
  onTestFinished(() => void unsubscribe('net.client.socket', onSocket));
  return sockets;
}

function expectBounded({ timings, response }: AttemptResult): void {
  expect(timings.totalMs).toBeLessThan(DEADLINE_MS + SLACK_MS);
  if (response === null) return;
  expect(response.bodyPrefix.length).toBeLessThanOrEqual(4096);
  expect(response.bodyBytes).toBeLessThanOrEqual(65_536);
  expect(response.headers.flat().join('').length).toBeLessThanOrEqual(16_384);
}

async function meet(hostile: HostileReceiver) {
  const receiver = await listen(hostile.server());
  const healthy = await listenHttp((_, response) => response.end());
  const sockets = watchSockets();
  const sender = makeSender({ resolve: async () => ['127.0.0.1'], tls: { ca: TEST_CERTIFICATE } });
  const host = hostile.secureHost === undefined ? 'http://127.0.0.1' : `https://${hostile.secureHost}`;
  const body = Buffer.alloc(hostile.bodyBytes ?? 20, 'x');
  const call = () => sender.send(request(`${host}:${receiver.port}/`, { body, timeoutMs: DEADLINE_MS }));
  const callHealthy = async () => (await sender.send(request(urlOf(healthy), { timeoutMs: 10_000 }))).outcome;
  return { sockets, call, callHealthy };
}

test.each(HOSTILE_RECEIVERS)('a receiver that $name: $outcome, $errorCodes', async (hostile) => {
  const { sockets, call, callHealthy } = await meet(hostile);
  if (hostile.second) expect((await call()).outcome).toBe('delivered');
  if (hostile.second === 'once closed')
    await eventually(() => expect(sockets.map(({ destroyed }) => destroyed)).toEqual([true]));
  const calls = Promise.all(Array.from({ length: hostile.second ? 1 : AT_ONCE }, call));
  const beside: string[] = [];
  for (let index = 0; index < 10; index++) beside.push(await callHealthy());
  const results = await calls;

  for (const result of results) {
    expect(result).toMatchObject({ outcome: hostile.outcome });
    expect(hostile.errorCodes).toContain(result.errorCode);
    expectBounded(result);
  }
  for (const socket of sockets) expect(socket.bytesRead).toBeLessThanOrEqual(MOST_BYTES);
  expect(new Set(beside)).toEqual(new Set(['delivered']));
  expect(await callHealthy()).toBe('delivered');
  // What is left: the connection to the healthy one, and those of whole answers.
  const left = hostile.outcome === 'delivered' || hostile.outcome === 'rejected' ? 1 + AT_ONCE : 1;
  await eventually(() => expect(sockets.filter(({ destroyed }) => !destroyed).length).toBeLessThanOrEqual(left));
});
