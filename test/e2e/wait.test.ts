import { fileURLToPath } from 'node:url';
import { beforeAll, describe, expect, it } from 'vitest';
import { makeAccount } from '../support/fixtures.ts';
import { useDatabase } from '../support/database.ts';
import { eventually } from '../support/eventually.ts';
import { type Answer, type Ask, client, submit, untilDone } from './support/api.ts';
import { serviceEnv, spawnMain, useService } from './support/main-process.ts';
import { openSocket } from './support/raw-http.ts';

const database = useDatabase();
const key = 'rbk_for-waiting';
const secretKey = Buffer.alloc(32, 7).toString('base64');
const env = () =>
  serviceEnv(database.url, {
    RINGBACK_BOOTSTRAP_KEY: key,
    RINGBACK_SECRET_KEY: secretKey,
    RINGBACK_CONFIG: fileURLToPath(new URL('./support/steps.config.ts', import.meta.url)),
  });
const service = useService(env);
const ask: Ask = (...args) => client(service.url, key)(...args);

const prefer = (text: string, more: Record<string, string> = {}) => ({ prefer: text, ...more });
const applied = ({ headers }: Answer) => headers.get('preference-applied');
const sleepFor = (ms: number) => ({ type: 'ringback.sleep', input: { ms } });
const LONG = sleepFor(600_000);

describe('a submission that prefers to wait', () => {
  it('is answered with the finished job, as soon as it is', async () => {
    const answer = await ask('POST', '/v1/jobs', sleepFor(300), prefer('wait=30'));
    expect(answer.status).toBe(200);
    expect(answer.json).toMatchObject({ status: 'succeeded', done: true, output: { slept_ms: 300 } });
    expect(applied(answer)).toBe('wait=30');
    expect(answer.headers.get('location')).toBe(`/v1/jobs/${answer.json.id}`);
    expect(answer.headers.get('retry-after')).toBeNull();
    expect(answer.json).toEqual((await ask('GET', `/v1/jobs/${answer.json.id}`)).json);
  });

  it('is accepted as ever when the time is up, with the job as it is then', async () => {
    const answer = await ask('POST', '/v1/jobs', LONG, prefer('wait=1'));
    expect(answer.status).toBe(202);
    expect(answer.json).toMatchObject({ status: 'in_progress', done: false });
    expect(applied(answer)).toBe('wait=1');
    expect(Number(answer.headers.get('retry-after'))).toBeGreaterThanOrEqual(1);
  });

  it('for no time at all is answered at once', async () => {
    const answer = await ask('POST', '/v1/jobs', LONG, prefer('wait=0'));
    expect(answer).toMatchObject({ status: 202, json: { status: 'queued' } });
    expect(applied(answer)).toBe('wait=0');
  });

  it('in a way that nobody understands is answered as if it did not', async () => {
    for (const nonsense of ['wait', 'wait=-1', 'wait=soon', '"']) {
      const answer = await ask('POST', '/v1/jobs', LONG, prefer(nonsense));
      expect(answer, nonsense).toMatchObject({ status: 202, json: { status: 'queued' } });
      expect(applied(answer)).toBeNull();
    }
  });

  it('still shows the signing secret that it made, which nobody can see again', async () => {
    const callback = { url: 'http://127.0.0.1:9/waiting' };
    const answer = await ask('POST', '/v1/jobs', { ...sleepFor(10), callback }, prefer('wait=30'));
    expect(answer.json).toMatchObject({
      status: 'succeeded',
      callback: { url: callback.url, signing_secret: expect.stringMatching(/^whsec_/) },
    });
    const again = await ask('GET', `/v1/jobs/${answer.json.id}`);
    expect(again.json.callback).not.toHaveProperty('signing_secret');
  });

  it('is refused at once when it is refused', async () => {
    const answer = await ask('POST', '/v1/jobs', { type: 'no.such' }, prefer('wait=30'));
    expect(answer).toMatchObject({ status: 404, json: { code: 'unknown_job_type' } });
  });

  it('under an idempotency key makes one job, and each answer says how it is then', async () => {
    const keyed = (more: Record<string, string> = {}) =>
      ask('POST', '/v1/jobs', sleepFor(400), { 'idempotency-key': 'waiting-1', ...more });
    const first = await keyed();
    const [one, other] = await Promise.all([keyed(prefer('wait=30')), keyed(prefer('wait=30'))]);
    for (const answer of [one, other]) {
      expect(answer).toMatchObject({ status: 200, json: { id: first.json.id, status: 'succeeded' } });
      expect(answer.headers.get('idempotency-replayed')).toBe('true');
    }
    const replay = await keyed();
    expect(replay).toMatchObject({ status: 202, text: first.text });
  });
});

