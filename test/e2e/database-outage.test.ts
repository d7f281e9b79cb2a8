import { describe, expect, it } from 'vitest';
import { useDatabase } from '../support/database.ts';
import { eventually } from '../support/eventually.ts';
import { startReceiver } from '../support/receiver.ts';
import { type RunningService, startService } from '../support/service.ts';
import { submit, untilDone } from './support/api.ts';
import { startHeldReceiver } from './support/held-receiver.ts';
import { expectProblem } from './support/problem.ts';
import { startTcpProxy, type TcpProxy } from './support/tcp-proxy.ts';

const database = useDatabase();
const UNKNOWN = '01h455vb4pex5vsknk084sn02q';

async function startCuttable(env: Record<string, string> = {}): Promise<{ service: RunningService; proxy: TcpProxy }> {
  const proxy = await startTcpProxy(database.url);
  const service = await startService({
    databaseUrl: proxy.url,
    env: { RINGBACK_CALLBACK_SCHEDULE: '0s,100ms,200ms', ...env },
  });
  return { service, proxy };
}

async function idsOfJobs(): Promise<string[]> {
  return (await database.sql<{ id: string }[]>`SELECT id FROM ringback.jobs`).map(({ id }) => id);
}

/** Waits until so many more claims of that role have failed: they are tried every half second. */
async function outlast({ logs }: RunningService, role: 'runner' | 'courier', claims: number): Promise<void> {
  const failed = () => logs.filter(({ level, msg }) => level >= 50 && msg === role).length;
  const before = failed();
  await eventually(() => expect(failed()).toBeGreaterThanOrEqual(before + claims), 30_000);
}

describe('while the database cannot be reached', { timeout: 90_000 }, () => {
  it('every route that needs it answers 503 with when to come back; the process is alive but not ready', async () => {
    const { service, proxy } = await startCuttable();
    const { request } = service;
    expect((await request('GET', '/readyz')).status).toBe(200);
    await proxy.cut();
    const routes = [
      ['POST', '/v1/jobs', { type: 'ringback.echo', input: 1 }],
      ['GET', '/v1/jobs'],
      ['GET', `/v1/jobs/job_${UNKNOWN}`],
      ['GET', `/v1/jobs/job_${UNKNOWN}/result`],
      ['GET', `/v1/jobs/job_${UNKNOWN}/runs`],
      ['POST', '/v1/endpoints', { url: 'http://127.0.0.1:9/' }],
      ['POST', `/v1/endpoints/ep_${UNKNOWN}/rotate-secret`],
      ['GET', `/.well-known/jwks.json?endpoint_id=ep_${UNKNOWN}`],
      ['GET', `/v1/deliveries/dlv_${UNKNOWN}/attempts`],
      ['GET', '/readyz'],
    ] as const;
    for (const [method, path, body] of routes) {
      const answer = await request(method, path, body);
      expectProblem(answer, 'database_unavailable');
      expect(Number(answer.headers.get('retry-after')), `${method} ${path}`).toBeGreaterThanOrEqual(1);
    }
    const stranger = await request('GET', '/v1/jobs', undefined, { authorization: 'Bearer rbk_seen-never-before' });
    expectProblem(stranger, 'database_unavailable');
    expect((await request('GET', '/healthz')).json).toEqual({ status: 'ok' });
    expect((await request('GET', '/openapi.json')).status).toBe(200);

    await proxy.restore();
    await eventually(async () => expect((await request('GET', '/readyz')).status).toBe(200));
    const job = await submit(request, { type: 'ringback.echo', input: 'back' });
    expect(await untilDone(request, job.id)).toMatchObject({ output: 'back' });
    expect(service.noise).toEqual([]);
  });

  it('connections that break while they are being opened cost an answer, not the process', async () => {
    const { service, proxy } = await startCuttable();
    proxy.breakAtFirstStatement();
    await eventually(async () => {
      const answer = await service.request('GET', '/v1/jobs');
      expectProblem(answer, 'database_unavailable');
      expect(proxy.broken).toBeGreaterThanOrEqual(5);
    });
    await proxy.restore();
    await eventually(async () => expect((await service.request('GET', '/v1/jobs')).status).toBe(200));
    expect(service.noise).toEqual([]);
  });

  it('a request is not left hanging when the network drops packets instead of closing connections', async () => {
    const { service, proxy } = await startCuttable();
    proxy.stall();
    const started = performance.now();
    const ready = await fetch(`${service.url}/readyz`, { signal: AbortSignal.timeout(15_000) });
    expect(ready.status).toBe(503);
    expect(performance.now() - started).toBeLessThan(10_000);
    proxy.flow();
    await eventually(async () => expect((await service.request('GET', '/readyz')).status).toBe(200));
  });

  it('connections that break again and again in the middle of transactions do not wedge anything', async () => {
    const { service, proxy } = await startCuttable();
    for (let n = 0; n < 20; n++) {
      const answers = Array.from({ length: 20 }, () =>
        service.request('POST', '/v1/jobs', { type: 'ringback.echo', input: n }),
      );
      await Promise.race(answers);
      await proxy.cut();
      await proxy.restore();
      for (const { status } of await Promise.all(answers)) expect([202, 503]).toContain(status);
    }
    await eventually(async () => expect((await service.request('GET', '/readyz')).status).toBe(200));
    const job = await submit(service.request, { type: 'ringback.echo', input: 'after' });
    expect(await untilDone(service.request, job.id)).toMatchObject({ output: 'after' });
    expect(service.noise).toEqual([]);
  });

  it('a submission that was cut off is either refused or stored, whole, and never half', async () => {
    const { service, proxy } = await startCuttable();
    const before = new Set(await idsOfJobs());
    const submissions = Array.from({ length: 300 }, (_, n) =>
      service.request('POST', '/v1/jobs', { type: 'ringback.echo', input: n }),
    );
    await Promise.race(submissions);
    await proxy.cut();
    const answers = await Promise.all(submissions);
    await proxy.restore();
    const stored = new Set((await idsOfJobs()).filter((id) => !before.has(id)));
    for (const answer of answers) {
      if (answer.status === 202) continue;
      const code = answer.json?.code === 'outcome_unknown' ? 'outcome_unknown' : 'database_unavailable';
      expectProblem(answer, code);
      if (code === 'outcome_unknown') expect(answer.json.job_id).toMatch(/^job_/);
    }
    const told = new Set(answers.flatMap(({ json }) => (json?.id ?? json?.job_id ?? []) as string | string[]));
    expect(
      [...stored].filter((id) => !told.has(id)),
      'what is stored was accepted, or said to be in doubt',
    ).toEqual([]);
    // A claim whose answer was cut off is found by its lease, which runs out.
    for (const { status, json } of answers) if (status === 202) await untilDone(service.request, json.id, 50_000);
    const halves = await database.sql`
      SELECT job.id FROM ringback.jobs AS job
      WHERE NOT EXISTS (SELECT FROM ringback.events WHERE job_id = job.id AND type = 'job.queued')`;
    expect([...halves]).toEqual([]);
    // Those that were stored although their answer said 503 run as well.
    await eventually(async () => {
      expect([...(await database.sql`SELECT id, status FROM ringback.jobs WHERE status <> 'succeeded'`)]).toEqual([]);
    }, 50_000);
  });
});

