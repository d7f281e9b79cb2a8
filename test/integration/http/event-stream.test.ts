import { Hono } from 'hono';
import { describe, expect, onTestFinished, test } from 'vitest';
import { newId } from '#domain/ids.ts';
import type { JobRecord } from '#store/jobs.ts';
import type { Env } from '../../../src/http/env.ts';
import { jobRenderer } from '../../../src/http/job-representation.ts';
import { jobEventRoutes } from '../../../src/http/routes/job-events.ts';
import { listen } from '../../../src/http/server.ts';
import { JobEvents } from '../../../src/jobs/wait/job-events.ts';
import { JobQueries } from '../../../src/jobs/read/job-queries.ts';
import { useDatabase } from '../../support/database.ts';
import { openEventStream } from '../../support/event-source.ts';
import { eventually } from '../../support/eventually.ts';
import { claimRun, makeAccount } from '../../support/fixtures.ts';
import { endQuietly, insertedJob, startInstance } from '../jobs/watch-instances.ts';
import { REAL_CLOCK } from '../../support/workers.ts';

const database = useDatabase();

/** The route on a port of its own, asked by the owner of a job. */
async function serve({ heartbeatMs = 60_000 } = {}) {
  const { accountId } = await makeAccount(database.db);
  const instance = await startInstance(database);
  const job = await insertedJob(database, accountId);
  const onError = (error: unknown) => void instance.errors.push(error);
  const app = new Hono<Env>();
  app.use((c, next) => {
    c.set('apiKey', { id: newId('key', Date.now()), accountId, scopes: ['read'] });
    return next();
  });
  const events = new JobEvents({ db: instance.db, watch: instance.watch, onError, heartbeatMs });
  const jobs = new JobQueries({ db: instance.db, clock: REAL_CLOCK, polls: { after: () => 1 } });
  app.route('/', jobEventRoutes({ jobs, events, renderJob: jobRenderer('https://ringback.test') }));
  const server = await listen({ host: '127.0.0.1', port: 0 });
  server.serve(app.fetch);
  onTestFinished(() => server.close(0));
  const url = `${server.url}/v1/jobs/${job.id}/events`;
  const publish = () => instance.changes.publish([{ accountId, jobId: job.id }]);
  return { instance, job, server, url, publish, open: () => openEventStream(url, {}) };
}

async function end(served: { publish: () => void; job: JobRecord }): Promise<void> {
  await endQuietly(database, [served.job]);
  served.publish();
}

test('a stream on which nothing happens has a comment now and then, which no client takes for an event', async () => {
  const served = await serve({ heartbeatMs: 20 });
  const stream = await served.open();
  await eventually(() => expect(stream.text()).toMatch(/\n\n(?:: [^\n]*\n\n){3}$/));
  expect(stream.events()).toHaveLength(1);
  await end(served);
  await stream.ended;
  expect(stream.events().map(({ event }) => event)).toEqual(['job.queued', 'job.canceled']);
});

test('what is sent can be read before the stream has ended: the header too', async () => {
  const served = await serve();
  await claimRun(database.db, served.job);
  const stream = await served.open();
  await stream.until(2);
  expect(stream.isEnded()).toBe(false);
  expect(stream.headers['transfer-encoding']).toBe('chunked');
});

describe('nobody is watched for any more', () => {
  test('once its client has gone', async () => {
    const { instance, open } = await serve();
    const stream = await open();
    await stream.until(1);
    stream.cut();
    await eventually(() => expect(instance.watching).toEqual([true, false]));
    expect(instance.errors).toEqual([]);
  });

  test('who went before anything was read', async () => {
    const { instance, open } = await serve();
    await Promise.all(Array.from({ length: 20 }, async () => (await open()).cut()));
    await eventually(() => expect(instance.watching.length % 2).toBe(0));
    await eventually(() => expect(instance.watching.at(-1) ?? false).toBe(false));
  });

  test('when only the header was asked for', async () => {
    const { instance, url } = await serve();
    const response = await fetch(url, { method: 'HEAD', headers: { accept: 'text/event-stream' } });
    expect(response.status).toBe(200);
    expect(response.headers.get('content-type')).toBe('text/event-stream');
    expect(instance.watching).toEqual([]);
  });
});

test('a client that does not read holds up neither the job nor who watches', async () => {
  const served = await serve({ heartbeatMs: 1 });
  const stream = await served.open();
  await stream.until(1);
  stream.pause();
  for (let n = 0; n < 200; n++) served.publish();
  await end(served);
  await eventually(() => expect(served.instance.watching).toEqual([true, false]));
});

test('a server that closes does not wait for connections on which a stream has just ended', async () => {
  const served = await serve();
  const streams = await Promise.all(Array.from({ length: 5 }, () => served.open()));
  await Promise.all(streams.map((stream) => stream.until(1)));
  const startedAt = performance.now();
  await Promise.all([served.instance.watch.close(), served.server.close(20_000)]);
  expect(performance.now() - startedAt).toBeLessThan(10_000);
  expect(streams.map((stream) => stream.isEnded())).toEqual([true, true, true, true, true]);
});
