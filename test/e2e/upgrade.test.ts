import { randomBytes } from 'node:crypto';
import { Webhook } from 'standardwebhooks';
import { expect, test } from 'vitest';
import { hashApiKey, newApiKey } from '#domain/api-key.ts';
import { parseSecretKey } from '#domain/secret-box.ts';
import { eventually } from '../support/eventually.ts';
import { type ReceivedRequest, startReceiver } from '../support/receiver.ts';
import { releasedAccount, releasedDatabase, releasedEndpoint } from '../support/released.ts';
import { releasedDelivery, type ReleasedJob, releasedJob } from '../support/released-jobs.ts';
import { startService } from '../support/service.ts';

const UNDER_WAY = { status: 'in_progress', running: true } as const;
const SOON = () => new Date(Date.now() + 2000);

/** A database that version 0.1.0 left in the middle of its work, with an endpoint that hears of everything. */
async function leftBehind() {
  const receiver = await startReceiver();
  const key = newApiKey();
  const secretKey = randomBytes(32).toString('base64');
  const database = await releasedDatabase();
  const accountId = await releasedAccount(database, 'default', hashApiKey(key));
  const keys = [parseSecretKey(secretKey)!];
  const endpoint = await releasedEndpoint(database, { accountId, keys, url: receiver.url });
  const make = (job: Partial<ReleasedJob>) => releasedJob(database, { accountId, endpoint, ...job });
  const env = { RINGBACK_BOOTSTRAP_KEY: key, RINGBACK_SECRET_KEY: secretKey, RINGBACK_RUNNER_CONCURRENCY: '5' };
  return { database, receiver, endpoint, make, env };
}

test('what version 0.1.0 had accepted is done by this one, and each client is told', { timeout: 90_000 }, async () => {
  const { database, receiver, endpoint, make, env } = await leftBehind();
  const waiting = await Promise.all(Array.from({ length: 30 }, (_, n) => make({ input: `{"n":${n}}` })));
  const delayed = await make({ status: 'in_progress', ended: ['failed'], nextRunAt: SOON() });
  const released = await make({ status: 'in_progress', ended: ['released'] });
  const twice = await make({ type: 'ringback.fail', input: '{"times":1}' });
  const [lost, lostForGood] = [await make(UNDER_WAY), await make({ ...UNDER_WAY, ended: ['failed', 'lost'] })];

  const service = await startService({ databaseUrl: database.url, env });
  // No need to wait for the end of the leases that the upgrade gave to the runs of workers that are gone.
  await database.sql`
    UPDATE ringback.run_queue SET lease_expires_at = now()
    WHERE run_id = ANY (${[lost.runId, lostForGood.runId]}::text[])`;
  const jobs = [...waiting, delayed, released, twice, lost, lostForGood];
  const requests = await receiver.waitFor(jobs.length, 60_000);

  const read = async (id: string) => (await service.request('GET', `/v1/jobs/${id}`)).json as Record<string, unknown>;
  for (const [n, { id }] of waiting.entries())
    expect(await read(id)).toMatchObject({ status: 'succeeded', output: { n }, runs: 1, metadata: { order: '4711' } });
  expect(await read(delayed.id)).toMatchObject({ status: 'succeeded', runs: 2 });
  expect(await read(released.id)).toMatchObject({ status: 'succeeded', runs: 2 });
  expect(await read(twice.id)).toMatchObject({ status: 'succeeded', runs: 2, output: { runs: 2 } });
  expect(await read(lost.id)).toMatchObject({ status: 'succeeded', runs: 2 });
  expect(await read(lostForGood.id)).toMatchObject({ status: 'failed', error: { code: 'worker_lost' }, runs: 3 });
  const runs = (await service.request('GET', `/v1/jobs/${lost.id}/runs`)).json.items;
  expect(runs).toMatchObject([{ id: lost.runId, status: 'lost' }, { status: 'succeeded' }]);

  expect(new Set(requests.map(jobTold)), 'each once').toEqual(new Set(jobs.map(({ id }) => id)));
  expect(requests).toHaveLength(jobs.length);
  const verifier = new Webhook(endpoint.secret);
  for (const { body, headers } of requests) verifier.verify(body, headers as Record<string, string>);
  await eventually(async () => {
    expect(await database.sql`SELECT FROM ringback.run_queue`).toHaveLength(0);
    expect(await database.sql`SELECT FROM ringback.delivery_queue`).toHaveLength(0);
  });
  await service.stop();
});

