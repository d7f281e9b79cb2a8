import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { chmod, mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import postgres from 'postgres';
import { Webhook } from 'standardwebhooks';
import { describe, expect, it, onTestFinished } from 'vitest';
import { identify } from '#embedded/processes.ts';
import { eventually } from '../support/eventually.ts';
import { type ReceivedRequest, startReceiver } from '../support/receiver.ts';
import { client, untilDone } from './support/api.ts';
import { type MainProcess, spawnMain } from './support/main-process.ts';

const run = promisify(execFile);

async function emptyDataDir(): Promise<string> {
  const parent = await mkdtemp(join(tmpdir(), 'ringback-e2e-'));
  // Open to the user that PostgreSQL runs as, which is another one when we are root.
  await chmod(parent, 0o755);
  onTestFinished(() => rm(parent, { recursive: true, force: true, maxRetries: 3 }));
  return join(parent, 'data');
}

interface Greeting {
  readonly url: string;
  readonly key: string;
  readonly databaseUrl: string;
  /** As one line for a shell. */
  readonly curl: string;
}

async function greetingOf(main: MainProcess): Promise<Greeting> {
  await main.listening();
  return eventually(() => {
    const text = main.printed.join('\n');
    const found = /listening on (?<url>\S+)[^]*API key +(?<key>\S+)[^]*psql '(?<databaseUrl>[^']+)'/.exec(text)?.groups;
    const curl = /curl [^]+?'\n(?=\n)/.exec(text)?.[0].replaceAll('\\\n', ' ').trim();
    expect({ ...found, curl }).toMatchObject({ url: expect.any(String), curl: expect.any(String) });
    return { ...found, curl } as unknown as Greeting;
  });
}

async function start(dataDir: string): Promise<{ main: MainProcess; greeting: Greeting }> {
  const main = spawnMain({ RINGBACK_DATA_DIR: dataDir });
  return { main, greeting: await greetingOf(main) };
}

/** Sends SIGINT, as Ctrl-C does; then neither the process nor its PostgreSQL is there. */
async function stop(main: MainProcess, dataDir: string): Promise<void> {
  const serverPid = postmasterPid(dataDir);
  expect(identify(serverPid)).toBeDefined();
  expect(await main.ends({ signal: 'SIGINT', timeoutMs: 30_000 })).toMatchObject({ code: 0, signal: null });
  expect(main.stderr).toEqual([]);
  expect(identify(serverPid), 'PostgreSQL has ended as well').toBeUndefined();
}

function postmasterPid(dataDir: string): number {
  return Number(readFileSync(join(dataDir, 'postgres', 'postmaster.pid'), 'utf8').split('\n')[0]);
}

