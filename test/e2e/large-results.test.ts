import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { type IncomingMessage, request } from 'node:http';
import { buffer } from 'node:stream/consumers';
import { describe, expect, it, onTestFinished } from 'vitest';
import { useDatabase } from '../support/database.ts';
import { eventually } from '../support/eventually.ts';
import { type RunningService, startService } from '../support/service.ts';
import packageJson from '../../package.json' with { type: 'json' };
import { client, submit, untilDone } from './support/api.ts';
import { serviceEnv, useService } from './support/main-process.ts';
import { expectProblem } from './support/problem.ts';
import { digestOf, pseudoRandom } from './support/pseudo-random.ts';
import { largeValue } from './support/results.config.ts';

const database = useDatabase();
const key = 'rbk_for-large-results';
const RINGBACK_CONFIG = 'test/e2e/support/results.config.ts';
const service = useService(() => serviceEnv(database.url, { RINGBACK_BOOTSTRAP_KEY: key, RINGBACK_CONFIG }));
const ask = (...args: Parameters<ReturnType<typeof client>>) => client(service.url, key)(...args);

/** A job that is done; answers the path of its result. */
async function resultOf(submission: object): Promise<string> {
  const { id } = await submit(ask, submission);
  expect(await untilDone(ask, id)).toMatchObject({ status: 'succeeded' });
  return `/v1/jobs/${id}/result`;
}

const get = (path: string, headers: Record<string, string> = {}, method = 'GET') =>
  fetch(`${service.url}${path}`, { method, headers: { authorization: `Bearer ${key}`, ...headers } });

const LENGTH = 100_000;
const whole = () => buffer(pseudoRandom(LENGTH));
const someBytes = () => resultOf({ type: 'files.random', input: { bytes: LENGTH } });

describe('a stored result', () => {
  it('is named by its job: where it is, its type, its length and its digest', async () => {
    const path = await resultOf({ type: 'files.text', input: { text: 'ä', content_type: 'text/csv; charset=utf-8' } });
    const { json } = await ask('GET', path.replace('/result', ''));
    expect(json).not.toHaveProperty('output');
    expect(json).toMatchObject({
      result_url: `${service.url}${path}`,
      result: {
        content_type: 'text/csv; charset=utf-8',
        bytes: 2,
        sha256: createHash('sha256').update('ä').digest('hex'),
      },
    });
  });

  it('comes with all that a client needs to check it, and a browser not to run it', async () => {
    const text = '<script>alert(document.domain)</script>';
    const response = await get(await resultOf({ type: 'files.text', input: { text, content_type: 'text/html' } }));
    expect(response.status).toBe(200);
    expect(await response.text()).toBe(text);
    const digest = createHash('sha256').update(text).digest();
    expect(Object.fromEntries(response.headers)).toMatchObject({
      'content-type': 'text/html',
      'content-length': String(text.length),
      'accept-ranges': 'bytes',
      etag: `"${digest.toString('hex')}"`,
      'repr-digest': `sha-256=:${digest.toString('base64')}:`,
      'cache-control': 'private, no-cache',
      'content-disposition': 'attachment',
      'content-security-policy': "default-src 'none'; sandbox",
      'x-content-type-options': 'nosniff',
    });
  });

  it('of nothing is nothing', async () => {
    const path = await resultOf({ type: 'files.random', input: { bytes: 0 } });
    const response = await get(path);
    expect([response.status, response.headers.get('content-length'), await response.text()]).toEqual([200, '0', '']);
    expect((await get(path, { range: 'bytes=-5' })).status).toBe(200);
    expect((await get(path, { range: 'bytes=0-' })).headers.get('content-range')).toBe('bytes */0');
  });

  it.each(['GET', 'HEAD'])('is not sent again to whom it is known: %s', async (method) => {
    const path = await someBytes();
    const etag = (await get(path, {}, 'HEAD')).headers.get('etag')!;
    const known = await get(path, { 'if-none-match': `"x", W/${etag}`, range: 'bytes=0-1' }, method);
    expect([known.status, known.headers.get('etag'), await known.text()]).toEqual([304, etag, '']);
    expect((await get(path, { 'if-none-match': '"x"' }, method)).status).toBe(200);
  });

  it('answers HEAD as GET, without its bytes: they are not even read', async () => {
    const path = await someBytes();
    const [head, body] = [await get(path, {}, 'HEAD'), await get(path)];
    await body.arrayBuffer();
    const told = ({ headers }: Response) => {
      // The client itself asks for the connection to be closed after a HEAD.
      const ofThisAnswer = new Set(['date', 'x-request-id', 'connection', 'keep-alive']);
      const others = Object.fromEntries([...headers].filter(([name]) => !ofThisAnswer.has(name)));
      return others;
    };
    expect(told(head)).toEqual(told(body));
    expect(head.headers.get('content-length')).toBe(String(LENGTH));
    const ranged = await get(path, { range: 'bytes=0-9' }, 'HEAD');
    expect([ranged.status, ranged.headers.get('content-range')], 'only GET has ranges').toEqual([200, null]);
    // With what it would have to read out of the way, nothing breaks off.
    await database.sql`DELETE FROM ringback.result_chunks WHERE number > 0`;
    expect((await get(path, {}, 'HEAD')).status).toBe(200);
    expect((await get('/v1/jobs')).status).toBe(200);
    expect(service.main.logs.filter(({ msg }) => msg === 'result cut off')).toEqual([]);
  });

  it('is JSON as it was returned, whatever its size', async () => {
    const path = await resultOf({ type: 'values.large', input: { items: 100_000 } });
    const response = await get(path);
    expect(response.headers.get('content-type')).toBe('application/json');
    const text = await response.text();
    expect(text.length).toBeGreaterThan(5_000_000);
    expect(text === JSON.stringify(largeValue(100_000)), 'to the byte').toBe(true);
  });

  it('that is inline has a digest and ranges as well', async () => {
    const path = await resultOf({ type: 'ringback.echo', input: { b: [1, 'ä'], a: null } });
    const text = '{"b":[1,"ä"],"a":null}';
    const response = await get(path);
    expect(await response.text()).toBe(text);
    const digest = createHash('sha256').update(text).digest('base64');
    expect(response.headers.get('repr-digest')).toBe(`sha-256=:${digest}:`);
    const part = await get(path, { range: 'bytes=1-3' });
    expect([part.status, await part.text()]).toEqual([206, '"b"']);
  });
});