describe('a status that prefers to wait', () => {
  it('is answered as soon as the job is done', async () => {
    const { id } = await submit(ask, sleepFor(300));
    const answer = await ask('GET', `/v1/jobs/${id}`, undefined, prefer('wait=30'));
    expect(answer).toMatchObject({ status: 200, json: { status: 'succeeded' } });
    expect(applied(answer)).toBe('wait=30');
    expect(answer.headers.get('retry-after')).toBeNull();
  });

  it('is answered at once when the job is done already', async () => {
    const { json } = await ask('POST', '/v1/jobs', sleepFor(0), prefer('wait=30'));
    const answer = await ask('GET', `/v1/jobs/${json.id}`, undefined, prefer('wait=60'));
    expect(answer).toMatchObject({ status: 200, text: JSON.stringify(json) });
  });

  it('is the job as it is when the time is up', async () => {
    const { id } = await submit(ask, { type: 'test.steps', input: { steps: 200, every_ms: 20 } });
    const answer = await ask('GET', `/v1/jobs/${id}`, undefined, prefer('wait=1'));
    expect(answer).toMatchObject({ status: 200, json: { status: 'in_progress', done: false } });
    expect(answer.json.progress.percent).toBeGreaterThan(5);
    expect(Number(answer.headers.get('retry-after'))).toBeGreaterThanOrEqual(1);
  });

  it('is answered when another request cancels the job', async () => {
    const { id } = await submit(ask, { ...LONG, run_at: new Date(Date.now() + 3_600_000).toISOString() });
    const waiting = ask('GET', `/v1/jobs/${id}`, undefined, prefer('wait=60'));
    await ask('POST', `/v1/jobs/${id}/cancel`);
    expect(await waiting).toMatchObject({ status: 200, json: { status: 'canceled' } });
  });

  it('of a job that is not there, or is another account’s, is 404 at once', async () => {
    const { id } = await submit(ask, LONG);
    const stranger = client(service.url, (await makeAccount(database.db)).key);
    const answer = await stranger('GET', `/v1/jobs/${id}`, undefined, prefer('wait=60', { 'if-none-match': '*' }));
    expect(answer).toMatchObject({ status: 404, json: { code: 'job_not_found' } });
  });

  it('is answered in one process when the job ends in another', async () => {
    const other = spawnMain(env());
    const there = client(await other.listening(), key);
    const { id } = await submit(ask, { ...LONG, run_at: new Date(Date.now() + 3_600_000).toISOString() });
    const waiting = there('GET', `/v1/jobs/${id}`, undefined, prefer('wait=60'));
    await there('GET', `/v1/jobs/${id}`); // has read what came before it
    await ask('POST', `/v1/jobs/${id}/cancel`);
    expect(await waiting).toMatchObject({ status: 200, json: { status: 'canceled' } });
  });

  it('costs nothing any more once its client has gone', async () => {
    const { id } = await submit(ask, LONG);
    const socket = await openSocket(service.url);
    socket.write(`GET /v1/jobs/${id} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer ${key}\r\nprefer: wait=60\r\n\r\n`);
    await ask('GET', `/v1/jobs/${id}`);
    socket.resetAndDestroy();
    await eventually(() => {
      const answered = service.main.logs.filter(({ path }) => path === `/v1/jobs/${id}`);
      expect(answered, 'both requests are over').toHaveLength(2);
    });
  });
});

