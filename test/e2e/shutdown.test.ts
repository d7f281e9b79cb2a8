import { request as httpRequest, Agent } from 'node:http';
import { text } from 'node:stream/consumers';
import { describe, expect, it } from 'vitest';
import { useDatabase } from '../support/database.ts';
import { eventually } from '../support/eventually.ts';
import { startReceiver } from '../support/receiver.ts';
import { client, submit, untilDone } from './support/api.ts';
import { startHeldReceiver } from './support/held-receiver.ts';
import { type Environment, JOB_SIDE, type MainProcess, serviceEnv, spawnMain } from './support/main-process.ts';
import { openSocket } from './support/raw-http.ts';

const database = useDatabase();
const key = 'rbk_for-shutdown';
const common = { RINGBACK_BOOTSTRAP_KEY: key, RINGBACK_SECRET_KEY: Buffer.alloc(32, 7).toString('base64') };
/** Between "within the time-out" and a lease (15 s): starting, stopping and a loaded machine are no failure. */
const GENEROUS_MS = 6000;

/** The service waits for the rest of its body. */
const HALF_A_REQUEST = [
  'POST /v1/jobs HTTP/1.1',
  'host: x',
  `authorization: Bearer ${key}`,
  'content-type: application/json',
  'content-length: 1000',
  '',
  '{',
].join('\r\n');

async function start(env: Environment = {}) {
  const main = spawnMain(serviceEnv(database.url, { ...common, ...env }));
  const url = await main.listening();
  return { main, url, ask: client(url, key) };
}

function untilStarted(id: string): Promise<void> {
  return eventually(async () => {
    const [row] = await database.sql`SELECT run_id FROM ringback.jobs WHERE id = ${id}`;
    expect(row!.run_id).toMatch(/^run_/);
  });
}

function untilStopping({ logs }: MainProcess): Promise<void> {
  return eventually(() => expect(logs.some(({ msg }) => msg === 'stopping')).toBe(true));
}