describe('a range of a result', () => {
  it.each([
    ['bytes=0-0', 0, 0],
    ['bytes=61439-61440', 61_439, 61_440],
    ['bytes=50000-', 50_000, LENGTH - 1],
    ['bytes=-1', LENGTH - 1, LENGTH - 1],
    ['bytes=99999-200000', 99_999, 99_999],
  ])('%s', async (range, first, last) => {
    const response = await get(await someBytes(), { range });
    expect(response.status).toBe(206);
    expect(response.headers.get('content-range')).toBe(`bytes ${first}-${last}/${LENGTH}`);
    expect(response.headers.get('content-length')).toBe(String(last - first + 1));
    const expected = (await whole()).subarray(first, last + 1);
    expect(Buffer.from(await response.arrayBuffer()).equals(expected)).toBe(true);
  });

  it('that is not there is a problem, which says how much there is', async () => {
    const path = await someBytes();
    const answer = await ask('GET', path, undefined, { range: `bytes=${LENGTH}-` });
    expect(expectProblem(answer, 'range_not_satisfiable')).toMatchObject({ bytes: LENGTH });
    expect(answer.headers.get('content-range')).toBe(`bytes */${LENGTH}`);
  });

  it.each(['bytes=0-0,5-6', 'bytes=6-5', 'lines=0-1', 'bytes=x'])('%s is answered with the whole', async (range) => {
    const response = await get(await someBytes(), { range });
    expect([response.status, (await response.arrayBuffer()).byteLength]).toEqual([200, LENGTH]);
  });

  it('is given only if it is of the result that the client has a part of', async () => {
    const path = await someBytes();
    const etag = (await get(path, {}, 'HEAD')).headers.get('etag')!;
    const status = async (ifRange: string) => {
      const response = await get(path, { range: 'bytes=0-9', 'if-range': ifRange });
      await response.arrayBuffer();
      return response.status;
    };
    expect(await status(etag)).toBe(206);
    for (const other of ['"other"', `W/${etag}`, new Date().toUTCString()]) expect(await status(other)).toBe(200);
  });
});

describe('a result that is being sent', () => {
  it('is cut off, connection and all, when it is removed meanwhile', async () => {
    const path = await resultOf({ type: 'files.random', input: { bytes: 30_000_000 } });
    const asked = request(`${service.url}${path}`, { headers: { authorization: `Bearer ${key}` } }).end();
    const [response] = (await once(asked, 'response')) as [IncomingMessage];
    await once(response, 'readable');
    await database.sql`DELETE FROM ringback.result_chunks WHERE number > 5`;
    let received = 0;
    const reading = (async () => {
      for await (const piece of response) received += (piece as Buffer).length;
    })();
    await expect(reading).rejects.toMatchObject({ code: 'ECONNRESET' });
    expect(received).toBeLessThan(30_000_000);
    await eventually(() => {
      expect(service.main.logs.filter(({ msg }) => msg === 'result cut off').length).toBeGreaterThan(0);
    });
    expect(service.main.stderr).toEqual([]);
  });
});

