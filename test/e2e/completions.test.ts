import { once } from 'node:events';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { text } from 'node:stream/consumers';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { useDatabase } from '../support/database.ts';
import { eventually } from '../support/eventually.ts';
import { errorsIn } from '../support/log.ts';
import { raiseOn } from '../support/raising.ts';
import { client, submit, untilDone } from './support/api.ts';
import { endsOf } from './support/claims.ts';
import { serviceEnv, useService } from './support/main-process.ts';
import { expectProblem } from './support/problem.ts';

/** Back ends that answer 202, and tell the end under the URL that they were given. */

interface Call {
  readonly input: unknown;
  readonly completionUrl: string;
  readonly run: string;
  /** Answers the call; nothing is answered before. */
  answer(status: number, body?: string): void;
}

const calls: Call[] = [];
const server = createServer((request, response) => void take(request, response));
let backendUrl = '';

async function take(request: IncomingMessage, response: ServerResponse): Promise<void> {
  calls.push({
    input: JSON.parse(await text(request)),
    completionUrl: String(request.headers['ringback-completion-url']),
    run: String(request.headers['ringback-run-id']),
    answer: (status, body = '') => void response.writeHead(status, { 'content-type': 'application/json' }).end(body),
  });
}

beforeAll(async () => {
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  backendUrl = `http://127.0.0.1:${(server.address() as AddressInfo).port}/`;
});
afterAll(() => {
  server.closeAllConnections();
  server.close();
});

const database = useDatabase();
const key = 'rbk_for-completions';
const service = useService(() =>
  serviceEnv(database.url, {
    RINGBACK_BOOTSTRAP_KEY: key,
    RINGBACK_CONFIG: 'test/e2e/support/completions.config.ts',
    TEST_BACKEND_URL: backendUrl,
  }),
);
const ask = (...args: Parameters<ReturnType<typeof client>>) => client(service.url, key)(...args);

const nextCall = () =>
  eventually(() => {
    const call = calls.shift();
    if (call === undefined) throw new Error('the back end was not called');
    return call;
  });

/** Without an API key. */
async function tell(url: string, body: unknown, method: 'POST' | 'PUT' = 'POST', type = 'application/json') {
  const sent = body instanceof Buffer || typeof body === 'string' ? body : JSON.stringify(body);
  // oxlint-disable-next-line unicorn/no-invalid-fetch-options -- never a GET
  const response = await fetch(url, { method, body: sent, headers: { 'content-type': type } });
  const answered = await response.text();
  const json = answered === '' ? undefined : JSON.parse(answered);
  return { status: response.status, headers: response.headers, text: answered, json };
}

async function untilDeferred(id: string): Promise<void> {
  await eventually(async () => {
    const [item] = await database.sql`SELECT held_by FROM ringback.run_queue WHERE job_id = ${id}`;
    expect(item?.held_by).toBe('backend');
  });
}

/** A job whose back end has answered 202. */
async function defer(submission: object = {}) {
  const { id } = await submit(ask, { type: 'test.later', input: { n: 1 }, ...submission });
  const call = await nextCall();
  call.answer(202);
  await untilDeferred(id);
  return { id: id as string, url: call.completionUrl };
}

const jobOf = async (id: string) => (await ask('GET', `/v1/jobs/${id}`)).json;

