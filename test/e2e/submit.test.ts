import { describe, expect, it } from 'vitest';
import { useDatabase } from '../support/database.ts';
import { eventually } from '../support/eventually.ts';
import { client, submit, untilDone } from './support/api.ts';
import { serviceEnv, useService } from './support/main-process.ts';

const database = useDatabase();
const key = 'rbk_for-submissions';
const service = useService(() => serviceEnv(database.url, { RINGBACK_BOOTSTRAP_KEY: key }));
const ask = (...args: Parameters<ReturnType<typeof client>>) => client(service.url, key)(...args);

describe('submitting a job', () => {
  it('answers 202 with the job, where to ask, and when', async () => {
    const accepted = await ask('POST', '/v1/jobs', {
      type: 'ringback.echo',
      input: { hello: 'world' },
      metadata: { order: '4711' },
    });
    expect(accepted.status).toBe(202);
    const { id } = accepted.json;
    expect(id).toMatch(/^job_[0-9a-z]{26}$/);
    expect(accepted.headers.get('location')).toBe(`/v1/jobs/${id}`);
    expect(Number(accepted.headers.get('retry-after'))).toBeGreaterThanOrEqual(1);
    expect(accepted.headers.get('content-type')).toMatch(/^application\/json\b/);
    expect(accepted.json).toMatchObject({
      type: 'ringback.echo',
      status: 'queued',
      done: false,
      runs: 0,
      metadata: { order: '4711' },
      status_url: `${service.url}/v1/jobs/${id}`,
    });
    expect(accepted.json).not.toHaveProperty('output');
    expect(accepted.json).not.toHaveProperty('callback');
  });

  it('shows the job in progress, with when to ask again, until its output is there', async () => {
    const { id } = await submit(ask, { type: 'ringback.sleep', input: { ms: 1000 } });
    const pending = await eventually(async () => {
      const polled = await ask('GET', `/v1/jobs/${id}`);
      expect(polled.json.status).toBe('in_progress');
      return polled;
    });
    expect(pending.json).toMatchObject({ done: false, runs: 1, started_at: expect.any(String) });
    expect(Number(pending.headers.get('retry-after'))).toBeGreaterThanOrEqual(1);
    expect(pending.json).not.toHaveProperty('output');

    const early = await ask('GET', `/v1/jobs/${id}/result`);
    expect(early.status).toBe(409);
    expect(early.json).toMatchObject({ code: 'job_not_finished', status: 409 });
    expect(Number(early.headers.get('retry-after'))).toBeGreaterThanOrEqual(1);

    await untilDone(ask, id);
    const done = await ask('GET', `/v1/jobs/${id}`);
    expect(done.json).toMatchObject({ status: 'succeeded', done: true, output: { slept_ms: 1000 }, runs: 1 });
    expect(done.headers.get('retry-after')).toBeNull();
    expect(Date.parse(done.json.finished_at) - Date.parse(done.json.started_at)).toBeGreaterThanOrEqual(995);
    expect(done.json).not.toHaveProperty('error');
  });

  it.each([
    ['an object', { a: [1, 'zwei', null, { 'Ä "\\ ': '😀' }] }],
    ['null', null],
    ['false', false],
    ['an empty string', ''],
    ['a string with line ends and tabs', 'a\r\n\tb\u2028'],
    ['a number', -1.5e-7],
    ['an empty list', []],
    ['text that looks like an escaped NUL', 'C:\\u0000'],
    ['a key called __proto__', JSON.parse('{"__proto__":{"admin":true},"constructor":1}')],
  ])('gives %s back as it came, in the status and as the raw result', async (_, input) => {
    const { id } = await submit(ask, { type: 'ringback.echo', input });
    const done = await untilDone(ask, id);
    expect(JSON.stringify(done.output)).toBe(JSON.stringify(input));
    const result = await ask('GET', `/v1/jobs/${id}/result`);
    expect(result.status).toBe(200);
    expect(result.headers.get('content-type')).toMatch(/^application\/json\b/);
    expect(result.text).toBe(JSON.stringify(input));
  });

  it('keeps a large input and output whole', async () => {
    const input = { rows: Array.from({ length: 9000 }, (_, n) => `row ${n} äöü € 😀 "quoted" \\ and long enough`) };
    const { id } = await submit(ask, { type: 'ringback.echo', input });
    await untilDone(ask, id);
    expect((await ask('GET', `/v1/jobs/${id}/result`)).json).toEqual(input);
  });

  it.each([
    'application/json',
    'Application/JSON',
    'application/json;charset=utf-8',
    'application/json; charset="UTF-8"',
    // RFC 9110, 5.6.6: white space may stand before the semicolon, and nothing after it.
    'application/json ; charset=utf-8',
    'application/json;',
    'application/vnd.acme.v2+json',
  ])('takes the content type %s', async (type) => {
    const accepted = await ask('POST', '/v1/jobs', { type: 'ringback.echo', input: 1 }, { 'content-type': type });
    expect(accepted.status, accepted.text).toBe(202);
  });
});