test('what version 0.1.0 had done is kept, and told to whoever is still to be told', { timeout: 90_000 }, async () => {
  const { database, receiver, make, env } = await leftBehind();
  const done = { status: 'succeeded', ended: ['failed', 'succeeded'], output: '{"rows":3}' } as const;
  const [delivered, pending, retrying, taken] = [
    await make(done),
    await make(done),
    await make(done),
    await make(done),
  ];
  const failed = await make({ status: 'failed', ended: ['failed', 'failed', 'failed'] });
  await releasedDelivery(database, delivered, { status: 'delivered', attempts: 1 });
  await releasedDelivery(database, pending, { status: 'pending', attempts: 0 });
  await releasedDelivery(database, retrying, { status: 'pending', attempts: 2, nextAttemptAt: SOON() });
  await releasedDelivery(database, taken, { status: 'pending', attempts: 0 });
  await releasedDelivery(database, failed, { status: 'exhausted', attempts: 3 });
  const before = await database.sql`SELECT id, status, updated_at, finished_at FROM ringback.jobs ORDER BY id`;

  const service = await startService({ databaseUrl: database.url, env });
  const requests = await receiver.waitFor(3, 60_000);
  expect(requests.map(({ json }) => json)).toEqual(
    Array.from({ length: 3 }, () => ({ type: 'job.succeeded', old: true })),
  );
  await eventually(async () => {
    const states = await database.sql`SELECT job_id, status, attempt_count FROM ringback.deliveries`;
    const byJob = new Map(
      states.map(({ job_id, status, attempt_count }) => [job_id as string, [status, attempt_count]]),
    );
    expect(byJob.get(delivered.id)).toEqual(['delivered', 1]);
    expect(byJob.get(pending.id)).toEqual(['delivered', 1]);
    expect(byJob.get(retrying.id)).toEqual(['delivered', 3]);
    expect(byJob.get(taken.id)).toEqual(['delivered', 1]);
    expect(byJob.get(failed.id)).toEqual(['exhausted', 3]);
  });
  expect(receiver.requests).toHaveLength(3);

  expect(await database.sql`SELECT id, status, updated_at, finished_at FROM ringback.jobs ORDER BY id`).toEqual(before);
  const { json } = await service.request('GET', `/v1/jobs/${delivered.id}`);
  expect(json).toMatchObject({ status: 'succeeded', done: true, output: { rows: 3 }, runs: 2 });
  expect((await service.request('GET', `/v1/jobs/${delivered.id}/result`)).json).toEqual({ rows: 3 });
  const list = (await service.request('GET', '/v1/jobs?status=failed')).json.items;
  expect(list).toMatchObject([{ id: failed.id, error: { code: 'handler_error' } }]);
  expect((await service.request('POST', `/v1/jobs/${failed.id}/cancel`)).json).toMatchObject({ status: 'failed' });
  await service.stop();
});

test('the bootstrap key of version 0.1.0 may do what has come since', async () => {
  const { database, env } = await leftBehind();
  const service = await startService({ databaseUrl: database.url, env });
  const claim = { types: ['test.nothing'], worker: 'test' };
  expect((await service.request('POST', '/v1/worker/claims', claim)).json).toMatchObject({ code: 'unknown_job_type' });
  await service.stop();
});

const jobTold = ({ json }: ReceivedRequest) => (json as { data: { job: { id: string } } }).data.job.id;
