import { beforeAll, describe, expect, it } from 'vitest';
import { readFileSync } from 'node:fs';
import { useDatabase } from '../support/database.ts';
import { eventually } from '../support/eventually.ts';
import { errorsIn } from '../support/log.ts';
import { client, submit, untilDone } from './support/api.ts';
import { endsOf, tell } from './support/claims.ts';
import { serviceEnv, useService } from './support/main-process.ts';
import { expectPython, startPythonWorker } from './support/python-worker.ts';

/** `examples/worker.py` does the work, in processes of its own. */

const database = useDatabase();
const key = 'rbk_for-remote-workers';
const service = useService(() =>
  serviceEnv(database.url, {
    RINGBACK_BOOTSTRAP_KEY: key,
    RINGBACK_CONFIG: 'test/e2e/support/remote.config.ts',
    RINGBACK_INLINE_RESULT_BYTES: '2000',
  }),
);
const ask = (...args: Parameters<ReturnType<typeof client>>) => client(service.url, key)(...args);

let workers = 0;
const startWorker = () => startPythonWorker(service.url, key, `python-${++workers}`);

beforeAll(expectPython);

const steps = (count: number, stepMs: number, more: object = {}) =>
  submit(ask, { type: 'test.steps', input: { steps: count, step_ms: stepMs }, ...more });

async function untilProgress(id: string): Promise<void> {
  await eventually(async () => {
    const { json } = await ask('GET', `/v1/jobs/${id}`);
    expect(json.progress?.percent).toBeGreaterThan(0);
  });
}

