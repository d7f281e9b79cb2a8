import { createHash } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { useDatabase } from '../support/database.ts';
import { eventually } from '../support/eventually.ts';
import { errorsIn } from '../support/log.ts';
import { client, submit, untilDone } from './support/api.ts';
import { beginRun, type ClaimedRun, claimRun, tell } from './support/claims.ts';
import { serviceEnv, useService } from './support/main-process.ts';
import { expectProblem } from './support/problem.ts';
import { openSocket, readAnswer } from './support/raw-http.ts';

/** The results of remote workers: checked when they are JSON, streamed when they are anything else. */

const MAX_RESULT_BYTES = 32_000_000;
const database = useDatabase();
const key = 'rbk_for-worker-results';
const service = useService(() =>
  serviceEnv(database.url, {
    RINGBACK_BOOTSTRAP_KEY: key,
    RINGBACK_CONFIG: 'test/e2e/support/remote.config.ts',
    RINGBACK_MAX_RESULT_BYTES: String(MAX_RESULT_BYTES),
  }),
);
const ask = (...args: Parameters<ReturnType<typeof client>>) => client(service.url, key)(...args);
const begin = () => beginRun(ask, {}, { lease_s: 120 });
const jobOf = async ({ job }: ClaimedRun) => (await ask('GET', `/v1/jobs/${job.id}`)).json;

function sha256(bytes: Uint8Array | string, encoding: 'hex' | 'base64' = 'hex'): string {
  return createHash('sha256').update(bytes).digest(encoding);
}

async function put(run: ClaimedRun, body: Uint8Array | ReadableStream, headers: Record<string, string> = {}) {
  const response = await fetch(`${service.url}/v1/worker/runs/${run.handle}/result`, {
    method: 'PUT',
    headers: { authorization: `Bearer ${key}`, 'content-type': 'application/pdf', ...headers },
    body,
    duplex: 'half',
  });
  const text = await response.text();
  return { status: response.status, headers: response.headers, text, json: JSON.parse(text) };
}

/** What stands in the chunks of a run. */
async function chunksOf({ run_id: runId }: ClaimedRun) {
  const [row] = await database.sql<[{ bytes: number; sha256: string | null }]>`
    SELECT coalesce(sum(octet_length(bytes)), 0)::int AS bytes,
      encode(sha256(string_agg(bytes, '' ORDER BY number)), 'hex') AS sha256
    FROM ringback.result_chunks WHERE run_id = ${runId}`;
  return row;
}

/** The head of an upload of so many bytes, and some of them: the rest is up to the test. */
async function startUpload(run: ClaimedRun, length: number, first: Uint8Array) {
  const socket = await openSocket(service.url);
  socket.write(
    `PUT /v1/worker/runs/${run.handle}/result HTTP/1.1\r\nhost: x\r\nauthorization: Bearer ${key}\r\n` +
      `content-type: text/plain\r\ncontent-length: ${length}\r\n\r\n`,
  );
  socket.write(first);
  await eventually(async () => expect((await chunksOf(run)).bytes).toBeGreaterThan(0));
  return socket;
}

/** So many bytes, made as they are read. */
function streamOf(length: number) {
  let sent = 0;
  const pull = (controller: ReadableStreamDefaultController) => {
    if (sent >= length) return controller.close();
    sent += 500_000;
    controller.enqueue(bytes(500_000, 'x'));
  };
  return { body: new ReadableStream({ pull }), sent: () => sent };
}

const bytes = (length: number, fill: string) => Buffer.alloc(length, fill);