describe('the ETag of a status', () => {
  let id = '';
  let etag = '';
  const get = (headers: Record<string, string> = {}) => ask('GET', `/v1/jobs/${id}`, undefined, headers);

  beforeAll(async () => {
    ({ id } = await submit(ask, LONG));
    await eventually(async () => {
      if ((await get()).json.status !== 'in_progress') throw new Error('it has not been started');
    });
    etag = (await get()).headers.get('etag')!;
  });

  it('is strong, the same for the same bytes, and may be kept by its client only', async () => {
    const answer = await get();
    expect(etag).toMatch(/^"[\w-]{20,}"$/);
    expect(answer.headers.get('etag')).toBe(etag);
    expect(answer.headers.get('cache-control')).toBe('private, no-cache');
  });

  it.each([
    ['itself', () => etag],
    ['itself, weak', () => `W/${etag}`],
    ['a list with it', () => `"other", W/"a,b" , ${etag}`],
    ['anything', () => '*'],
  ])('answers 304 without a body to %s', async (_, given) => {
    const answer = await get({ 'if-none-match': given() });
    expect(answer).toMatchObject({ status: 304, text: '' });
    expect(answer.headers.get('etag')).toBe(etag);
    expect(answer.headers.get('cache-control')).toBe('private, no-cache');
    expect(answer.headers.get('retry-after')).toMatch(/^\d+$/);
  });

  it.each(['"other"', 'W/"other", "more"', 'nonsense', '""'])('answers the job to %s', async (given) => {
    expect(await get({ 'if-none-match': given })).toMatchObject({ status: 200, json: { id } });
  });

  it('changes with everything that can be seen', async () => {
    const { id: other } = await submit(ask, { type: 'test.steps', input: { steps: 3, every_ms: 400, failures: 1 } });
    const seen = new Map<string, string>();
    await eventually(async () => {
      const { headers, text, json } = await ask('GET', `/v1/jobs/${other}`);
      const tag = headers.get('etag')!;
      expect(seen.get(tag) ?? text, 'one tag, one text').toBe(text);
      seen.set(tag, text);
      if (json.done !== true) throw new Error('not done yet');
    });
    expect(new Set(seen.values()).size).toBe(seen.size);
    expect(seen.size).toBeGreaterThan(3);
  });

  it('with a wait is held until the job is another, however little', async () => {
    const { id: other } = await submit(ask, { type: 'test.steps', input: { steps: 3, every_ms: 500 } });
    const path = `/v1/jobs/${other}`;
    const percents: unknown[] = [];
    let tag = '"none yet"';
    for (;;) {
      const answer = await ask('GET', path, undefined, prefer('wait=20', { 'if-none-match': tag }));
      expect(answer.status).toBe(200);
      expect(answer.headers.get('etag')).not.toBe(tag);
      tag = answer.headers.get('etag')!;
      percents.push(answer.json.progress?.percent);
      if (answer.json.done === true) break;
    }
    expect(percents).toEqual(expect.arrayContaining([100 / 3, 200 / 3, 100]));
    expect(percents.length).toBeLessThan(8);
    expect(await ask('GET', path, undefined, prefer('wait=20', { 'if-none-match': tag }))).toMatchObject({
      status: 304,
    });
  });

  it('with a wait is 304 after it when nothing has changed', async () => {
    const answer = await get(prefer('wait=1', { 'if-none-match': etag }));
    expect(answer).toMatchObject({ status: 304, text: '' });
    expect(applied(answer)).toBe('wait=1');
  });
});

it('how soon to ask again follows from what jobs of that type took', async () => {
  const { id } = await submit(ask, { type: 'test.steps', input: { steps: 1, every_ms: 3000 } });
  await untilDone(ask, id);
  await eventually(async () => {
    const accepted = await ask('POST', '/v1/jobs', { type: 'test.steps', input: { steps: 1, every_ms: 10 } });
    expect(Number(accepted.headers.get('retry-after'))).toBeGreaterThanOrEqual(2);
  }, 20_000);
  const pending = await submit(ask, {
    type: 'test.steps',
    input: { steps: 1, every_ms: 10 },
    run_at: new Date(Date.now() + 100_000).toISOString(),
  });
  for (const path of [`/v1/jobs/${pending.id}`, `/v1/jobs/${pending.id}/result`]) {
    const seconds = Number((await ask('GET', path)).headers.get('retry-after'));
    expect(seconds).toBeGreaterThan(95);
    expect(seconds).toBeLessThan(110);
  }
});