describe('a remote worker', { timeout: 60_000 }, () => {
  it('does what is submitted, keeps a log, and is on record', async () => {
    const worker = await startWorker();
    const csv = readFileSync('examples/data/utc-offset-transitions.csv', 'utf8');
    const lines = csv.trimEnd().split('\n');
    const { id } = await submit(ask, { type: 'csv.columns', input: { csv } });
    const job = await untilDone(ask, id);
    expect(job, JSON.stringify(job)).toMatchObject({ status: 'succeeded', runs: 1 });
    const output = job.output ?? (await ask('GET', job.result_url.slice(service.url.length))).json;
    expect(output.rows).toBe(lines.length - 1);
    expect(output.columns.map(({ name }: { name: string }) => name)).toEqual(lines[0]!.trim().split(','));
    const [run] = (await ask('GET', `/v1/jobs/${id}/runs`)).json.items;
    expect(run).toMatchObject({ status: 'succeeded', worker_id: worker.name });
    const log = await database.sql`SELECT level, message, fields FROM ringback.job_logs WHERE job_id = ${id}`;
    expect([...log]).toMatchObject([{ level: 'info', message: 'read', fields: { rows: output.rows } }]);
    expect(errorsIn(service.main.logs)).toEqual([]);
  });

  it('is told of the fault in what it cannot do, and is asked once', async () => {
    await startWorker();
    const { id } = await submit(ask, { type: 'csv.columns', input: { csv: 'a,b\n1,2\n1\n' } });
    expect(await untilDone(ask, id)).toMatchObject({
      status: 'failed',
      runs: 1,
      error: { code: 'csv_invalid', message: 'Line 3 has 1 cells, the header 2.' },
    });
  });

  it('fails, and is tried again as the retry policy says', async () => {
    await startWorker();
    const flaky = (times: number, how: string) => submit(ask, { type: 'test.flaky', input: { times, how } });
    const [recovers, runsOut, refuses] = await Promise.all([flaky(2, 'throw'), flaky(9, 'retry'), flaky(9, 'never')]);
    expect(await untilDone(ask, recovers.id)).toMatchObject({ status: 'succeeded', output: { runs: 3 } });
    const error = { code: 'told_to', message: 'run 3' };
    expect(await untilDone(ask, runsOut.id)).toMatchObject({ status: 'failed', runs: 3, error });
    expect(await untilDone(ask, refuses.id)).toMatchObject({ status: 'failed', runs: 1 });
    const [first] = (await ask('GET', `/v1/jobs/${recovers.id}/runs`)).json.items;
    expect(first.error).toEqual({ code: 'handler_error', message: 'ValueError: run 1' });
  });

  it('uploads what is large or no JSON', async () => {
    await startWorker();
    const { id } = await submit(ask, { type: 'test.blob', input: { bytes: 3_000_000, content_type: 'image/png' } });
    const job = await untilDone(ask, id);
    expect(job).toMatchObject({ status: 'succeeded', result: { content_type: 'image/png', bytes: 3_000_000 } });
    const [stored] = await database.sql`
      SELECT sum(octet_length(bytes))::int AS bytes, encode(sha256(string_agg(bytes, '' ORDER BY number)), 'hex') AS sha256
      FROM ringback.result_chunks WHERE run_id = (SELECT result_run_id FROM ringback.jobs WHERE id = ${id})`;
    expect(stored).toEqual({ bytes: 3_000_000, sha256: job.result.sha256 });
  });

  it('that returns what the type does not promise fails the job, not the worker', async () => {
    const worker = await startWorker();
    const { id } = await submit(ask, { type: 'test.typed', input: 1 });
    expect(await untilDone(ask, id)).toMatchObject({ status: 'failed', runs: 1, error: { code: 'invalid_output' } });
    await eventually(() => expect(worker.said.join('\n')).toMatch(/422 invalid_output: .*\/sum/));
    expect((await untilDone(ask, (await steps(1, 1)).id)).status).toBe('succeeded');
  });

  it('stops when the job is called off', async () => {
    await startWorker();
    const { id } = await steps(1000, 50);
    await untilProgress(id);
    const canceled = await ask('POST', `/v1/jobs/${id}/cancel`);
    expect(canceled.json).toMatchObject({ status: 'in_progress', cancel_requested_at: expect.any(String) });
    const job = await untilDone(ask, id);
    expect(job).toMatchObject({ status: 'canceled', error: { code: 'canceled' } });
    expect(job.progress.percent).toBeLessThan(50);
    expect(await endsOf(ask, id)).toEqual(['canceled']);
  });

  it('has its run time out, and the next one begin, when it takes too long', async () => {
    const worker = await startWorker();
    const { id } = await steps(1000, 100, { timeout_ms: 2000, retry: { max_runs: 2 } });
    const job = await untilDone(ask, id, 40_000);
    expect(job).toMatchObject({ status: 'failed', runs: 2, error: { code: 'timeout' } });
    expect(await endsOf(ask, id)).toEqual(['timed_out', 'timed_out']);
    await eventually(() => expect(worker.said.join('\n')).toMatch(/lost: 409 run_over/));
  });

  it('gives its run back when it is told to end, and another begins at once', async () => {
    const first = await startWorker();
    const { id } = await steps(120, 50);
    await untilProgress(id);
    const second = await startWorker();
    expect(await first.end('SIGTERM')).toBe(0);
    const job = await untilDone(ask, id);
    expect(job).toMatchObject({ status: 'succeeded', runs: 2, output: { run: 2 } });
    const runs = (await ask('GET', `/v1/jobs/${id}/runs`)).json.items;
    expect(runs).toMatchObject([
      { status: 'released', worker_id: first.name, error: null },
      { status: 'succeeded', worker_id: second.name },
    ]);
  });

  it('that dies is found out when its lease runs out, and what it says afterwards is refused', async () => {
    const first = await startWorker();
    const { id } = await steps(40, 50);
    await untilProgress(id);
    const [{ account_id: account, run_id: dead }] = await database.sql<[{ account_id: string; run_id: string }]>`
      SELECT account_id, run_id FROM ringback.jobs WHERE id = ${id}`;
    await first.end('SIGKILL');
    const second = await startWorker();
    const job = await untilDone(ask, id, 30_000);
    expect(job).toMatchObject({ status: 'succeeded', runs: 2 });
    const runs = (await ask('GET', `/v1/jobs/${id}/runs`)).json.items;
    expect(runs).toMatchObject([
      { id: dead, status: 'lost', worker_id: first.name, error: { code: 'worker_lost' } },
      { status: 'succeeded', worker_id: second.name },
    ]);
    const late = await tell(ask, { handle: `${account}.${id}.${dead}` }, 'complete', { output: 'late' });
    expect(late.json).toMatchObject({ status: 409, code: 'run_superseded', run_status: 'lost' });
    expect((await ask('GET', `/v1/jobs/${id}`)).json.output).toEqual({ steps: 40, run: 2 });
  });

  it('ends while it waits for work, and takes none with it', async () => {
    const worker = await startWorker();
    expect(await worker.end('SIGTERM')).toBe(0);
    const { id } = await steps(1, 1);
    await startWorker();
    expect((await untilDone(ask, id)).runs).toBe(1);
    expect(errorsIn(service.main.logs)).toEqual([]);
  });
});