describe('an output', { timeout: 40_000 }, () => {
  it('that the type does not promise fails the job, and the worker is told where', async () => {
    const { id } = await submit(ask, { type: 'test.typed', input: 1 });
    const run = await claimRun(ask, 'test.typed');
    const told = await tell(ask, run, 'complete', { output: { sum: 'x', more: 1 } });
    expect(told.json).toMatchObject({
      status: 422,
      code: 'invalid_output',
      run_status: 'failed',
      job_status: 'failed',
    });
    expect(told.json.errors.map(({ path }: { path: string }) => path)).toContain('/output/sum');
    expect(await untilDone(ask, id)).toMatchObject({ status: 'failed', runs: 1, error: { code: 'invalid_output' } });
    const again = await tell(ask, run, 'complete', { output: { sum: 1 } });
    expect(again.json).toMatchObject({ status: 409, code: 'run_over', run_error: { code: 'invalid_output' } });
  });

  it('that cannot be stored fails the job', async () => {
    const run = await begin();
    const told = await tell(ask, run, 'complete', { output: 'a\0b' });
    expect(told.json).toMatchObject({ status: 422, code: 'invalid_output' });
    expect(await jobOf(run)).toMatchObject({ status: 'failed' });
  });

  it('that is large is stored apart', async () => {
    const run = await begin();
    const output = { text: 'z'.repeat(1_000_000) };
    expect((await tell(ask, run, 'complete', { output })).status).toBe(200);
    expect(await jobOf(run)).toMatchObject({ result: { content_type: 'application/json', bytes: 1_000_011 } });
  });
});

