import { execFile } from 'node:child_process';
import { mkdir, mkdtemp, readFile, rm, truncate, writeFile } from 'node:fs/promises';
import { once } from 'node:events';
import { createServer, type IncomingHttpHeaders, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { text as readText } from 'node:stream/consumers';
import { readFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { useDatabase } from '../support/database.ts';
import { eventually } from '../support/eventually.ts';
import { type RunningService, startService } from '../support/service.ts';

/** What the guides tell people to write is written here as they say it, and run. */

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const database = useDatabase();

/** The code of a guide's block in that language, the first one unless told otherwise. */
function block(guide: string, language: string, index = 0): string {
  const text = readFileSync(join(ROOT, 'docs/guides', `${guide}.md`), 'utf8');
  const blocks = [...text.matchAll(/^```(\w+)\n(.*?)^```$/gms)].filter(([, found]) => found === language);
  const code = blocks[index]?.[2];
  if (code === undefined) throw new Error(`docs/guides/${guide}.md has no block ${index} in ${language}`);
  return code;
}

/** The body that a `curl ... -d '...'` sends. */
function bodyOf(curl: string): unknown {
  return JSON.parse(/-d '([^']*)'/.exec(curl)?.[1] ?? '');
}

/** A service whose ringback.config.ts is the guide's. */
async function serviceOf(guide: string, change = (config: string) => config): Promise<RunningService> {
  // Inside the package, as only there `ringback` is known; and not where Git or the linter look.
  await mkdir(join(ROOT, '.ringback'), { recursive: true });
  const folder = await mkdtemp(join(ROOT, '.ringback', 'guide-'));
  onTestFinished(() => rm(folder, { recursive: true, force: true }));
  const file = join(folder, 'ringback.config.ts');
  await writeFile(file, change(block(guide, 'ts')));
  return startService({ databaseUrl: database.url, env: { RINGBACK_CONFIG: file } });
}

async function submit(service: RunningService, body: unknown): Promise<string> {
  const { status, json, text } = await service.request('POST', '/v1/jobs', body);
  expect(status, text).toBe(202);
  return json.id as string;
}

function endOf(service: RunningService, id: string) {
  return eventually(async () => {
    const { json } = await service.request('GET', `/v1/jobs/${id}`);
    expect(json.done).toBe(true);
    return json;
  });
}

test('handlers.md: the job is run, reports, logs, and fails as it says', async () => {
  const service = await serviceOf('handlers');
  const id = await submit(service, bodyOf(block('handlers', 'sh')));
  expect(await endOf(service, id)).toMatchObject({ status: 'succeeded', output: { pages: 3 }, runs: 1 });
  const busy = await submit(service, { type: 'report.build', input: { pages: 1, upstream: 'busy' } });
  expect(await endOf(service, busy)).toMatchObject({ status: 'succeeded', runs: 2 });
  const gone = await submit(service, { type: 'report.build', input: { pages: 1, upstream: 'gone' } });
  expect(await endOf(service, gone)).toMatchObject({ status: 'failed', runs: 1, error: { code: 'handler_error' } });
  const lines = await database.sql`SELECT level, message, fields FROM ringback.job_logs WHERE job_id = ${id}`;
  expect([...lines]).toEqual([{ level: 'info', message: 'building', fields: { pages: 3, run: 1 } }]);
});

test('schedule-jobs.md: the schedule is made, fires at the times it says, and is triggered', async () => {
  const service = await startService({ databaseUrl: database.url });
  const made = await service.request('POST', '/v1/schedules', bodyOf(block('schedule-jobs', 'sh')));
  expect(made.status, made.text).toBe(201);
  const shown = JSON.parse(block('schedule-jobs', 'json')) as { id: string; next_fire_at: string };
  const { id, next_fire_at: nextFireAt, ...members } = shown;
  expect(made.json).toMatchObject(members);
  expect(made.json.id).toMatch(new RegExp(`^${id.slice(0, 4)}`));
  expect(nextFireAt.slice(11)).toMatch(/^0[67]:30:00\.000Z$/);
  expect(made.json.next_times.every((time: string) => /T0[67]:30:00\.000Z$/.test(time))).toBe(true);

  const path = `/v1/schedules/${made.json.id}`;
  const verbs = [...block('schedule-jobs', 'sh', 1).matchAll(/\/v1\/schedules\/\$ID\/(\w+)"/g)].map(
    ([, verb]) => verb!,
  );
  expect(verbs).toEqual(['trigger', 'pause', 'resume']);
  for (const verb of verbs) {
    const { status, json, text } = await service.request('POST', `${path}/${verb}`);
    expect(status, text).toBe(verb === 'trigger' ? 202 : 200);
    if (verb === 'trigger')
      expect(await endOf(service, json.id)).toMatchObject({ status: 'succeeded', schedule_id: made.json.id });
    else expect(json.paused).toBe(verb === 'pause');
  }
  const changed = await service.request('PATCH', path, bodyOf(block('schedule-jobs', 'sh', 2)));
  expect(changed.json).toMatchObject({ cron: '0 9 * * *', job: { input: { report: 'short' } } });
});

test('threads.md: the job is computed in a thread, while the API answers', async () => {
  const service = await serviceOf('threads');
  const id = await submit(service, bodyOf(block('threads', 'sh')));
  expect(await endOf(service, id)).toMatchObject({ status: 'succeeded', output: { count: 9592 } });
});

test('large-results.md: a file is made, downloaded, resumed and verified', async () => {
  const service = await serviceOf('large-results');
  const id = await submit(service, bodyOf(block('large-results', 'sh')));
  const job = await endOf(service, id);
  const described = JSON.parse(block('large-results', 'json')) as { result: { bytes: number; content_type: string } };
  expect(job).toMatchObject({ status: 'succeeded', result_url: `${service.url}/v1/jobs/${id}/result` });
  expect(job.result).toEqual({ ...described.result, sha256: expect.stringMatching(/^[0-9a-f]{64}$/) });

  const folder = await mkdtemp(join(tmpdir(), 'ringback-guide-'));
  onTestFinished(() => rm(folder, { recursive: true, force: true }));
  const [program, file] = [join(folder, 'download.ts'), join(folder, 'export.csv')];
  await writeFile(program, block('large-results', 'ts', 1));
  const download = async () => {
    const env = { ...process.env, KEY: service.key };
    const { stdout } = await promisify(execFile)(process.execPath, [program, job.result_url, file], { env });
    return stdout.trim().split('\n');
  };
  expect(await download()).toEqual([expect.stringContaining('from byte 0'), 'verified']);
  const whole = await readFile(file, 'utf8');
  expect(whole).toMatch(/^order,total\n1,1\.25\n[^]*\n100000,125000\.00\n$/);
  await truncate(file, 70_000);
  expect(await download()).toEqual(['206, from byte 70000', 'verified']);
  expect(await readFile(file, 'utf8')).toBe(whole);
  expect(await download(), 'nothing is left to be fetched').toEqual(['verified']);
  await writeFile(file, `x${whole.slice(1)}`);
  await expect(download()).rejects.toThrow('the digest differs');
});

test('remote-workers.md: a run is claimed, kept and completed as it says', async () => {
  const service = await serviceOf('remote-workers');
  const id = await submit(service, { type: 'report.render', input: { pages: 5 } });
  const [claim, heartbeat, complete] = [0, 1, 2].map((index) => bodyOf(block('remote-workers', 'sh', index)));
  const claimed = await service.request('POST', '/v1/worker/claims', claim);
  expect(claimed.status, claimed.text).toBe(200);
  const [run] = claimed.json.runs;
  expect(run).toMatchObject({ job: { id }, input: { pages: 5 }, number: 1, heartbeat_after_s: 9.99 });
  const path = `/v1/worker/runs/${run.handle}`;
  const kept = await service.request('POST', `${path}/heartbeat`, heartbeat);
  expect(kept.json).toMatchObject({ cancel_requested: false });
  expect((await service.request('GET', `/v1/jobs/${id}`)).json.progress).toEqual({
    percent: 40,
    message: 'page 2 of 5',
  });
  expect((await service.request('POST', `${path}/complete`, complete)).status).toBe(200);
  expect(await endOf(service, id)).toMatchObject({ status: 'succeeded', output: { pages: 5 } });
  expect((await service.request('POST', `${path}/complete`, complete)).status, 'told again').toBe(200);
});

test('http-back-end.md: the back end is called, or tells the end later', async () => {
  const calls: Array<{ headers: IncomingHttpHeaders; body: string; response: ServerResponse }> = [];
  const server = createServer((request, response) => {
    void readText(request).then((body) => calls.push({ headers: request.headers, body, response }));
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  onTestFinished(() => {
    server.closeAllConnections();
    server.close();
  });
  const { port } = server.address() as AddressInfo;
  const service = await serviceOf('http-back-end', (config) => config.replace('localhost:8080', `127.0.0.1:${port}`));
  const next = () => eventually(() => calls.shift() ?? expect.unreachable('no call'));

  const atOnce = await submit(service, { type: 'invoice.print', input: { order: '17' } });
  const first = await next();
  expect(JSON.parse(first.body)).toEqual({ order: '17' });
  expect(first.headers).toMatchObject({ authorization: 'Bearer the-back-end-s-own', 'idempotency-key': atOnce });
  expect(first.headers).toMatchObject({ 'ringback-job-id': atOnce, 'ringback-run-number': '1' });
  first.response.writeHead(200, { 'content-type': 'application/json' }).end('{"invoice":"A-17"}');
  expect(await endOf(service, atOnce)).toMatchObject({ status: 'succeeded', output: { invoice: 'A-17' } });

  const later = await submit(service, { type: 'invoice.print', input: { order: '18' } });
  const second = await next();
  second.response.writeHead(202).end();
  const told = await fetch(String(second.headers['ringback-completion-url']), {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(bodyOf(block('http-back-end', 'sh'))),
  });
  expect(told.status).toBe(204);
  expect(await endOf(service, later)).toMatchObject({ status: 'succeeded', output: { invoice: 'A-17' } });
});
