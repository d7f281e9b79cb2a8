import { describe, expect, it } from 'vitest';
import { useDatabase } from '../support/database.ts';
import { eventually } from '../support/eventually.ts';
import { client, submit, untilDone } from './support/api.ts';
import { serviceEnv, useService } from './support/main-process.ts';
import { expectProblem } from './support/problem.ts';

const database = useDatabase();
const key = 'rbk_for-job-logs';
const RINGBACK_CONFIG = 'test/e2e/support/results.config.ts';
const service = useService(() => serviceEnv(database.url, { RINGBACK_BOOTSTRAP_KEY: key, RINGBACK_CONFIG }));
const ask = (...args: Parameters<ReturnType<typeof client>>) => client(service.url, key)(...args);

async function read(id: string, query = '') {
  const { status, json, text } = await ask('GET', `/v1/jobs/${id}/logs${query}`);
  expect(status, text).toBe(200);
  return json as { items: Array<Record<string, unknown>>; next_after: number };
}

const messages = ({ items }: Awaited<ReturnType<typeof read>>) => items.map(({ message }) => message);

describe('the log of a job', () => {
  it('is whole as soon as the job is done, run by run', async () => {
    const { id } = await submit(ask, { type: 'logs.say', input: { lines: ['one', { a: 1 }], then_fail: true } });
    await untilDone(ask, id);
    const log = await read(id);
    expect(log.items).toEqual(
      [1, 2].flatMap((run) => [
        line(run, 1, { level: 'info', message: 'one', fields: { run } }),
        line(run, 2, { level: 'info', message: '[object Object]', fields: { run } }),
        line(run, 3, { level: 'error', message: 'the end' }),
      ]),
    );
    expect(log.next_after).toBe(log.items.at(-1)!['position']);
    const runs = await ask('GET', `/v1/jobs/${id}/runs`);
    expect(new Set(log.items.map((item) => item['run_id']))).toEqual(
      new Set(runs.json.items.map((run: { id: string }) => run.id)),
    );
  });

  function line(run: number, number: number, more: object): object {
    const position = run * 1_000_000 + number;
    return { position, run_id: expect.stringMatching(/^run_/), created_at: expect.any(String), ...more };
  }

  it('is read from where the last answer ended', async () => {
    const lines = Array.from({ length: 250 }, (_, n) => `line ${n}`);
    const { id } = await submit(ask, { type: 'logs.say', input: { lines } });
    await untilDone(ask, id);
    const first = await read(id);
    expect(first.items).toHaveLength(100);
    const second = await read(id, `?after=${first.next_after}&limit=1000`);
    expect([...messages(first), ...messages(second)]).toEqual([...lines, 'the end']);
    const third = await read(id, `?after=${second.next_after}`);
    expect(third).toEqual({ items: [], next_after: second.next_after });
    expect(messages(await read(id, '?level=warn'))).toEqual(['the end']);
  });

  it('is empty before anything is said', async () => {
    const { id } = await submit(ask, { type: 'ringback.sleep', input: { ms: 600_000 } });
    expect(await read(id)).toEqual({ items: [], next_after: 0 });
    expect(await read(id, '?after=7')).toEqual({ items: [], next_after: 7 });
  });

  it('grows while the job runs', async () => {
    const { id } = await submit(ask, { type: 'logs.linger', input: {} });
    await eventually(async () => expect(messages(await read(id))).toEqual(['still at it']));
    expect((await ask('GET', `/v1/jobs/${id}`)).json.status).toBe('in_progress');
  });

  it.each([
    '?after=-1',
    '?after=1.5',
    '?after=x',
    '?after=9007199254740992',
    '?limit=0',
    '?limit=1001',
    '?level=fatal',
    '?before=1',
    '?after=1&after=2',
  ])('is not read with %s', async (query) => {
    const { id } = await submit(ask, { type: 'ringback.echo', input: 1 });
    expectProblem(await ask('GET', `/v1/jobs/${id}/logs${query}`), 'invalid_query');
  });

  it('is there for nobody else', async () => {
    const missing = await ask('GET', '/v1/jobs/job_01h455vb4pex5vsknk084sn02q/logs');
    expectProblem(missing, 'job_not_found');
    expectProblem(await ask('GET', '/v1/jobs/nonsense/logs'), 'invalid_id');
  });
});
