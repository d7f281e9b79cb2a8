import { randomInt } from 'node:crypto';
import { execFile } from 'node:child_process';
import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { describe, expect, it, onTestFinished } from 'vitest';
import { useDatabase } from '../support/database.ts';
import { eventually } from '../support/eventually.ts';
import { freePort } from '../support/free-port.ts';
import { startService } from '../support/service.ts';
import { client } from './support/api.ts';
import { type MainProcess, serviceEnv, spawnMain } from './support/main-process.ts';
import { expectProblem } from './support/problem.ts';
import { openSocket, readAnswer } from './support/raw-http.ts';

const database = useDatabase();
const key = 'rbk_for-the-start';

async function start(env: Record<string, string> = {}): Promise<{ main: MainProcess; url: string }> {
  const port = await freePort();
  const main = spawnMain(serviceEnv(database.url, { PORT: String(port), RINGBACK_BOOTSTRAP_KEY: key, ...env }));
  return { main, url: `http://127.0.0.1:${port}` };
}

const REFUSED = 'connection refused';

/** Asks over a connection of its own. */
async function statusOf(url: string): Promise<number | string> {
  try {
    const response = await fetch(url, { headers: { connection: 'close' }, signal: AbortSignal.timeout(10_000) });
    await response.arrayBuffer();
    return response.status;
  } catch (error) {
    const { code } = ((error as Error).cause ?? {}) as { code?: string };
    return code === 'ECONNREFUSED' ? REFUSED : `no response: ${code ?? String(error)}`;
  }
}

/** Asks again and again, a few at a time, until `isOver`. Returns which responses there were. */
async function poll(url: string, isOver: () => boolean): Promise<Set<number | string>> {
  const seen = new Set<number | string>();
  const asker = async () => {
    while (!isOver()) seen.add(await statusOf(url));
  };
  await Promise.all(Array.from({ length: 4 }, asker));
  return seen;
}

describe('a service that starts', { timeout: 120_000 }, () => {
  it('responds to every request from the first connection on, start after start', async () => {
    for (let n = 0; n < 4; n++) {
      const { main, url } = await start();
      let isListening = false;
      const listening = main.listening().then(() => (isListening = true));
      const seen = await poll(`${url}/readyz`, () => isListening);
      await listening;
      expect([...seen].filter((status) => ![REFUSED, 200, 503].includes(status))).toEqual([]);
      expect(await statusOf(`${url}/readyz`)).toBe(200);
      await main.kill();
    }
  });

  it('is alive, not ready, and refuses what is asked of it while a migration takes its time', async () => {
    const migrated = Promise.withResolvers<void>();
    const lock = database.db.transaction(async (tx) => {
      await tx`LOCK TABLE ringback.migrations IN ACCESS EXCLUSIVE MODE`;
      await migrated.promise;
    });
    const { main, url } = await start();
    const ask = client(url, key);
    await eventually(async () => expect(await statusOf(`${url}/healthz`)).toBe(200), 30_000);
    const early = await openSocket(url);
    for (const [method, path, body] of [
      ['GET', '/readyz'],
      ['GET', '/v1/jobs'],
      ['POST', '/healthz', {}],
      ['POST', '/v1/jobs', { type: 'ringback.echo', input: 'x'.repeat(500_000) }],
    ] as const) {
      const refused = await ask(method, path, body);
      expectProblem(refused, 'starting');
      expect(refused.headers.get('retry-after')).toBe('1');
    }
    expect(main.logs.some(({ msg }) => msg === 'listening')).toBe(false);

    migrated.resolve();
    await lock;
    await main.listening();
    early.write('GET /readyz HTTP/1.1\r\nhost: x\r\n\r\n');
    expect(await readAnswer(early)).toMatchObject({ status: 200, json: { status: 'ok' } });
    expect((await ask('POST', '/v1/jobs', { type: 'ringback.echo', input: 1 })).status).toBe(202);
  });

  it('that fails leaves no connection without a response, and no port taken', async () => {
    const nowhere = new URL(database.url);
    nowhere.pathname = '/no_such_database';
    const { main, url } = await start({ DATABASE_URL: nowhere.href });
    const seen = await poll(`${url}/healthz`, () => main.child.exitCode !== null);
    expect(await main.ends()).toMatchObject({ code: 1 });
    expect([...seen].filter((status) => status === 'no response: TimeoutError')).toEqual([]);
    expect(await statusOf(`${url}/healthz`)).toBe(REFUSED);
  });
});

describe('a service that stops', { timeout: 60_000 }, () => {
  it('says with its last response that the connection ends', async () => {
    const { main, url } = await start();
    await main.listening();
    const socket = await openSocket(url);
    const { json: job } = await client(url, key)('POST', '/v1/jobs', { type: 'ringback.sleep', input: { ms: 1500 } });
    const read = `GET /v1/jobs/${job.id}?x= HTTP/1.1\r\nhost: x\r\nauthorization: Bearer ${key}\r\nprefer: wait=20\r\n\r\n`;
    socket.write(read);
    // What comes in after it has been read: so the service knows of it.
    await statusOf(`${url}/healthz`);
    const ended = main.ends({ signal: 'SIGTERM' });
    const { status, headers } = await readAnswer(socket);
    expect({ status, connection: headers.get('connection') }).toEqual({ status: 200, connection: 'close' });
    expect(await ended).toMatchObject({ code: 0 });
  });
});

describe('what Node makes of the sources', () => {
  it('is kept for the next start, also by a process that is killed', async () => {
    // Node keeps it apart for each set of flags: this one is nobody else's.
    const nodeArgs = [`--stack-size=${randomInt(700, 980)}`];
    const own = fileURLToPath(
      new URL(`../../node_modules/.cache/ringback/${await cacheName(nodeArgs)}`, import.meta.url),
    );
    await rm(own, { recursive: true, force: true });
    onTestFinished(() => rm(own, { recursive: true, force: true }));
    const service = await startService({ databaseUrl: database.url, nodeArgs });
    await eventually(async () => expect((await readdir(own)).length).toBeGreaterThan(250));
    await service.kill();
    expect((await readdir(own)).length).toBeGreaterThan(250);
  });
});

/** What Node calls its cache when it is started with these flags. */
async function cacheName(nodeArgs: readonly string[]): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), 'ringback-cache-'));
  const program = `require('node:module').enableCompileCache(${JSON.stringify(directory)})`;
  await promisify(execFile)(process.execPath, [...nodeArgs, '-e', program]);
  const [name] = await readdir(directory);
  await rm(directory, { recursive: true });
  return name!;
}