describe('a completion URL', { timeout: 40_000 }, () => {
  it('ends the run well, after progress, once', async () => {
    const { id, url } = await defer();
    expect(url).toMatch(new RegExp(`^${service.url}/v1/completions/[\\w-]{43}$`));
    expect((await tell(`${url}/progress`, { percent: 30, message: 'third' })).status).toBe(204);
    expect(await jobOf(id)).toMatchObject({ status: 'in_progress', progress: { percent: 30, message: 'third' } });
    expect((await tell(url, { status: 'succeeded', output: [1, 'ä'] })).status).toBe(204);
    expect(await jobOf(id)).toMatchObject({ status: 'succeeded', output: [1, 'ä'], runs: 1 });
    expectProblem(await tell(url, { status: 'succeeded', output: 2 }), 'completion_not_found');
    expectProblem(await tell(`${url}/progress`, { percent: 31 }), 'completion_not_found');
    expectProblem(await tell(`${url}/result`, 'x', 'PUT', 'text/plain'), 'completion_not_found');
    expect((await jobOf(id)).output).toEqual([1, 'ä']);
  });

  it('counts although the call has not been answered: the 202, when it comes, changes nothing', async () => {
    const { id } = await submit(ask, { type: 'test.later', input: 0 });
    const call = await nextCall();
    expect((await tell(call.completionUrl, { status: 'succeeded', output: 'early' })).status).toBe(204);
    expect(await untilDone(ask, id)).toMatchObject({ status: 'succeeded', output: 'early' });
    call.answer(202);
    const line = await eventually(() => {
      const found = service.main.logs.find(
        ({ msg, run_id: run, run: how }) => msg === 'run' && run === call.run && how === 'refused',
      );
      expect(found).toBeDefined();
      return found;
    });
    expect(line).toMatchObject({ job_id: id });
    expect(await endsOf(ask, id)).toEqual(['succeeded']);
    expect((await jobOf(id)).output).toBe('early');
  });

  it('counts before a result that the call is answered with', async () => {
    const { id } = await submit(ask, { type: 'test.later', input: 0 });
    const call = await nextCall();
    await tell(call.completionUrl, { status: 'succeeded', output: 'told' });
    call.answer(200, '"answered"');
    await eventually(() =>
      expect(service.main.logs.some(({ run_id: run, run: how }) => run === call.run && how === 'refused')).toBe(true),
    );
    expect(await jobOf(id)).toMatchObject({ output: 'told', runs: 1 });
  });

  it('fails the run; the next one has a URL of its own', async () => {
    const { id, url } = await defer();
    const error = { code: 'no_paper', message: 'out of paper' };
    expect((await tell(url, { status: 'failed', error })).status).toBe(204);
    const again = await nextCall();
    again.answer(202);
    await untilDeferred(id);
    expect(again.completionUrl).not.toBe(url);
    expectProblem(await tell(url, { status: 'succeeded', output: 'stale' }), 'completion_not_found');
    await tell(again.completionUrl, { status: 'failed', error, retryable: false });
    expect(await jobOf(id)).toMatchObject({ status: 'failed', runs: 2, error });
  });

  it('takes a result of any content type', async () => {
    const { id, url } = await defer();
    const body = Buffer.alloc(600_000, 'png');
    expect((await tell(`${url}/result`, body, 'PUT', 'image/png')).status).toBe(204);
    expect(await jobOf(id)).toMatchObject({
      status: 'succeeded',
      result: { content_type: 'image/png', bytes: 600_000 },
    });
  });

  it('holds the output to what the type promises', async () => {
    const { id, url } = await defer({ type: 'test.sum' });
    expectProblem(await tell(url, { status: 'succeeded', output: { sum: '1' } }), 'invalid_output');
    expect(await jobOf(id)).toMatchObject({ status: 'failed', error: { code: 'invalid_output' } });
  });

  it('is gone when the job is called off: a back end cannot be stopped, so nobody waits for it', async () => {
    const { id, url } = await defer();
    const canceled = await ask('POST', `/v1/jobs/${id}/cancel`);
    expect(canceled.json).toMatchObject({ status: 'canceled', error: { code: 'canceled' } });
    expectProblem(await tell(url, { status: 'succeeded', output: 1 }), 'completion_not_found');
    expect(await endsOf(ask, id)).toEqual(['canceled']);
  });

  it('is not waited for when the cancel came before the 202', async () => {
    const { id } = await submit(ask, { type: 'test.later', input: 0 });
    const call = await nextCall();
    await ask('POST', `/v1/jobs/${id}/cancel`);
    call.answer(202);
    expect(await untilDone(ask, id)).toMatchObject({ status: 'canceled' });
  });

  it('is gone when the time of the run is up', async () => {
    const { id, url } = await defer({ timeout_ms: 1500, retry: { max_runs: 1 } });
    const job = await untilDone(ask, id, 20_000);
    expect(job).toMatchObject({ status: 'failed', error: { code: 'timeout' } });
    expect(job.error.message).toContain('back end');
    expectProblem(await tell(url, { status: 'succeeded', output: 1 }), 'completion_not_found');
  });

  it.each([
    [{ status: 'done' }, /status/],
    [{ status: 'succeeded' }, /output/],
    [{ status: 'succeeded', output: 1, error: { message: 'x' } }, /error/],
    [{ status: 'failed' }, /error/],
    [{ status: 'failed', error: { message: 'x', code: 'A B' } }, /code/],
    [[], /./],
  ])('refuses %j and is good for another try', async (body, saying) => {
    const { id, url } = await defer();
    expect(expectProblem(await tell(url, body), 'invalid_body').detail).toMatch(saying);
    expectProblem(await tell(url, '{'), 'malformed_json');
    expectProblem(await tell(url, 'x', 'POST', 'text/plain'), 'unsupported_media_type');
    expect((await tell(url, { status: 'succeeded', output: 1 })).status).toBe(204);
    expect(await jobOf(id)).toMatchObject({ status: 'succeeded' });
  });

  it.each(['x', 'A'.repeat(43), `${'A'.repeat(42)}%2F`, 'A'.repeat(10_000)])(
    'of nobody (%#) is not there',
    async (token) => {
      const url = `${service.url}/v1/completions/${token}`;
      expectProblem(await tell(url, { status: 'succeeded', output: 1 }), 'completion_not_found');
      expectProblem(await tell(url, 'no JSON'), 'completion_not_found');
      expectProblem(await tell(`${url}/progress`, { percent: 1 }), 'completion_not_found');
      expectProblem(await tell(`${url}/result`, 'x', 'PUT'), 'completion_not_found');
    },
  );
});