describe('a service that is told to stop', { timeout: 60_000 }, () => {
  it.each(['SIGTERM', 'SIGINT'] as const)(
    'by %s ends at once with code 0 when nothing is under way',
    async (signal) => {
      const { main } = await start();
      const { code, signal: by, tookMs } = await main.ends({ signal });
      expect({ code, by }).toEqual({ code: 0, by: null });
      expect(tookMs).toBeLessThan(GENEROUS_MS);
      expect(main.logs.at(-1)).toMatchObject({ msg: 'stopped' });
      expect(main.stderr).toEqual([]);
    },
  );

  it('finishes the runs and the callbacks that it can finish in time', async () => {
    const { main, ask } = await start();
    const receiver = await startHeldReceiver();
    const told = await submit(ask, { type: 'ringback.echo', input: 1, callback: { url: receiver.url } });
    const running = await submit(ask, { type: 'ringback.sleep', input: { ms: 1500 } });
    await receiver.waitFor(1);
    await untilStarted(running.id);
    const ended = main.ends({ signal: 'SIGTERM' });
    await untilStopping(main);
    receiver.release('taken');
    expect(await ended).toMatchObject({ code: 0 });
    const jobs = await database.sql`SELECT id, status FROM ringback.jobs WHERE id IN (${told.id}, ${running.id})`;
    expect(jobs.map(({ status }) => status)).toEqual(['succeeded', 'succeeded']);
    const attempts = await database.sql`SELECT outcome FROM ringback.delivery_attempts WHERE job_id = ${told.id}`;
    expect([...attempts]).toEqual([{ outcome: 'delivered' }]);
  });

  it('takes nothing new while it finishes', async () => {
    const { main, url, ask } = await start();
    const { id } = await submit(ask, { type: 'ringback.sleep', input: { ms: 1000 } });
    await untilStarted(id);
    const ended = main.ends({ signal: 'SIGTERM' });
    await untilStopping(main);
    await eventually(async () => {
      await expect(fetch(`${url}/healthz`, { headers: { connection: 'close' } })).rejects.toThrow('fetch failed');
    });
    expect(await ended).toMatchObject({ code: 0 });
  });

  it('gives back what it cannot finish, and the next process goes on with it at once', async () => {
    const { main, ask } = await start({ RINGBACK_SHUTDOWN_TIMEOUT_MS: '300' });
    const { id } = await submit(ask, { type: 'ringback.sleep', input: { ms: 3000 } });
    await untilStarted(id);
    const { code, tookMs } = await main.ends({ signal: 'SIGTERM' });
    expect({ code, stderr: main.stderr }).toEqual({ code: 0, stderr: [] });
    expect(tookMs).toBeLessThan(GENEROUS_MS);
    const [released] = await database.sql`SELECT number, status, error FROM ringback.job_runs WHERE job_id = ${id}`;
    expect(released).toEqual({ number: 1, status: 'released', error: null });

    const next = await start();
    const startedAt = Date.now();
    const done = await untilDone(next.ask, id);
    expect(Date.now() - startedAt, 'no lease had to run out').toBeLessThan(3000 + GENEROUS_MS);
    expect(done).toMatchObject({ status: 'succeeded', runs: 2 });
    const { json } = await next.ask('GET', `/v1/jobs/${id}/runs`);
    expect(json.items.map(({ status }: { status: string }) => status)).toEqual(['released', 'succeeded']);
    await next.main.ends({ signal: 'SIGTERM' });
  });

  it('being released costs a job none of its tries', async () => {
    for (let n = 0; n < 4; n++) {
      const { main, ask } = await start({ RINGBACK_SHUTDOWN_TIMEOUT_MS: '0' });
      if (n === 0) await submit(ask, { type: 'ringback.sleep', input: { ms: 3_600_000 }, metadata: { often: 'yes' } });
      await eventually(async () => {
        const [job] = await database.sql`SELECT run_id, run_count FROM ringback.jobs WHERE metadata ? 'often'`;
        expect(job).toEqual({ run_id: expect.any(String), run_count: n + 1 });
      });
      expect(await main.ends({ signal: 'SIGTERM' })).toMatchObject({ code: 0 });
    }
    const [job] = await database.sql`
      UPDATE ringback.jobs SET input = '{"ms":0}' WHERE metadata ? 'often' RETURNING status, failure_count`;
    expect(job).toEqual({ status: 'in_progress', failure_count: 0 });
  });

  it('does not wait for a handler that does not listen', async () => {
    const { main, ask } = await start({
      RINGBACK_SHUTDOWN_TIMEOUT_MS: '300',
      RINGBACK_CONFIG: JOB_SIDE,
    });
    const { id } = await submit(ask, { type: 'stubborn.wait', input: { ms: 50_000 } });
    await untilStarted(id);
    const { code, tookMs } = await main.ends({ signal: 'SIGTERM' });
    expect(code).toBe(0);
    expect(tookMs).toBeLessThan(GENEROUS_MS);
    const [run] = await database.sql`SELECT status FROM ringback.job_runs WHERE job_id = ${id}`;
    expect(run).toEqual({ status: 'released' });
  });

  it('does not wait longer than it may for a receiver that does not answer; the attempt is recorded later', async () => {
    const { main, ask } = await start({ RINGBACK_SHUTDOWN_TIMEOUT_MS: '300' });
    const receiver = await startReceiver();
    receiver.script('hang');
    const { id } = await submit(ask, { type: 'ringback.echo', input: 1, callback: { url: receiver.url } });
    await receiver.next();
    const { code, tookMs } = await main.ends({ signal: 'SIGTERM' });
    expect(code).toBe(0);
    expect(tookMs).toBeLessThan(GENEROUS_MS);

    await start();
    await receiver.waitFor(2, 40_000);
    await eventually(async () => {
      const attempts = await database.sql`
        SELECT number, outcome FROM ringback.delivery_attempts WHERE job_id = ${id} ORDER BY number`;
      expect([...attempts]).toEqual([
        { number: 1, outcome: 'interrupted' },
        { number: 2, outcome: 'delivered' },
      ]);
    });
  });

  it('ends although clients keep connections open, with and without having asked', async () => {
    const { main, url } = await start({ RINGBACK_SHUTDOWN_TIMEOUT_MS: '1000' });
    const agent = new Agent({ keepAlive: true });
    const asked = httpRequest(`${url}/healthz`, { agent }).end();
    const { promise, resolve } = Promise.withResolvers<string>();
    asked.on('response', (response) => resolve(text(response)));
    expect(await promise).toContain('ok');
    await openSocket(url);
    const half = await openSocket(url);
    half.write(HALF_A_REQUEST);
    const { code, tookMs } = await main.ends({ signal: 'SIGTERM' });
    agent.destroy();
    expect(code).toBe(0);
    expect(tookMs).toBeLessThan(GENEROUS_MS);
  });

  it('keeps to one time-out in all: a half-sent request and a long run do not add up', async () => {
    const { main, url, ask } = await start({ RINGBACK_SHUTDOWN_TIMEOUT_MS: '4000' });
    const { id } = await submit(ask, { type: 'ringback.sleep', input: { ms: 60_000 } });
    await untilStarted(id);
    const half = await openSocket(url);
    half.write(HALF_A_REQUEST);
    // What comes in after it has been read: so the service knows of it.
    expect((await ask('GET', '/healthz')).status).toBe(200);
    const { code, tookMs } = await main.ends({ signal: 'SIGTERM' });
    expect(code).toBe(0);
    expect(tookMs).toBeLessThan(4000 + 3000);
  });

  it('ends at once when it is told a second time', async () => {
    const { main, ask } = await start({ RINGBACK_SHUTDOWN_TIMEOUT_MS: '60000' });
    const { id } = await submit(ask, { type: 'ringback.sleep', input: { ms: 60_000 } });
    await untilStarted(id);
    main.child.kill('SIGTERM');
    await untilStopping(main);
    const { code, signal, tookMs } = await main.ends({ signal: 'SIGTERM' });
    expect({ code, signal }).toEqual({ code: 1, signal: null });
    expect(tookMs).toBeLessThan(GENEROUS_MS);
  });
});