describe('an upload', { timeout: 60_000 }, () => {
  it('ends the run, under its content type and digest; sent again, it is told so again', async () => {
    const run = await begin();
    const body = bytes(700_000, 'pdf');
    const digest = { 'content-digest': `sha-256=:${sha256(body, 'base64')}:`, 'repr-digest': 'md5=:AAAA:' };
    const first = await put(run, body, digest);
    expect(first.json).toEqual({ run_id: run.run_id, run_status: 'succeeded', job_status: 'succeeded' });
    const result = { content_type: 'application/pdf', bytes: 700_000, sha256: sha256(body) };
    expect(await jobOf(run)).toMatchObject({ status: 'succeeded', result });
    expect(await chunksOf(run)).toEqual({ bytes: 700_000, sha256: sha256(body) });
    expect((await put(run, bytes(300_000, 'other'))).json).toEqual(first.json);
    expect((await tell(ask, run, 'complete', { output: 1 })).json).toEqual(first.json);
    expect(await chunksOf(run)).toEqual({ bytes: 700_000, sha256: sha256(body) });
  });

  it('may be empty', async () => {
    const run = await begin();
    expect((await put(run, new Uint8Array(0), { 'content-type': 'text/plain; charset=utf-8' })).status).toBe(200);
    const result = { content_type: 'text/plain; charset=utf-8', bytes: 0, sha256: sha256('') };
    expect(await jobOf(run)).toMatchObject({ status: 'succeeded', result });
  });

  it('is stored as it comes: nothing of it waits for its end', async () => {
    const run = await begin();
    const [first, last] = [bytes(20_000_000, 'first'), bytes(10_000_000, 'last')];
    const socket = await startUpload(run, first.length + last.length, first);
    const answer = readAnswer(socket, 30_000);
    await eventually(async () => expect((await chunksOf(run)).bytes).toBeGreaterThan(first.length - 262_144), 30_000);
    socket.write(last);
    expect((await answer).status).toBe(200);
    const whole = { bytes: 30_000_000, sha256: sha256(Buffer.concat([first, last])) };
    expect(await chunksOf(run)).toEqual(whole);
    expect((await jobOf(run)).result).toMatchObject(whole);
  });

  it('that is too large is refused, said at once or found out, and the run goes on', async () => {
    const run = await begin();
    const socket = await openSocket(service.url);
    const answer = readAnswer(socket);
    socket.write(
      `PUT /v1/worker/runs/${run.handle}/result HTTP/1.1\r\nhost: x\r\nauthorization: Bearer ${key}\r\n` +
        `content-type: text/plain\r\ncontent-length: ${MAX_RESULT_BYTES + 1}\r\n\r\n`,
    );
    expectProblem(await answer, 'result_too_large');
    expectProblem(await put(run, streamOf(MAX_RESULT_BYTES + 1_000_000).body), 'result_too_large');
    // Nobody waits for the end of this one: it is cut off, before or after its client has read the answer.
    const endless = streamOf(10 * MAX_RESULT_BYTES);
    const told = await put(run, endless.body).catch(() => undefined);
    expect([413, undefined]).toContain(told?.status);
    expect(endless.sent()).toBeLessThan(2 * MAX_RESULT_BYTES);
    await eventually(async () => expect((await chunksOf(run)).bytes).toBe(0));
    expect(await jobOf(run)).toMatchObject({ status: 'in_progress' });
    expect((await put(run, bytes(10, 'x'))).status).toBe(200);
  });

  it.each([
    ['another digest', { 'content-digest': `sha-256=:${sha256('other', 'base64')}:` }, /another digest/],
    ['another digest of its representation', { 'repr-digest': `sha-256=:${sha256('x', 'base64')}:` }, /another digest/],
    ['a digest that is none', { 'content-digest': 'sha-256=abc' }, /content-digest/],
    ['a digest that is no dictionary', { 'repr-digest': '"' }, /repr-digest/],
    ['a content type that is none', { 'content-type': 'pdf' }, /content-type/],
    ['a content encoding', { 'content-encoding': 'gzip' }, /content-encoding/],
    ['a part of it', { 'content-range': 'bytes 0-9/100' }, /content-range/],
  ])('with %s is refused, and the run goes on', async (_, headers, saying) => {
    const run = await begin();
    const refused = await put(run, bytes(400_000, 'y'), headers);
    expect(expectProblem(refused, 'invalid_body').detail).toMatch(saying);
    expect((await chunksOf(run)).bytes).toBe(0);
    expect(await jobOf(run)).toMatchObject({ status: 'in_progress' });
    expect((await put(run, bytes(10, 'x'))).status).toBe(200);
  });

  it('does not get around what the type promises', async () => {
    const run = await beginRun(ask, { type: 'test.typed' }, {});
    const refused = await put(run, Buffer.from('{"sum":"x"}'), { 'content-type': 'application/json' });
    expect(expectProblem(refused, 'invalid_body').detail).toContain('test.typed has a schema');
    expect((await tell(ask, run, 'complete', { output: { sum: 1 } })).status).toBe(200);
  });

  it('that breaks off leaves nothing, and the run goes on', async () => {
    const run = await begin();
    const socket = await startUpload(run, 1_000_000, bytes(600_000, 'a'));
    socket.destroy();
    await eventually(async () => expect((await chunksOf(run)).bytes).toBe(0));
    expect((await tell(ask, run, 'complete', { output: 'instead' })).status).toBe(200);
    expect(await jobOf(run)).toMatchObject({ status: 'succeeded', output: 'instead' });
  });

  it('that began later takes the place of one that hangs, which then changes nothing any more', async () => {
    const run = await begin();
    const hanging = await startUpload(run, 1_000_000, bytes(600_000, 'a'));
    const answer = readAnswer(hanging);
    const body = bytes(800_000, 'b');
    expect((await put(run, body)).status).toBe(200);
    hanging.write(bytes(400_000, 'a'));
    // It is told that the run succeeded, or, when it was noticed before that, who took its place.
    const told = (await answer).json;
    expect(['succeeded', 'run_superseded']).toContain(told.run_status ?? told.code);
    expect(await chunksOf(run)).toEqual({ bytes: 800_000, sha256: sha256(body) });
  });

  it('of a run that ends otherwise is stopped, and leaves nothing', async () => {
    const run = await begin();
    const socket = await startUpload(run, 5_000_000, bytes(600_000, 'a'));
    const answer = readAnswer(socket);
    expect((await tell(ask, run, 'fail', { error: { message: 'no' }, retryable: false })).status).toBe(200);
    socket.write(bytes(4_400_000, 'a'));
    expectProblem(await answer, 'run_over');
    await eventually(async () => expect((await chunksOf(run)).bytes).toBe(0));
    expect(await jobOf(run)).toMatchObject({ status: 'failed' });
  });

  it.each([1, 2, 3])('is one of several at once, whole and by itself (%i)', async () => {
    const run = await begin();
    const bodies = Array.from({ length: 6 }, (_, n) => bytes(300_000 + 200_000 * n, `${n}`));
    const answers = await Promise.all(bodies.map((body) => put(run, body)));
    for (const { status, text } of answers) expect([200, 409], text).toContain(status);
    expect(answers.some(({ status }) => status === 200)).toBe(true);
    const { result } = await untilDone(ask, run.job.id);
    expect(bodies.map((body) => sha256(body))).toContain(result.sha256);
    expect(await chunksOf(run)).toEqual({ bytes: result.bytes, sha256: result.sha256 });
  });
});

it('leaves no error in the log', () => {
  expect(errorsIn(service.main.logs)).toEqual([]);
});
