import { readFileSync } from 'node:fs';
import { Webhook } from 'standardwebhooks';
import { describe, expect, it, onTestFinished } from 'vitest';
import { useDatabase } from '../support/database.ts';
import { eventually } from '../support/eventually.ts';
import { type ReceivedRequest, startReceiver } from '../support/receiver.ts';
import { type RunningService, startService } from '../support/service.ts';
import { submit, untilDone } from './support/api.ts';
import { endsOf } from './support/claims.ts';
import { type RemoteWorker, startBackend, startRemoteWorker } from './support/ways-workers.ts';

/** The same work in each of the four ways, driven over HTTP as a client does. */

const database = useDatabase();
const csv = readFileSync('examples/data/utc-offset-transitions.csv', 'utf8');
const WAYS = ['inline', 'thread', 'backend', 'remote'] as const;

interface Stage {
  readonly service: RunningService;
  readonly worker: RemoteWorker;
  /** Starts one more service on the same database. */
  readonly another: () => Promise<RunningService>;
}

async function setStage(): Promise<Stage> {
  const env = {
    RINGBACK_CONFIG: 'test/e2e/support/ways.config.ts',
    WAYS_BACKEND_URL: await startBackend(),
    RINGBACK_CANCEL_GRACE_MS: '500',
    RINGBACK_RUNNER_THREADS: '2',
    RINGBACK_PROGRESS_EVERY_MS: '50',
  };
  const service = await startService({ databaseUrl: database.url, env });
  const another = () =>
    startService({
      databaseUrl: database.url,
      env: { ...env, RINGBACK_SECRET_KEY: service.secretKey, RINGBACK_BOOTSTRAP_KEY: service.key },
    });
  return { service, worker: startRemoteWorker(service.request), another };
}

const typeOf = (request: ReceivedRequest | undefined) => (request?.json as { type: string } | undefined)?.type;

const job = (way: string, more: object = {}, input: object = {}) => ({
  type: `way.${way}`,
  input: { csv, ...input },
  ...more,
});

/** Until its run is under way and has said so. */
function untilRunning({ request }: RunningService, id: string): Promise<void> {
  return eventually(async () => {
    const { json } = await request('GET', `/v1/jobs/${id}`);
    expect(json).toMatchObject({ status: 'in_progress', progress: { percent: 10, message: 'hang' } });
  }, 20_000);
}

