import { beforeEach, describe, expect, it } from 'vitest';
import { useDatabase } from '../support/database.ts';
import { eventually } from '../support/eventually.ts';
import { type Receiver, startReceiver } from '../support/receiver.ts';
import { type RunningService, startService } from '../support/service.ts';
import { submit, untilDone } from './support/api.ts';
import { beginRun } from './support/claims.ts';
import { startTcpProxy } from './support/tcp-proxy.ts';

/** What becomes of what a process held when it dies, and when it only seems so. */

const database = useDatabase();

beforeEach(async () => {
  for (const table of ['run_queue', 'delivery_queue', 'processes'])
    await database.sql.unsafe(`DELETE FROM ringback.${table}`);
});

const SLOTS = 100;
const ENV = {
  RINGBACK_COURIER_CONCURRENCY: String(2 * SLOTS),
  RINGBACK_ENDPOINT_CONCURRENCY: String(SLOTS),
  RINGBACK_CALLBACK_TIMEOUT_MS: '60000',
};

const like = (service: RunningService) => ({
  ...ENV,
  RINGBACK_SECRET_KEY: service.secretKey,
  RINGBACK_BOOTSTRAP_KEY: service.key,
});

/** As many attempts under way as the endpoint may have, and as many deliveries that wait. */
async function fill({ request }: RunningService, receiver: Receiver): Promise<void> {
  receiver.answerAll('hang');
  const items = Array.from({ length: 2 * SLOTS }, (_, n) => ({
    type: 'ringback.echo',
    input: n,
    callback: { url: receiver.url },
  }));
  expect((await request('POST', '/v1/jobs/batch', { items })).status).toBe(207);
  await receiver.waitFor(SLOTS, 30_000);
  expect(receiver.requests).toHaveLength(SLOTS);
}

const outcomes = async () => {
  const rows = await database.sql<{ outcome: string; attempts: number }[]>`
    SELECT outcome, count(*)::int AS attempts FROM ringback.delivery_attempts AS attempt
    WHERE EXISTS (SELECT FROM ringback.deliveries WHERE id = attempt.delivery_id) GROUP BY outcome`;
  return Object.fromEntries(rows.map(({ outcome, attempts }) => [outcome, attempts]));
};

/** By how much the first lease of an attempt outlasts this moment, in seconds. */
async function leaseLeft(workerId: string): Promise<number> {
  const [lease] = await database.sql<{ left: number }[]>`
    SELECT extract(epoch FROM min(lease_expires_at) - now())::float8 AS left FROM ringback.delivery_queue
    WHERE worker_id = ${workerId}`;
  return lease!.left;
}

const holderOf = async () => {
  const holders = await database.sql<{ id: string }[]>`
    SELECT DISTINCT worker_id AS id FROM ringback.delivery_queue WHERE state = 'leased'`;
  expect(holders).toHaveLength(1);
  return holders[0]!.id;
};

/** Until it has given so many seconds' worth of further signs of life: as long, others have looked whether it lives. */
async function outlive(workerId: string, seconds: number): Promise<void> {
  const seen = async () => {
    const [row] = await database.sql<{ at: number }[]>`
      SELECT extract(epoch FROM seen_at)::float8 AS at FROM ringback.processes WHERE worker_id = ${workerId}`;
    return row?.at ?? 0;
  };
  const before = await seen();
  await eventually(async () => expect((await seen()) - before).toBeGreaterThan(seconds), 30_000);
}