describe('started without a database', { timeout: 90_000 }, () => {
  it('prints what one needs, and the very curl that it prints works', async () => {
    const dataDir = await emptyDataDir();
    const { main, greeting } = await start(dataDir);
    expect(greeting.url).toBe(await main.listening());
    expect(greeting.key).toMatch(/^rbk_[\w-]{20,}$/);

    const receiver = await startReceiver();
    expect(greeting.curl).toContain('http://127.0.0.1:8080/');
    const { stdout } = await run('sh', ['-c', greeting.curl.replace('http://127.0.0.1:8080/', receiver.url)]);
    const job = JSON.parse(stdout);
    expect(job).toMatchObject({
      type: 'ringback.echo',
      callback: { signing_secret: expect.stringMatching(/^whsec_/) },
    });
    expect(verified(job.callback.signing_secret, await receiver.next())).toMatchObject({
      type: 'job.succeeded',
      data: { job: { id: job.id, output: { hello: 'world' } } },
    });
    const polled = await fetch(job.status_url, { headers: { authorization: `Bearer ${greeting.key}` } });
    expect(await polled.json()).toMatchObject({ id: job.id, status: 'succeeded' });

    const sql = postgres(greeting.databaseUrl, { max: 1, onnotice: () => {} });
    const rows = await sql`SELECT id, status FROM ringback.jobs`;
    await sql.end();
    expect([...rows]).toEqual([{ id: job.id, status: 'succeeded' }]);
    await stop(main, dataDir);
  });

  it('keeps key, secrets and data over a restart', async () => {
    const dataDir = await emptyDataDir();
    const receiver = await startReceiver();
    const submission = { type: 'ringback.echo', input: 1, callback: { url: receiver.url } };
    const first = await start(dataDir);
    const { json: job } = await client(first.greeting.url, first.greeting.key)('POST', '/v1/jobs', submission);
    const secret = job.callback.signing_secret;
    verified(secret, await receiver.next());
    await untilDone(client(first.greeting.url, first.greeting.key), job.id);
    await stop(first.main, dataDir);

    const second = await start(dataDir);
    expect(second.greeting.key).toBe(first.greeting.key);
    const ask = client(second.greeting.url, second.greeting.key);
    expect((await ask('GET', `/v1/jobs/${job.id}`)).json).toMatchObject({ id: job.id, status: 'succeeded' });
    const again = await ask('POST', '/v1/jobs', submission);
    expect(again.json.callback).not.toHaveProperty('signing_secret');
    verified(secret, await receiver.next());
    await stop(second.main, dataDir);
  });

  it('refuses a data directory that another one uses, and says which process that is', async () => {
    const dataDir = await emptyDataDir();
    const { main } = await start(dataDir);
    const second = spawnMain({ RINGBACK_DATA_DIR: dataDir });
    expect(await second.ends()).toMatchObject({ code: 1 });
    const said = second.stderr.join('\n');
    expect(said).toMatch(/^ringback: Another Ringback \(pid \d+\) runs on/);
    expect(said).toContain(`pid ${main.child.pid}`);
    expect(said).not.toMatch(/^\s+at /m);
    await stop(main, dataDir);
  });

  it('goes on after it was killed, with the data of before', async () => {
    const dataDir = await emptyDataDir();
    const first = await start(dataDir);
    const ask = client(first.greeting.url, first.greeting.key);
    const { json: job } = await ask('POST', '/v1/jobs', { type: 'ringback.echo', input: 'kept' });
    await untilDone(ask, job.id);
    await first.main.kill();

    const second = await start(dataDir);
    const found = await client(second.greeting.url, second.greeting.key)('GET', `/v1/jobs/${job.id}`);
    expect(found.json).toMatchObject({ id: job.id, output: 'kept' });
    await stop(second.main, dataDir);
  });

  it('keeps what it makes for its owner alone, and warns that callbacks may reach this machine', async () => {
    const dataDir = await emptyDataDir();
    const { main, greeting } = await start(dataDir);
    expect(main.logs.map(({ msg }) => msg)).toContainEqual(expect.stringContaining('RINGBACK_EGRESS_ALLOW'));
    expect(JSON.stringify(main.logs), 'a log is kept by others').not.toContain(greeting.key);
    const { stdout } = await run('find', [dataDir, '-maxdepth', '1', '-type', 'f', '-perm', '/077']);
    const open = stdout.split('\n').filter(Boolean);
    for (const file of open) expect(await readFile(file, 'utf8'), file).not.toMatch(/rbk_|password/);
    await stop(main, dataDir);
  });
});

