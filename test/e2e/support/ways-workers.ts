import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { onTestFinished } from 'vitest';
import type { Ask } from './api.ts';
import { type ClaimedRun, claimRuns, tell } from './claims.ts';
import { modeOf, profile, type WayInput } from './ways-work.ts';

/** A slow synchronous service, as somebody may have had it before Ringback. Closed with the test. Answers its URL. */
export async function startBackend(): Promise<string> {
  const server = createServer((request, response) => {
    answer(request, response).catch(() => response.destroy());
  });
  server.listen(0, '127.0.0.1');
  await new Promise((resolve) => void server.once('listening', resolve));
  onTestFinished(() => {
    server.closeAllConnections();
    server.close();
  });
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}/profile`;
}

async function answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(chunk as Buffer);
  const input = JSON.parse(Buffer.concat(chunks).toString()) as WayInput;
  const mode = modeOf(input, Number(request.headers['ringback-run-number']));
  // A back end that knows Ringback may tell how far it is.
  await fetch(`${String(request.headers['ringback-completion-url'])}/progress`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ percent: 10, message: mode }),
  });
  if (mode === 'hang') return;
  if (mode === 'fail') response.writeHead(503, { 'retry-after': '0' }).end('on purpose');
  else response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(work(input)));
}

const work = ({ csv }: WayInput) => profile(csv, () => undefined);

export interface RemoteWorker {
  /** Stops giving signs of life, as if it were killed. */
  die(): void;
}

/** A remote worker in a few lines: claims, heartbeats, reports. Stopped with the test. */
export function startRemoteWorker(ask: Ask): RemoteWorker {
  const life = new AbortController();
  onTestFinished(() => life.abort());
  void (async () => {
    while (!life.signal.aborted) {
      const runs = await claimRuns(ask, ['way.remote'], { max: 5, wait_s: 1, lease_s: 5 }).catch(() => []);
      // The service may be killed while it is being told of a run.
      for (const run of runs) workOff(ask, run, life.signal).catch(() => undefined);
    }
  })();
  return { die: () => life.abort() };
}

async function workOff(ask: Ask, run: ClaimedRun, life: AbortSignal): Promise<void> {
  const input = run.input as WayInput;
  const mode = modeOf(input, run.number);
  await tell(ask, run, 'log', { lines: [{ level: 'info', message: mode }] });
  await tell(ask, run, 'heartbeat', { lease_s: 5, progress: { percent: 10, message: mode } });
  if (mode === 'profile') return void (await tell(ask, run, 'complete', { output: work(input) }));
  if (mode === 'fail') return void (await tell(ask, run, 'fail', { error: { message: 'on purpose' } }));
  for (;;) {
    if (life.aborted) return;
    const { status, json } = await tell(ask, run, 'heartbeat', { lease_s: 5 });
    if (status !== 200) return; // timed out, or taken over
    if (json.cancel_requested) return void (await tell(ask, run, 'fail', { error: { message: 'stopped' } }));
    await new Promise((resolve) => void setTimeout(resolve, 100)); // as a worker paces its heartbeats
  }
}
