import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { type AddressInfo, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import { useDatabase } from '../support/database.ts';
import { eventually } from '../support/eventually.ts';
import { type Environment, serviceEnv, spawnMain } from './support/main-process.ts';
import { startTcpProxy } from './support/tcp-proxy.ts';

const database = useDatabase();

/** Starts what is not meant to start; answers what it said on stderr. */
async function failToStart(env: Environment): Promise<string> {
  const main = spawnMain(env);
  const { code, signal } = await main.ends();
  const said = main.stderr.join('\n');
  expect({ code, signal }, said).toEqual({ code: 1, signal: null });
  expect(main.logs.some(({ msg }) => msg === 'listening')).toBe(false);
  return said;
}

/** Whoever starts the service can mend it, and needs no stack for that. */
function expectForPeople(said: string): void {
  expect(said).toMatch(/^ringback: /);
  expect(said).not.toMatch(/^\s+at .+:\d+/m);
  expect(said).not.toContain('node_modules');
}

async function configFile(text: string, name = 'ringback.config.ts'): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), 'ringback-config-'));
  onTestFinished(() => rm(directory, { recursive: true }));
  const file = join(directory, name);
  await writeFile(file, text);
  return file;
}

describe('an environment with faults', { timeout: 60_000 }, () => {
  it('ends the start with code 1 and names every fault at once', async () => {
    const said = await failToStart({
      PORT: '99999',
      DATABASE_URL: 'mysql://localhost/ringback',
      RINGBACK_ROLES: 'api,runer',
      RINGBACK_SECRET_KEY: 'c2hvcnQ=',
      RINGBACK_BOOTSTRAP_KEY: 'secret',
      RINGBACK_EGRESS_ALLOW: '10.0.0.1/8',
      RINGBACK_DIAGNOSTICS: 'yes',
      RINGBACK_CALLBACK_SCHEDULE: '0s,5 minutes',
      RINGBACK_LOG_LEVEL: 'loud',
      RINGBACK_PUBLIC_URL: 'example.com',
    });
    expectForPeople(said);
    const named = said.split('\n').slice(1);
    expect(named.map((line) => /^ {2}([A-Z_]+): should /.exec(line)?.[1]).toSorted()).toEqual([
      'DATABASE_URL',
      'PORT',
      'RINGBACK_BOOTSTRAP_KEY',
      'RINGBACK_CALLBACK_SCHEDULE',
      'RINGBACK_DIAGNOSTICS',
      'RINGBACK_EGRESS_ALLOW',
      'RINGBACK_LOG_LEVEL',
      'RINGBACK_PUBLIC_URL',
      'RINGBACK_ROLES',
      'RINGBACK_SECRET_KEY',
    ]);
    expect(said).not.toContain('c2hvcnQ=');
  });

  it('says what else a database needs', async () => {
    const said = await failToStart({ DATABASE_URL: database.url });
    expectForPeople(said);
    expect(said).toContain('RINGBACK_SECRET_KEY: should be set when DATABASE_URL is');
  });

  it('starts in spite of a misspelt variable, and says which was meant', async () => {
    const main = spawnMain(serviceEnv(database.url, { RINGBACK_ROLE: 'api' }));
    await main.listening();
    expect(main.logs.map(({ msg }) => msg)).toContain(
      'RINGBACK_ROLE: there is no such variable; did you mean RINGBACK_ROLES?',
    );
  });
});