describe('a job that fails', () => {
  it('is tried again, with every run on record, and succeeds in the end', async () => {
    const { id } = await submit(ask, { type: 'ringback.fail', input: { times: 1 } });
    const waiting = await eventually(async () => {
      const { json } = await ask('GET', `/v1/jobs/${id}`);
      expect(json).toHaveProperty('next_run_at');
      return json;
    });
    expect(waiting).toMatchObject({ status: 'in_progress', done: false, runs: 1 });
    expect(await untilDone(ask, id)).toMatchObject({ status: 'succeeded', output: { runs: 2 }, runs: 2 });
    const { json } = await ask('GET', `/v1/jobs/${id}/runs`);
    expect(json.items).toMatchObject([
      { number: 1, status: 'failed', error: { code: 'handler_error', message: expect.stringContaining('run 1 of 1') } },
      { number: 2, status: 'succeeded', error: null },
    ]);
    const [first, second] = json.items;
    expect(Date.parse(second.started_at)).toBeGreaterThanOrEqual(Date.parse(first.finished_at));
    expect(first.duration_ms).toBe(Date.parse(first.finished_at) - Date.parse(first.started_at));
  });

  it('ends as failed once its runs are used up: an error, no output, and 409 no_result', async () => {
    const { id } = await submit(ask, { type: 'ringback.fail', input: { times: 100 } });
    const failed = await untilDone(ask, id);
    expect(failed).toMatchObject({ status: 'failed', runs: 3, error: { code: 'handler_error' } });
    expect(failed).not.toHaveProperty('output');
    const result = await ask('GET', `/v1/jobs/${id}/result`);
    expect(result.status).toBe(409);
    expect(result.json).toMatchObject({
      code: 'no_result',
      status: 409,
      job_status: 'failed',
      job_error: failed.error,
    });
    expect(result.headers.get('retry-after')).toBeNull();
  });

  it('lists the run under way after the ended ones', async () => {
    const { id } = await submit(ask, { type: 'ringback.sleep', input: { ms: 60_000 } });
    await eventually(async () => {
      const { json } = await ask('GET', `/v1/jobs/${id}/runs`);
      expect(json.items).toEqual([
        {
          id: expect.stringMatching(/^run_/),
          number: 1,
          status: 'in_progress',
          worker_id: expect.stringMatching(/^wrk_/),
          started_at: expect.any(String),
          finished_at: null,
          duration_ms: null,
          error: null,
        },
      ]);
    });
  });
});

describe('the list of jobs', () => {
  it('walks by cursor over all of them, newest first, each once, while new ones come in', async () => {
    const made: string[] = [];
    for (let n = 0; n < 23; n++) made.push((await submit(ask, { type: 'ringback.echo', input: n })).id);
    const walked: string[] = [];
    let path: string | undefined = '/v1/jobs?limit=5';
    while (path !== undefined) {
      const { status, json } = await ask('GET', path);
      expect(status).toBe(200);
      expect(json.items.length).toBeLessThanOrEqual(5);
      walked.push(...json.items.map(({ id }: { id: string }) => id));
      path = json.next_cursor === null ? undefined : `/v1/jobs?limit=5&cursor=${json.next_cursor}`;
      await submit(ask, { type: 'ringback.echo', input: 'meanwhile' });
    }
    expect(new Set(walked).size).toBe(walked.length);
    expect(walked).toEqual(walked.toSorted().toReversed());
    expect(walked.filter((id) => made.includes(id))).toEqual(made.toReversed());
  });

  it('ends with a null cursor, also when the last page is full', async () => {
    const all = (await ask('GET', '/v1/jobs?limit=200')).json.items.length;
    const { json } = await ask('GET', `/v1/jobs?limit=${all}`);
    const rest = json.next_cursor === null ? [] : (await ask('GET', `/v1/jobs?cursor=${json.next_cursor}`)).json.items;
    expect(rest).toEqual([]);
  });
});