describe('stopping the service', { timeout: 90_000 }, () => {
  it('takes no longer because the database is away', async () => {
    const { service, proxy } = await startCuttable({ RINGBACK_SHUTDOWN_TIMEOUT_MS: '2000' });
    await proxy.cut();
    await outlast(service, 'runner', 1);
    await service.stop();
  });

  it('works while its connections are coming back', async () => {
    const { service, proxy } = await startCuttable({ RINGBACK_SHUTDOWN_TIMEOUT_MS: '2000' });
    await proxy.cut();
    await outlast(service, 'runner', 3);
    await proxy.restore();
    await eventually(async () => expect((await service.request('GET', '/readyz')).status).toBe(200));
    await service.stop();
  });
});

describe('after an outage', { timeout: 90_000 }, () => {
  it('jobs go on, what ended meanwhile is stored once, and no lease had to run out for it', async () => {
    const { service, proxy } = await startCuttable({ RINGBACK_RUNNER_CONCURRENCY: '20' });
    const { request } = service;
    const receiver = await startReceiver();
    const callback = { url: receiver.url };
    const running = await Promise.all(
      Array.from({ length: 20 }, () => submit(request, { type: 'ringback.sleep', input: { ms: 800 }, callback })),
    );
    // No room for these: they wait in the queue when the database goes.
    const waiting = await Promise.all(
      Array.from({ length: 20 }, (_, n) => submit(request, { type: 'ringback.echo', input: n, callback })),
    );
    await eventually(async () => {
      const [row] = await database.sql`SELECT count(*)::int AS n FROM ringback.jobs WHERE run_id IS NOT NULL`;
      expect(row).toEqual({ n: 20 });
    });
    await proxy.cut();
    // Long enough for every run to end, and for several tries to write that down.
    await outlast(service, 'runner', 5);
    expect(receiver.requests).toEqual([]);
    await proxy.restore();

    for (const { id } of running) {
      expect(await untilDone(request, id)).toMatchObject({ status: 'succeeded', output: { slept_ms: 800 }, runs: 1 });
    }
    for (const { id } of waiting) expect(await untilDone(request, id)).toMatchObject({ status: 'succeeded', runs: 1 });
    await receiver.waitFor(40);
    await eventually(async () => {
      const open = await database.sql`SELECT id FROM ringback.deliveries WHERE status <> 'delivered'`;
      expect([...open]).toEqual([]);
    });
    expect(receiver.requests).toHaveLength(40);
  });

  it('a callback that was answered during it is on record as answered, and is not sent again', async () => {
    const { service, proxy } = await startCuttable();
    const receiver = await startHeldReceiver();
    const job = await submit(service.request, {
      type: 'ringback.echo',
      input: 1,
      callback: { url: receiver.url },
    });
    await receiver.waitFor(1);
    await proxy.cut();
    receiver.release('taken');
    await outlast(service, 'courier', 3);
    await proxy.restore();
    const delivery = await eventually(async () => {
      const { json } = await service.request('GET', `/v1/jobs/${job.id}/deliveries`);
      expect(json.items).toMatchObject([{ status: 'delivered', attempts: 1 }]);
      return json.items[0];
    });
    const { json } = await service.request('GET', `/v1/deliveries/${delivery.id}/attempts`);
    expect(json.items).toMatchObject([{ outcome: 'delivered', response: { status: 200, body: 'taken' } }]);
    expect(receiver.seen).toHaveLength(1);
  });
});