describe('a process that is killed', { timeout: 90_000 }, () => {
  it('with all slots of an endpoint in flight: they are used again long before its leases have run out', async () => {
    const receiver = await startReceiver();
    const first = await startService({ databaseUrl: database.url, env: ENV });
    await fill(first, receiver);
    const holder = await holderOf();
    receiver.answerAll({ status: 200 });
    await first.kill();
    expect(await leaseLeft(holder)).toBeGreaterThan(8);
    const [{ at: leaseEnds } = { at: 0 }] = await database.sql<{ at: number }[]>`
      SELECT extract(epoch FROM min(lease_expires_at))::float8 AS at FROM ringback.delivery_queue
      WHERE worker_id = ${holder}`;
    await startService({ databaseUrl: database.url, env: like(first) });
    await receiver.waitFor(SLOTS + 1, 30_000);
    const [{ now } = { now: Infinity }] = await database.sql<{ now: number }[]>`
      SELECT extract(epoch FROM now())::float8 AS now`;
    expect(now).toBeLessThan(leaseEnds);
    await receiver.waitFor(3 * SLOTS, 30_000);
    await eventually(async () => expect(await outcomes()).toEqual({ interrupted: SLOTS, delivered: 2 * SLOTS }));
    expect([
      ...(await database.sql`SELECT DISTINCT attempt_count - schedule_from AS steps FROM ringback.deliveries`),
    ]).toEqual([{ steps: 1 }]);
    expect((await database.sql`SELECT FROM ringback.processes WHERE worker_id = ${holder}`).count).toBe(0);
  });

  it('leaves what it held to a process that lives', async () => {
    const receiver = await startReceiver();
    const first = await startService({ databaseUrl: database.url, env: ENV });
    await fill(first, receiver);
    const holder = await holderOf();
    await startService({ databaseUrl: database.url, env: like(first) });
    receiver.answerAll({ status: 200 });
    await first.kill();
    await receiver.waitFor(SLOTS + 1, 30_000);
    const left = await leaseLeft(holder);
    // Rescued already, or long before they would have run out.
    if (left !== null) expect(left).toBeGreaterThan(4);
    await receiver.waitFor(3 * SLOTS, 30_000);
  });

  it('has its runs begun anew by others, but not what remote workers hold through it', async () => {
    const config = { RINGBACK_CONFIG: 'test/e2e/support/ways.config.ts' };
    const first = await startService({ databaseUrl: database.url, env: config });
    const env = { ...config, ...like(first) };
    const run = await beginRun(first.request, { type: 'way.remote', input: { csv: '' } }, { lease_s: 60 });
    const { id } = await submit(first.request, { type: 'way.inline', input: { csv: 'a,b\n1,2', mode: 'hang_once' } });
    await eventually(async () => {
      const [item] = await database.sql`SELECT state FROM ringback.run_queue WHERE job_id = ${id}`;
      expect(item).toEqual({ state: 'leased' });
    });
    const [dead] = await database.sql<{ id: string }[]>`SELECT worker_id AS id FROM ringback.processes`;
    await first.kill();
    const second = await startService({ databaseUrl: database.url, env });
    const done = await untilDone(second.request, id, 13_000);
    expect(done).toMatchObject({ status: 'succeeded', runs: 2 });
    expect((await database.sql`SELECT FROM ringback.processes WHERE worker_id = ${dead!.id}`).count).toBe(0);
    const [held] = await database.sql`SELECT run_id, state FROM ringback.run_queue WHERE job_id = ${run.job.id}`;
    expect(held).toEqual({ run_id: run.run_id, state: 'leased' });
    const heartbeat = await second.request('POST', `/v1/worker/runs/${run.handle}/heartbeat`, { lease_s: 60 });
    expect(heartbeat.status).toBe(200);
  });

  it('or stopped in the middle of an attempt: another one sends it again before its lease has run out', async () => {
    const receiver = await startReceiver();
    receiver.script('hang');
    const env = { ...ENV, RINGBACK_SHUTDOWN_TIMEOUT_MS: '500' };
    const first = await startService({ databaseUrl: database.url, env });
    await submit(first.request, { type: 'ringback.echo', input: 1, callback: { url: receiver.url } });
    await receiver.waitFor(1);
    const holder = await holderOf();
    await first.stop();
    expect(await leaseLeft(holder)).toBeGreaterThan(5);
    await startService({ databaseUrl: database.url, env: like(first) });
    await receiver.waitFor(2, 9000);
  });
});

describe('a process that lives', { timeout: 90_000 }, () => {
  /** One that holds attempts, and one that looks after the dead. */
  async function setStage(changes: Record<string, string> = {}) {
    const receiver = await startReceiver();
    const held = Promise.withResolvers<void>();
    const keeper = await startService({
      databaseUrl: database.url,
      env: { ...ENV, RINGBACK_ROLES: 'api,keeper,runner' },
    });
    const courier = await startService({
      databaseUrl: database.url,
      env: { ...like(keeper), RINGBACK_ROLES: 'courier', ...changes },
    });
    receiver.answerAll(async () => {
      await held.promise;
      return { status: 200 };
    });
    for (let n = 0; n < 20; n++)
      await submit(keeper.request, { type: 'ringback.echo', input: n, callback: { url: receiver.url } });
    await receiver.waitFor(20, 20_000);
    return { receiver, keeper, courier, holder: await holderOf(), answer: () => held.resolve() };
  }

  const expectNoDuplicates = async ({ receiver, answer }: { receiver: Receiver; answer: () => void }) => {
    answer();
    await eventually(async () => {
      const [open] = await database.sql`SELECT count(*)::int AS open FROM ringback.delivery_queue`;
      expect(open).toEqual({ open: 0 });
    }, 20_000);
    const attempts = await database.sql`
      SELECT outcome, count(*)::int AS attempts FROM ringback.delivery_attempts AS attempt
      JOIN ringback.endpoints AS endpoint ON endpoint.id = endpoint_id WHERE endpoint.url = ${receiver.url} GROUP BY 1`;
    expect([...attempts]).toEqual([{ outcome: 'delivered', attempts: 20 }]);
    expect(receiver.requests).toHaveLength(20);
  };

  it('and whose connections are all cut again and again is not robbed', async () => {
    const proxy = await startTcpProxy(database.url);
    const stage = await setStage({ DATABASE_URL: proxy.url });
    for (let cut = 0; cut < 3; cut++) {
      await proxy.cut();
      await proxy.restore();
      await outlive(stage.holder, 2.5);
    }
    await expectNoDuplicates(stage);
  });

  it('but cannot open the session again that holds its lock is not robbed while it gives signs of life', async () => {
    const proxy = await startTcpProxy(database.url);
    const stage = await setStage({ DATABASE_DIRECT_URL: proxy.url });
    await proxy.cut();
    await outlive(stage.holder, 5);
    await expectNoDuplicates(stage);
  });

  it('but is suspended keeps what it has for as long as its lease lasts', async () => {
    const stage = await setStage();
    stage.courier.process.kill('SIGSTOP');
    const [before] = await database.sql<{ at: Date }[]>`SELECT now() AS at`;
    await eventually(async () => {
      const [row] = await database.sql`
        SELECT now() > ${before!.at}::timestamptz + interval '6 s' AS "isLater"`;
      expect(row).toEqual({ isLater: true });
    });
    stage.courier.process.kill('SIGCONT');
    await outlive(stage.holder, 1);
    await expectNoDuplicates(stage);
  });
});
