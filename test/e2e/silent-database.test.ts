import { describe, expect, it, onTestFinished } from 'vitest';
import { useDatabase } from '../support/database.ts';
import { eventually } from '../support/eventually.ts';
import { startReceiver } from '../support/receiver.ts';
import { type Reply, startService } from '../support/service.ts';
import { submit, untilDone } from './support/api.ts';
import { expectProblem } from './support/problem.ts';
import { startTcpProxy } from './support/tcp-proxy.ts';

const database = useDatabase();

async function startBehindProxy() {
  const proxy = await startTcpProxy(database.url);
  const service = await startService({ databaseUrl: proxy.url });
  // Its connections are open, and have been used.
  await submit(service.request, { type: 'ringback.echo', input: 'first' });
  return { proxy, service };
}

/** Statements of the hops, as they are seen on the wire. */
const HOPS = [
  ['submitting', /json_to_recordset/],
  ['claiming runs', /WITH RECURSIVE walk/],
  ['whatever comes next', /./s],
] as const;

describe('a database connection that falls silent', { timeout: 90_000 }, () => {
  it.each(HOPS)('while %s costs nothing that was acknowledged, and the others go on', async (_, hop) => {
    const { proxy, service } = await startBehindProxy();
    const receiver = await startReceiver();
    const post = (n: number): Promise<Reply> =>
      service.request(
        'POST',
        '/v1/jobs',
        { type: 'ringback.echo', input: n, callback: { url: receiver.url } },
        { 'idempotency-key': `${hop.source} ${n}` },
      );
    const silenced = proxy.silenceNext(hop);
    const posted = Array.from({ length: 40 }, (_unused, n) => post(n));
    await silenced;
    const answers = await Promise.all(posted);
    // What could not be asked is told apart from what was stored by sending it again.
    for (const [n, answer] of answers.entries()) {
      if (answer.status !== 202) expectProblem(answer, 'database_unavailable');
      const again = answer.status === 202 ? answer : await post(n);
      expect(again.status).toBe(202);
      expect(await untilDone(service.request, again.json.id, 60_000)).toMatchObject({ output: n });
    }
    await eventually(async () => {
      const [counted] = await database.sql`
        SELECT count(DISTINCT job_id)::int AS jobs FROM ringback.deliveries WHERE status = 'delivered'`;
      expect(counted).toEqual({ jobs: expect.any(Number) });
      expect(new Set(receiver.requests.map(({ headers }) => headers['webhook-id'])).size).toBe(40);
    }, 60_000);
    expect(service.noise).toEqual([]);
  });

  it('at each of ten in turn: the service goes on with the rest, and is ready', async () => {
    const { proxy, service } = await startBehindProxy();
    for (let n = 0; n < 10; n++) {
      const silenced = proxy.silenceNext();
      const asked = Array.from({ length: 5 }, () => service.request('GET', '/v1/jobs'));
      await silenced;
      for (const { status } of await Promise.all(asked)) expect([200, 503]).toContain(status);
    }
    await eventually(async () => expect((await service.request('GET', '/readyz')).status).toBe(200));
    const job = await submit(service.request, { type: 'ringback.echo', input: 'after' });
    expect(await untilDone(service.request, job.id, 30_000)).toMatchObject({ output: 'after' });
  });

  it('is not ready while submissions would not be accepted, though everything else is answered', async () => {
    const { service } = await startBehindProxy();
    const locked = Promise.withResolvers<void>();
    const unlocked = Promise.withResolvers<void>();
    const locking = database.db.within(60_000).transaction(async (tx) => {
      await tx`LOCK TABLE ringback.jobs IN EXCLUSIVE MODE`;
      locked.resolve();
      await unlocked.promise;
    });
    onTestFinished(() => unlocked.resolve());
    await Promise.race([locked.promise, locking]);
    const refused = service.request('POST', '/v1/jobs', { type: 'ringback.echo', input: 1 });
    await eventually(async () => expect((await service.request('GET', '/readyz')).status).toBe(503));
    expect((await service.request('GET', '/v1/jobs')).status).toBe(200);
    expectProblem(await refused, 'database_unavailable');
    unlocked.resolve();
    await locking;
    await eventually(async () => expect((await service.request('GET', '/readyz')).status).toBe(200));
  });

  it('is still heard: a process whose listening connection is silent opens another, and misses nothing', async () => {
    const listening = await startTcpProxy(database.url);
    const env = { DATABASE_DIRECT_URL: listening.url };
    const waiting = await startService({ databaseUrl: database.url, env: { ...env, RINGBACK_ROLES: 'api' } });
    const working = await startService({
      databaseUrl: database.url,
      env: { RINGBACK_SECRET_KEY: waiting.secretKey, RINGBACK_BOOTSTRAP_KEY: waiting.key },
    });
    const listeners = async () => {
      const sessions = await database.sql<{ pid: number }[]>`
        SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'ringback-listen'`;
      return sessions.map(({ pid }) => pid);
    };
    const before = await listeners();
    expect(before).toHaveLength(2);
    await listening.silenceNext();
    await eventually(async () => expect((await listeners()).some((pid) => !before.includes(pid))).toBe(true), 30_000);
    const job = await submit(waiting.request, { type: 'ringback.echo', input: 'heard' });
    expect(await untilDone(working.request, job.id)).toMatchObject({ output: 'heard' });
  });
});