describe('work in each of the four ways', { timeout: 120_000 }, () => {
  it('succeeds with the same output, and shows how far it was', async () => {
    const { service } = await setStage();
    for (const way of WAYS) {
      const { id } = await submit(service.request, job(way));
      const done = await untilDone(service.request, id, 30_000);
      expect(done, way).toMatchObject({ status: 'succeeded', runs: 1, output: { rows: 2353, columns: 9 } });
      expect(done.progress?.percent, way).toBeGreaterThanOrEqual(10);
    }
  });

  it('is told of while it goes on, in its order, under one signature', async () => {
    const { service } = await setStage();
    const events = ['job.queued', 'job.started', 'job.progress', 'job.succeeded'];
    for (const way of WAYS) {
      const receiver = await startReceiver();
      const submitted = await submit(service.request, job(way, { callback: { url: receiver.url, events } }));
      const done = await untilDone(service.request, submitted.id, 30_000);
      const told = await eventually(() => {
        expect(typeOf(receiver.requests.at(-1)), way).toBe('job.succeeded');
        return receiver.requests;
      });
      const types = told.map(typeOf);
      expect(types.slice(0, 2), way).toEqual(['job.queued', 'job.started']);
      expect(
        types.slice(2, -1).filter((type) => type !== 'job.progress'),
        way,
      ).toEqual([]);
      const { signing_secret: secret } = submitted.callback;
      for (const { headers, body } of told) new Webhook(secret).verify(body, headers as Record<string, string>);
      const bodies = told.map(({ json }) => json as { sequence: number; data: { job: Record<string, unknown> } });
      const sequences = bodies.map(({ sequence }) => sequence);
      expect(sequences, way).toEqual(sequences.toSorted((a, b) => a - b));
      const { callback: _callback, ...shown } = submitted;
      expect(bodies[0]!.data.job, 'as the submitter was told, without the secret').toMatchObject(shown);
      expect(JSON.stringify(bodies), way).not.toContain(secret);
      expect(bodies[1]!.data.job, way).toMatchObject({ status: 'in_progress', runs: 1, started_at: done.started_at });
      expect(bodies.at(-1)!.data.job, way).toEqual(done);
      const { json } = await service.request('GET', `/v1/jobs/${submitted.id}/events`);
      const onRecord = json.items.map((event: { type: string; sequence: number }) => [event.type, event.sequence]);
      expect(
        onRecord.map(([, sequence]: [string, number]) => sequence),
        way,
      ).toEqual(onRecord.map((_: unknown, index: number) => index + 1));
    }
  });

  it('is run again after a failure', async () => {
    const { service } = await setStage();
    for (const way of WAYS) {
      const { id } = await submit(service.request, job(way, {}, { mode: 'flaky' }));
      expect(await untilDone(service.request, id, 30_000), way).toMatchObject({ status: 'succeeded', runs: 2 });
      expect(await endsOf(service.request, id), way).toEqual(['failed', 'succeeded']);
    }
  });

  it('is stopped when its client cancels it mid-way', async () => {
    const { service } = await setStage();
    for (const way of WAYS) {
      const { id } = await submit(service.request, job(way, {}, { mode: 'hang' }));
      await untilRunning(service, id);
      const asked = await service.request('POST', `/v1/jobs/${id}/cancel`);
      expect(asked.status, way).toBe(200);
      expect(asked.json, way).toMatchObject({ started_at: expect.any(String) });
      expect(await untilDone(service.request, id, 30_000), way).toMatchObject({
        status: 'canceled',
        error: { code: 'canceled' },
      });
      const again = await service.request('POST', `/v1/jobs/${id}/cancel`);
      expect({ status: again.status, job: again.json.status }, way).toEqual({ status: 200, job: 'canceled' });
    }
    // The stopped threads are free for others.
    const { id } = await submit(service.request, job('thread'));
    expect(await untilDone(service.request, id, 30_000)).toMatchObject({ status: 'succeeded' });
  });

  it('fails when its time is up', async () => {
    const { service } = await setStage();
    const ids = await Promise.all(
      WAYS.map(async (way) => {
        const limits = { timeout_ms: 1000, retry: { max_runs: 1 } };
        return (await submit(service.request, job(way, limits, { mode: 'hang' }))).id as string;
      }),
    );
    for (const [index, id] of ids.entries()) {
      const done = await untilDone(service.request, id, 40_000);
      expect(done, WAYS[index]).toMatchObject({ status: 'failed', error: { code: 'timeout' } });
      expect(await endsOf(service.request, id), WAYS[index]).toEqual(['timed_out']);
    }
  });

  it('is done by another worker when its own dies', async () => {
    const { service, worker, another } = await setStage();
    const second = await another();
    const ids: string[] = [];
    for (const way of WAYS) {
      const { id } = await submit(service.request, job(way, {}, { mode: 'hang_once' }));
      ids.push(id);
    }
    for (const id of ids) await untilRunning(service, id);
    const [holder] = await database.sql<{ workerId: string }[]>`
      SELECT worker_id AS "workerId" FROM ringback.run_queue WHERE type = 'way.inline'`;
    expect(holder?.workerId).toBeDefined();
    // Whichever process has the runs: both die, one after the other, and a third finds what they left.
    await service.kill();
    await second.kill();
    worker.die();
    const third = await another();
    const heir = startRemoteWorker(third.request);
    onTestFinished(() => heir.die());
    for (const [index, id] of ids.entries()) {
      const done = await untilDone(third.request, id, 60_000);
      expect(done, WAYS[index]).toMatchObject({ status: 'succeeded', runs: 2, output: { rows: 2353 } });
      expect(await endsOf(third.request, id), WAYS[index]).toEqual(['lost', 'succeeded']);
    }
  });
});
