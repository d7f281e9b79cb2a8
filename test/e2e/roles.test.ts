import { describe, expect, it } from 'vitest';
import { helper, useDatabase, useEmptyDatabase } from '../support/database.ts';
import { eventually } from '../support/eventually.ts';
import { errorsIn } from '../support/log.ts';
import { type Receiver, startReceiver } from '../support/receiver.ts';
import { type Ask, client, submit } from './support/api.ts';
import { type Environment, serviceEnv, spawnMain } from './support/main-process.ts';
import { startTcpProxy } from './support/tcp-proxy.ts';

const database = useDatabase();
const key = 'rbk_for-roles';
const common = { RINGBACK_BOOTSTRAP_KEY: key, RINGBACK_SECRET_KEY: Buffer.alloc(32, 7).toString('base64') };

async function start(roles: string, env: Environment = {}, url = database.url) {
  const main = spawnMain(serviceEnv(url, { ...common, RINGBACK_ROLES: roles, ...env }));
  const listens = await main.listening();
  return { main, url: listens, ask: client(listens, key) };
}

/** One after the other, each from the submission to its callback; answers how long they took. */
async function roundTrips(ask: Ask, receiver: Receiver, count: number): Promise<number[]> {
  const took: number[] = [];
  for (let n = 0; n < count; n++) {
    const began = performance.now();
    await submit(ask, { type: 'ringback.echo', input: n, callback: { url: receiver.url } });
    const { json } = await receiver.next();
    expect(json).toMatchObject({ data: { job: { output: n } } });
    took.push(performance.now() - began);
  }
  return took;
}

function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)]!;
}

/** A poll comes once a second: what is found by polling takes half of that a hop, and there are two hops. */
const FAR_LESS_THAN_POLLING_MS = 400;

describe('roles in processes of their own', { timeout: 60_000 }, () => {
  it('hand work on by NOTIFY, not by polling, also after the database was away', async () => {
    const proxy = await startTcpProxy(database.url);
    const [api, runner, courier] = await Promise.all([
      start('api'),
      start('runner', {}, proxy.url),
      start('courier', {}, proxy.url),
    ]);
    expect([runner.url, courier.url], 'only the api listens').toEqual(['', '']);
    const receiver = await startReceiver();
    await roundTrips(api.ask, receiver, 3);
    expect(median(await roundTrips(api.ask, receiver, 15))).toBeLessThan(FAR_LESS_THAN_POLLING_MS);

    await proxy.cut();
    await eventually(() => {
      for (const { main } of [runner, courier]) expect(errorsIn(main.logs).length).toBeGreaterThan(3);
    });
    await proxy.restore();
    // The first ones may wait for the connections to come back.
    await roundTrips(api.ask, receiver, 5);
    expect(median(await roundTrips(api.ask, receiver, 15))).toBeLessThan(FAR_LESS_THAN_POLLING_MS);
  });

  it('do what they are for and nothing else', async () => {
    const api = await start('api');
    const job = await submit(api.ask, { type: 'ringback.echo', input: 1, callback: { url: 'http://127.0.0.1:9/' } });
    const runner = await start('runner');
    await eventually(async () => {
      expect((await api.ask('GET', `/v1/jobs/${job.id}`)).json).toMatchObject({ status: 'succeeded' });
    });
    expect((await api.ask('GET', `/v1/jobs/${job.id}/deliveries`)).json.items).toMatchObject([
      { status: 'pending', attempts: 0 },
    ]);
    const workers = (await api.ask('GET', `/v1/jobs/${job.id}/runs`)).json.items;
    expect(workers).toHaveLength(1);
    for (const { main } of [api, runner]) expect(await main.ends({ signal: 'SIGTERM' })).toMatchObject({ code: 0 });
  });

  it('share work when there are two of each, and do none of it twice', async () => {
    // Few at a time each, so that there is something left for the other.
    const few = { RINGBACK_RUNNER_CONCURRENCY: '5', RINGBACK_COURIER_CONCURRENCY: '5' };
    const services = await Promise.all([1, 2].map(() => start('api,runner,courier,keeper', few)));
    const receiver = await startReceiver();
    const jobs = await Promise.all(
      Array.from({ length: 200 }, (_, n) =>
        submit(services[n % 2]!.ask, {
          type: n % 4 === 0 ? 'ringback.sleep' : 'ringback.echo',
          input: { ms: 20 },
          callback: { url: receiver.url },
        }),
      ),
    );
    await receiver.waitFor(200, 30_000);
    const ids = jobs.map(({ id }) => id);
    await eventually(async () => {
      const open = await database.sql`
        SELECT id FROM ringback.deliveries WHERE job_id IN ${helper(ids)} AND status <> 'delivered'`;
      expect(open).toHaveLength(0);
    });
    const told = receiver.requests.map(({ headers }) => headers['webhook-id']);
    expect(new Set(told).size).toBe(told.length);
    const runs = await database.sql`
      SELECT worker_id, count(*)::int AS runs FROM ringback.job_runs
      WHERE job_id IN ${helper(ids)} GROUP BY worker_id`;
    expect(runs.reduce((sum, row) => sum + row.runs, 0)).toBe(200);
    expect(runs, 'both took their share').toHaveLength(2);
    for (const { main } of services) expect(errorsIn(main.logs)).toEqual([]);
  });
});

describe('ten processes', { timeout: 90_000 }, () => {
  it('may start at once on an empty database, and every one of them works', async () => {
    const url = await useEmptyDatabase();
    const few = { RINGBACK_DATABASE_CONNECTIONS: '2' };
    const services = await Promise.all(Array.from({ length: 10 }, () => start('api,runner,courier,keeper', few, url)));
    const jobs = await Promise.all(services.map(({ ask }) => submit(ask, { type: 'ringback.echo', input: 1 })));
    for (const [index, { id }] of jobs.entries()) {
      const { ask } = services[(index + 1) % 10]!;
      await eventually(async () => {
        expect((await ask('GET', `/v1/jobs/${id}`)).json).toMatchObject({ status: 'succeeded', runs: 1 });
      });
    }
    const ends = await Promise.all(services.map(({ main }) => main.ends({ signal: 'SIGTERM' })));
    expect(ends.map(({ code }) => code)).toEqual(Array.from({ length: 10 }, () => 0));
    for (const { main } of services) {
      expect(errorsIn(main.logs)).toEqual([]);
      expect(main.stderr).toEqual([]);
    }
  });
});
