import { execFile, spawn } from 'node:child_process';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { beforeAll, expect, it, onTestFinished } from 'vitest';
import { useDatabase } from '../support/database.ts';
import { openEventStream } from '../support/event-source.ts';
import { eventually } from '../support/eventually.ts';
import { makeAccount } from '../support/fixtures.ts';
import { passHorizon } from '../support/horizon.ts';
import { startTcpProxy } from './support/tcp-proxy.ts';
import { client, submit, untilDone } from './support/api.ts';
import { serviceEnv, useService } from './support/main-process.ts';

/** What docs/guides/event-feed.md tells people to run is run, as it says. */

const database = useDatabase();
const service = useService(() => serviceEnv(database.url));
let guide: string;
beforeAll(async () => {
  guide = await readFile(new URL('../../docs/guides/event-feed.md', import.meta.url), 'utf8');
});

const block = (language: string, index = 0) =>
  [...guide.matchAll(/^```(\w+)\n(.*?)^```$/gms)].filter(([, found]) => found === language)[index]![2]!;

/** So that nothing follows on the submission. */
const later = () => new Date(Date.now() + 3_600_000).toISOString();

/** Writes a program of the guide to a folder of its own. */
async function program(index: number): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'ringback-guide-'));
  onTestFinished(() => rm(folder, { recursive: true, force: true }));
  const file = join(folder, 'program.mjs');
  await writeFile(file, block('js', index));
  return file;
}

it('the first program prints each event once, however often it is run', async () => {
  const { key } = await makeAccount(database.db);
  const ask = client(service.url, key);
  const file = await program(0);
  const env = { PATH: process.env['PATH'], API: service.url, KEY: key };
  const run = async () => {
    await passHorizon(database.db);
    const { stdout } = await promisify(execFile)(process.execPath, [file], { cwd: join(file, '..'), env });
    return stdout.split('\n').flatMap((line) => (line === '' ? [] : [line.split(' ').slice(1).join(' ')]));
  };
  const ids: string[] = [];
  for (let count = 0; count < 40; count++) ids.push((await submit(ask, { type: 'ringback.echo', input: count })).id);
  for (const id of ids) await untilDone(ask, id);
  const wanted = ids.flatMap((id) => ['queued', 'started', 'succeeded'].map((what) => `job.${what} ${id}`));
  expect((await run()).toSorted()).toEqual(wanted.toSorted());
  expect(await run()).toEqual([]);
  const { id } = await submit(ask, { type: 'ringback.echo', input: 1, run_at: later() });
  expect(await run()).toEqual([`job.queued ${id}`]);
});

it('the second program prints what ends as it ends, when the connection is cut too', async () => {
  const { key } = await makeAccount(database.db);
  const ask = client(service.url, key);
  const proxy = await startTcpProxy(service.url);
  const env = { PATH: process.env['PATH'], API: proxy.url.replace(/\/$/, ''), KEY: key };
  const child = spawn(process.execPath, [await program(1)], { env, stdio: ['ignore', 'pipe', 'ignore'] });
  onTestFinished(() => void child.kill('SIGKILL'));
  let printed = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => (printed += text));
  const lines = () => printed.split('\n').filter((line) => line !== '');
  const { id: first } = await submit(ask, { type: 'ringback.echo', input: 1 });
  await eventually(() => expect(lines()).toEqual([`${first} job.succeeded`]));
  await proxy.cut();
  const { id: second } = await submit(ask, { type: 'ringback.echo', input: 2 });
  await untilDone(ask, second);
  await proxy.restore();
  await eventually(() => expect(lines()).toEqual([`${first} job.succeeded`, `${second} job.succeeded`]));
});

it('every request of the guide is answered', async () => {
  const ask = client(service.url, (await makeAccount(database.db)).key);
  const paths = [...guide.matchAll(/^GET (\S+)$/gm)].map(([, path]) => path!);
  expect(paths).toHaveLength(3);
  for (const path of paths) expect(await ask('GET', path), path).toMatchObject({ status: 200, json: { items: [] } });
});

it('an item has the members that the guide shows', async () => {
  const { key } = await makeAccount(database.db);
  const ask = client(service.url, key);
  await untilDone(ask, (await submit(ask, { type: 'ringback.echo', input: 1 })).id);
  await passHorizon(database.db);
  const { json } = await ask('GET', '/v1/events?type=job.succeeded');
  const shown = JSON.parse(block('json')) as { items: object[] };
  expect(Object.keys(json)).toEqual(Object.keys(shown));
  expect(Object.keys(json.items[0])).toEqual(Object.keys(shown.items[0]!));
});

it('the stream is as the guide shows it', async () => {
  const { key } = await makeAccount(database.db);
  const curl = block('sh');
  const filled = curl
    .replaceAll('$API', service.url)
    .replaceAll('$KEY', key)
    .replace(/\$\(date .*?\)/, new Date().toISOString().replace(/\.\d+/, ''));
  const headers = Object.fromEntries(
    [...filled.matchAll(/-H (["'])(.*?)\1/g)].map(([, , header]) => header!.split(': ') as [string, string]),
  );
  const stream = await openEventStream(/"(http[^"]*)"/.exec(filled)![1]!, headers);
  await submit(client(service.url, key), { type: 'ringback.echo', input: 1, run_at: later() });
  await stream.until(1);
  const form = (text: string) =>
    text
      .trim()
      .replaceAll(/^id: .*$/gm, 'id: ...')
      .replaceAll(/(evt|job)_[0-9a-z]{26}/g, '$1_...')
      .replaceAll(/"(created_at|timestamp)":"[^"]*"/g, '"$1":"..."');
  expect(form(stream.text())).toBe(form(block('text')));
});