it('leaves no error and no token in the log, and no token in the database', async () => {
  const { id, url } = await defer();
  const token = url.slice(url.lastIndexOf('/') + 1);
  await tell(`${url}/progress`, { percent: 1 });
  const [{ items }] = await database.sql<[{ items: string }]>`
    SELECT json_agg(item)::text AS items FROM ringback.run_queue AS item`;
  expect(items).toContain(id);
  expect(items).not.toContain(token);
  await tell(url, { status: 'succeeded', output: 1 });
  await eventually(() => {
    const paths = service.main.logs.map(({ path }) => path).filter((path) => String(path).includes('/completions/'));
    expect(paths).toEqual(expect.arrayContaining(['/v1/completions/...', '/v1/completions/.../progress']));
  });
  expect(JSON.stringify(service.main.logs)).not.toContain(token);
  expect(errorsIn(service.main.logs)).toEqual([]);
});

describe('while the database refuses it for a moment', { timeout: 60_000 }, () => {
  const NEWLY_CANCELED = 'NEW.cancel_requested_at IS NOT NULL AND OLD.cancel_requested_at IS NULL';
  const NEW_PROGRESS = 'NEW.progress::text IS DISTINCT FROM OLD.progress::text';
  const refuse = (sqlState: string, table: 'jobs' | 'run_queue', when: string) =>
    raiseOn('UPDATE', table, sqlState, { sql: database.sql, times: 3, when });

  it.each(['40001', '40P01', '55P03', '57014'])(
    'with %s: a hand-over, progress, a completion and a cancel take their time',
    async (sqlState) => {
      const errors = [
        await refuse(sqlState, 'run_queue', "NEW.held_by = 'backend' AND OLD.held_by = 'runner'"),
        await refuse(sqlState, 'jobs', NEW_PROGRESS),
        await raiseOn('INSERT', 'job_runs', sqlState, { sql: database.sql, times: 3 }),
        await refuse(sqlState, 'run_queue', NEWLY_CANCELED),
      ];
      const [done, canceled] = [await defer(), await defer()];
      expect((await tell(`${done.url}/progress`, { percent: 30 })).status).toBe(204);
      expect((await tell(done.url, { status: 'succeeded', output: 1 })).status).toBe(204);
      expect((await ask('POST', `/v1/jobs/${canceled.id}/cancel`)).json).toMatchObject({ status: 'canceled' });
      expect(await jobOf(done.id)).toMatchObject({ status: 'succeeded', output: 1, runs: 1 });
      for (const one of errors) expect(await one.raised()).toBe(3);
    },
  );

  it('because it fails over: a completion is taken, other reports are to be sent again', async () => {
    const { id, url } = await defer();
    await refuse('25006', 'jobs', NEW_PROGRESS);
    const ends = await raiseOn('INSERT', 'job_runs', '25006', { sql: database.sql, times: 3 });
    const refused = await tell(`${url}/progress`, { percent: 30 });
    expectProblem(refused, 'database_unavailable');
    expect(Number(refused.headers.get('retry-after'))).toBeGreaterThan(0);
    await eventually(async () => expect((await tell(`${url}/progress`, { percent: 30 })).status).toBe(204));
    expect((await tell(url, { status: 'succeeded', output: 1 })).status).toBe(204);
    expect(await ends.raised()).toBe(3);
    expect(await endsOf(ask, id)).toEqual(['succeeded']);
  });
});
