import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { expect, it, onTestFinished } from 'vitest';
import { useDatabase } from '../support/database.ts';
import { openEventStream } from '../support/event-source.ts';
import { client, submit } from './support/api.ts';
import { serviceEnv, useService } from './support/main-process.ts';

/** What docs/guides/wait-for-a-job.md tells people to run is run, as it says. */

const guide = readFileSync(new URL('../../docs/guides/wait-for-a-job.md', import.meta.url), 'utf8');
const database = useDatabase();
const key = 'rbk_for-the-guide';
const service = useService(() => serviceEnv(database.url, { RINGBACK_BOOTSTRAP_KEY: key }));

function blocks(language: string): string[] {
  return [...guide.matchAll(/^```(\w+)\n(.*?)^```$/gms)]
    .filter(([, found]) => found === language)
    .map(([, , code]) => code!);
}

/** The request that a `curl` of the guide makes. */
function requestOf(curl: string, job: string) {
  const filled = curl.replaceAll('$RINGBACK', service.url).replaceAll('$KEY', key).replaceAll('$JOB', job);
  const headers = Object.fromEntries(
    [...filled.matchAll(/-H (["'])(.*?)\1/g)].map(([, , header]) => header!.split(': ') as [string, string]),
  );
  const body = /-d '([^']*)'/.exec(filled)?.[1];
  return { url: /"(http[^"]*)"/.exec(filled)![1]!, headers, ...(body !== undefined && { method: 'POST', body }) };
}

const newJob = async (ms = 200) =>
  (await submit(client(service.url, key), { type: 'ringback.sleep', input: { ms } })).id as string;

/** Runs a script of the guide to its end, and answers what it printed. */
async function runScript(code: string, job: string): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'ringback-guide-'));
  onTestFinished(() => rm(folder, { recursive: true, force: true }));
  const file = join(folder, 'script.mjs');
  await writeFile(file, code);
  const child = spawn(process.execPath, [file], {
    env: { PATH: process.env['PATH'], RINGBACK: service.url, KEY: key, JOB: job },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  onTestFinished(() => void child.kill('SIGKILL'));
  const [printed] = await Promise.all([text(child.stdout), once(child, 'exit')]);
  return printed;
}

it('submits, and gets the finished job', async () => {
  const { url, ...request } = requestOf(blocks('sh')[0]!, '');
  const response = await fetch(url, request);
  expect(response.status).toBe(200);
  expect(await response.json()).toMatchObject({ status: 'succeeded' });
  expect(response.headers.get('preference-applied')).toBe('wait=10');
});

it('holds the line until the job is done', async () => {
  const { url, ...request } = requestOf(blocks('sh')[1]!, await newJob());
  const response = await fetch(url, request);
  expect(await response.json()).toMatchObject({ status: 'succeeded' });
});

it('follows a job, and gets what the guide shows', async () => {
  const { url, headers } = requestOf(blocks('sh')[2]!, await newJob());
  const stream = await openEventStream(url, headers);
  await stream.ended;
  const shown = [...blocks('text')[0]!.matchAll(/^id: (\d+)\nevent: (\S+)/gm)].map(([, id, event]) => `${id} ${event}`);
  expect(shown).toEqual(['1 job.queued', '2 job.started']);
  expect(stream.events().map(({ id, event }) => `${id} ${event}`)).toEqual([...shown, '3 job.succeeded']);
  expect(stream.text().split('\n')[0]).toBe(blocks('text')[0]!.split('\n')[0]);
});

it('polls with the first script', async () => {
  expect(await runScript(blocks('js')[0]!, await newJob())).toBe('succeeded\n');
});

it('follows with the second script', async () => {
  const printed = await runScript(blocks('js')[1]!, await newJob(1000));
  expect(printed.split('\n').map((line) => line.trim())).toEqual(['job.queued', 'job.started', 'job.succeeded', '']);
});