describe('a result that fails', () => {
  it('in the middle is made anew by the next run', async () => {
    const path = await resultOf({ type: 'files.broken', input: { bytes: 200_000 } });
    const { json } = await ask('GET', path.replace('result', 'runs'));
    expect(json.items).toMatchObject([{ status: 'failed', error: { code: 'handler_error' } }, { status: 'succeeded' }]);
    const body = Buffer.from(await (await get(path)).arrayBuffer());
    expect(createHash('sha256').update(body).digest()).toEqual(await digestOf(pseudoRandom(200_000)));
  });

  it('to be stored because its type cannot stand in a header fails the job', async () => {
    const input = { text: 'x', content_type: 'text/html\r\nset-cookie: a=b' };
    const { id } = await submit(ask, { type: 'files.text', input });
    expect(await untilDone(ask, id)).toMatchObject({ status: 'failed', error: { code: 'invalid_output' } });
    expectProblem(await ask('GET', `/v1/jobs/${id}/result`), 'no_result');
  });

  it('because it is stuck ends with a cancel', async () => {
    const { id } = await submit(ask, { type: 'files.stuck', input: { bytes: 200_000 } });
    await eventually(async () => {
      expect(
        await database.sql`SELECT FROM ringback.result_chunks WHERE run_id = (
        SELECT run_id FROM ringback.jobs WHERE id = ${id})`,
      ).toHaveLength(3);
    });
    await ask('POST', `/v1/jobs/${id}/cancel`);
    expect(await untilDone(ask, id)).toMatchObject({ status: 'canceled' });
    await eventually(async () => expect(await orphans()).toEqual([]));
  });
});

/** Chunks of runs that are no job's result. */
const orphans = () => database.sql`
  SELECT run_id, count(*)::int FROM ringback.result_chunks AS chunk
  WHERE NOT EXISTS (SELECT FROM ringback.jobs WHERE result_run_id = chunk.run_id) GROUP BY run_id`;

describe('a process that is killed while it stores a result', { timeout: 120_000 }, () => {
  it('leaves nothing of it behind, and the job is run again', async () => {
    const env = { RINGBACK_CONFIG };
    const first = await startService({ databaseUrl: database.url, env });
    // The service of this file stands still meanwhile: it must not be the one that runs the job. Then it rescues it.
    service.main.child.kill('SIGSTOP');
    onTestFinished(() => void service.main.child.kill('SIGCONT'));
    const { id } = await submit(first.request, { type: 'files.stuck', input: { bytes: 3_000_000 } });
    await eventually(async () => expect((await orphans()).length).toBeGreaterThan(0));
    await first.kill();
    service.main.child.kill('SIGCONT');
    const job = await untilDone(ask, id, 60_000);
    expect(job).toMatchObject({ status: 'succeeded', runs: 2, result: { bytes: 3_000_000 } });
    expect(await orphans()).toEqual([]);
    const { json } = await ask('GET', `/v1/jobs/${id}/runs`);
    expect(json.items).toMatchObject([{ status: 'lost' }, { status: 'succeeded' }]);
  });
});

const MIB = 1024 * 1024;

/** The most memory that a process has had resident, in MiB. */
function peakOf({ process: { pid } }: RunningService): number {
  const [, kibibytes] = /^VmHWM:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))!;
  return Number(kibibytes) / 1024;
}

const isLinux = process.platform === 'linux';
if (!isLinux) process.stdout.write('skipped: the memory of a process is read from /proc, which only Linux has\n');

describe.runIf(isLinux)('a result of 50 MB', { timeout: 120_000 }, () => {
  it('is stored, sent and verified while the process stays under 250 MB', async () => {
    const nodeArgs = packageJson.scripts.start.split(' ').filter((word) => word.startsWith('--'));
    const large = await startService({ databaseUrl: database.url, env: { RINGBACK_CONFIG }, nodeArgs });
    const atStart = peakOf(large);
    const bytes = 50 * MIB;
    const expected = await digestOf(pseudoRandom(bytes));
    const { id } = await submit(large.request, { type: 'files.random', input: { bytes } });
    const job = await untilDone(large.request, id, 60_000);
    expect(job).toMatchObject({ status: 'succeeded', result: { bytes, sha256: expected.toString('hex') } });
    const afterStoring = peakOf(large);

    const fetchPart = async (range?: string) => {
      const headers = { authorization: `Bearer ${large.key}`, ...(range !== undefined && { range }) };
      const response = await fetch(`${large.url}/v1/jobs/${id}/result`, { headers });
      expect(response.status).toBe(range === undefined ? 200 : 206);
      return response;
    };
    const started = performance.now();
    const sent = await fetchPart();
    expect(sent.headers.get('repr-digest')).toBe(`sha-256=:${expected.toString('base64')}:`);
    expect(await digestOf(sent.body!)).toEqual(expected);
    const seconds = (performance.now() - started) / 1000;

    const middle = 20 * MIB + 12_345;
    const parts = async function* parts() {
      for (const range of [`bytes=0-${middle - 1}`, `bytes=${middle}-`]) yield* (await fetchPart(range)).body!;
    };
    expect(await digestOf(parts()), 'two ranges, glued together').toEqual(expected);
    const afterSending = peakOf(large);
    const took = Date.parse(job.finished_at) - Date.parse(job.started_at);
    const speeds = `${Math.round(50_000 / took)} MiB/s in, ${Math.round(50 / seconds)} MiB/s out`;
    const peaks = [atStart, afterStoring, afterSending].map((peak) => Math.round(peak)).join(', ');
    process.stdout.write(`50 MiB result: ${speeds}; peak RSS ${peaks} MiB at start, after storing, after sending\n`);
    expect(afterSending).toBeLessThan(250_000_000 / MIB);
  });
});