describe('a PostgreSQL that somebody else ends', { timeout: 120_000 }, () => {
  const kill = (signal: NodeJS.Signals) => async (dataDir: string) => {
    const pid = postmasterPid(dataDir);
    process.kill(pid, signal);
    // A smart shutdown waits for our sessions to end, which ours does not leave it to.
    await eventually(() => expect(identify(pid)).toBeUndefined(), 30_000);
  };

  const ENDS: ReadonlyArray<readonly [string, (dataDir: string, url: string) => Promise<void>]> = [
    ['killed', kill('SIGKILL')],
    ['shut down at once', kill('SIGQUIT')],
    ['shut down fast', kill('SIGINT')],
    ['shut down when all have gone', kill('SIGTERM')],
    [
      'by the end of one of its backends',
      async (_, url) => {
        const sql = postgres(url, { max: 1, onnotice: () => {} });
        const [row] = await sql<[{ pid: number }]>`
          SELECT pid FROM pg_stat_activity WHERE application_name = 'ringback' LIMIT 1`;
        await sql.end();
        process.kill(row.pid, 'SIGKILL');
      },
    ],
  ];

  it.each(ENDS)('%s, comes back where it was, and the service goes on with all that it had', async (_, end) => {
    const dataDir = await emptyDataDir();
    const { main, greeting } = await start(dataDir);
    const ask = client(greeting.url, greeting.key);
    const { json: before } = await ask('POST', '/v1/jobs', { type: 'ringback.echo', input: 'before' });
    await untilDone(ask, before.id);
    await end(dataDir, greeting.databaseUrl);
    const after = await eventually(async () => {
      const accepted = await ask('POST', '/v1/jobs', { type: 'ringback.echo', input: 'after' });
      expect(accepted.status).toBe(202);
      return accepted.json;
    }, 40_000);
    expect(await untilDone(ask, after.id, 30_000)).toMatchObject({ output: 'after' });
    expect((await ask('GET', `/v1/jobs/${before.id}`)).json).toMatchObject({ output: 'before' });
    const sql = postgres(greeting.databaseUrl, { max: 1, onnotice: () => {} });
    expect(await sql`SELECT 1 AS one`).toEqual([{ one: 1 }]);
    await sql.end();
    await stop(main, dataDir);
  });

  it('again and again is given up, and said so', async () => {
    const dataDir = await emptyDataDir();
    const { main } = await start(dataDir);
    const ended = main.ends({ timeoutMs: 100_000 });
    const service = { isOver: false };
    void ended.finally(() => (service.isOver = true));
    for (let last = 0; !service.isOver;) {
      const pid = await eventually(() => {
        const now = readPid(dataDir);
        expect(service.isOver || (now !== undefined && now !== last && identify(now) !== undefined)).toBe(true);
        return now ?? last;
      }, 60_000);
      if (!service.isOver && pid !== last) process.kill(pid, 'SIGKILL');
      last = pid;
    }
    expect(await ended).toMatchObject({ code: 1, signal: null });
    expect(main.stderr.join('\n')).toMatch(/^ringback: The embedded PostgreSQL (?:does not start|was ended)/);
  });

  it('with its data is not replaced by an empty one', async () => {
    const dataDir = await emptyDataDir();
    const { main } = await start(dataDir);
    const pid = postmasterPid(dataDir);
    await rm(join(dataDir, 'postgres'), { recursive: true });
    process.kill(pid, 'SIGKILL');
    expect(await main.ends({ timeoutMs: 60_000 })).toMatchObject({ code: 1, signal: null });
    expect(main.stderr.join('\n')).toMatch(/^ringback: The data of the embedded PostgreSQL in .* are gone/);
  });

  it('while the service stops does not keep it from that', async () => {
    const dataDir = await emptyDataDir();
    const { main } = await start(dataDir);
    const pid = postmasterPid(dataDir);
    const ended = main.ends({ signal: 'SIGTERM', timeoutMs: 40_000 });
    process.kill(pid, 'SIGKILL');
    expect(await ended).toMatchObject({ code: 0, signal: null });
    expect(identify(pid)).toBeUndefined();
  });
});

/** Undefined while there is none. */
function readPid(dataDir: string): number | undefined {
  try {
    return postmasterPid(dataDir);
  } catch {
    return undefined;
  }
}

function verified(secret: string, { headers, body }: ReceivedRequest): unknown {
  return new Webhook(secret).verify(body, headers as Record<string, string>);
}