describe('a ringback.config.ts that cannot be used', { timeout: 60_000 }, () => {
  it.each([
    ['has a syntax error', 'export default { jobs: [ }', /failed to load/],
    ['throws', 'throw new Error("no such thing");', /failed to load: no such thing/],
    ['imports what is not there', 'import "./missing.ts";', /failed to load: .*missing\.ts/],
    ['has no default export', 'export const jobs = [];', /export default defineConfig/],
    [
      'has bad jobs',
      `const input = { '~standard': { version: 1, vendor: 'x', validate: (value) => ({ value }) } };
       export default { jobs: [
         { type: "Bad Name" }, { type: "no.way", input }, { type: "no.run", input, run: 1 }, { type: "no.input", run() {} }, null,
       ] };`,
      new RegExp(
        [
          'jobs\\[0\\] \\(Bad Name\\): type must.*',
          '.*jobs\\[1\\] \\(no\\.way\\): needs exactly one of run .*',
          '.*jobs\\[2\\] \\(no\\.run\\): run must.*',
          '.*jobs\\[3\\] \\(no\\.input\\): input must.*',
          '.*jobs\\[4\\] .*not an object',
        ].join('\\n'),
      ),
    ],
    [
      'takes a name twice',
      `const job = { type: 'twice', run() {}, input: { '~standard': { version: 1, vendor: 'x', validate: (value) => ({ value }) } } };
       export default { jobs: [job, job] };`,
      /jobs\[1\] \(twice\): another job type has the same name/,
    ],
  ])('is named with what is wrong when it %s', async (_, text, message) => {
    const file = await configFile(text);
    const said = await failToStart(serviceEnv(database.url, { RINGBACK_CONFIG: file, RINGBACK_DIAGNOSTICS: '0' }));
    expectForPeople(said);
    expect(said).toContain(file);
    expect(said).toMatch(message);
  });

  it('is named when it is not there', async () => {
    const said = await failToStart(serviceEnv(database.url, { RINGBACK_CONFIG: '/nowhere/ringback.config.ts' }));
    expectForPeople(said);
    expect(said).toContain('/nowhere/ringback.config.ts: cannot be read; set RINGBACK_CONFIG');
  });
});

describe('a surrounding that does not play along', { timeout: 60_000 }, () => {
  it('is named when the port is taken, and the process ends soon', async () => {
    const taken = createServer().listen(0, '127.0.0.1');
    await once(taken, 'listening');
    onTestFinished(() => void taken.close());
    const port = String((taken.address() as AddressInfo).port);
    const started = performance.now();
    const said = await failToStart(serviceEnv(database.url, { PORT: port }));
    expect(performance.now() - started).toBeLessThan(10_000);
    expectForPeople(said);
    expect(said).toMatch(new RegExp(`port ${port}|PORT`, 'i'));
  });

  it('is named when the host is none of this machine', async () => {
    const said = await failToStart(serviceEnv(database.url, { HOST: '192.0.2.1' }));
    expectForPeople(said);
    expect(said).toContain('192.0.2.1');
  });

  it('is waited for, not given up, when the database comes up later', async () => {
    const proxy = await startTcpProxy(database.url);
    await proxy.cut();
    const main = spawnMain(serviceEnv(proxy.url));
    await eventually(() => expect(main.logs.map(({ msg }) => msg)).toContain('waiting for the database'));
    expect(JSON.stringify(main.logs)).not.toContain(new URL(database.url).password);
    await proxy.restore();
    await main.listening();
  });

  it('does not keep the process from ending when it is told to stop while it waits', async () => {
    const proxy = await startTcpProxy(database.url);
    await proxy.cut();
    const main = spawnMain(serviceEnv(proxy.url));
    await eventually(() => expect(main.logs.map(({ msg }) => msg)).toContain('waiting for the database'));
    const { signal, tookMs } = await main.ends({ signal: 'SIGTERM' });
    expect(signal).toBeNull();
    expect(tookMs).toBeLessThan(6000);
  });

  it.each([
    ['the password is wrong', (url: URL) => (url.password = 'wrong')],
    ['there is no such database', (url: URL) => (url.pathname = '/no_such_database')],
  ])('is named when %s, without the password', async (_, change) => {
    const url = new URL(database.url);
    change(url);
    const said = await failToStart(serviceEnv(url.href));
    expectForPeople(said);
    expect(said).toMatch(/DATABASE_URL|database|PostgreSQL/i);
    expect(said).not.toContain(new URL(database.url).password);
  });
});
