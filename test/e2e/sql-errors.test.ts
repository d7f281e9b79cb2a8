import { readFileSync } from 'node:fs';
import { beforeEach, describe, expect, it } from 'vitest';
import { useDatabase } from '../support/database.ts';
import { eventually } from '../support/eventually.ts';
import { raiseOn } from '../support/raising.ts';
import { startReceiver } from '../support/receiver.ts';
import { startService } from '../support/service.ts';
import { submit, untilDone } from './support/api.ts';
import { endsOf } from './support/claims.ts';
import { startBackend, startRemoteWorker } from './support/ways-workers.ts';

/** What the database refuses for a moment, or for good, when a job ends: in each of the four ways to do its work. */

const database = useDatabase();
const sql = () => ({ sql: database.sql });
const csv = readFileSync('examples/data/utc-offset-transitions.csv', 'utf8');
const WAYS = ['inline', 'thread', 'backend', 'remote'] as const;

async function setStage() {
  const env = {
    RINGBACK_CONFIG: 'test/e2e/support/ways.config.ts',
    WAYS_BACKEND_URL: await startBackend(),
    RINGBACK_RUNNER_THREADS: '2',
  };
  const service = await startService({ databaseUrl: database.url, env });
  startRemoteWorker(service.request);
  return service;
}

beforeEach(async () => {
  await database.sql`DELETE FROM ringback.run_queue`;
  await database.sql`DELETE FROM ringback.delivery_queue`;
});

const job = (way: string, more: object = {}) => ({ type: `way.${way}`, input: { csv }, ...more });

describe('a job that ends while the database refuses it', { timeout: 120_000 }, () => {
  it('for a moment, by any of these: its one run counts, and its callback is sent once', async () => {
    const { request } = await setStage();
    const receiver = await startReceiver();
    for (const sqlState of ['40001', '40P01', '55P03', '57014', '25006', '57P01', '53300', '08006']) {
      const errors = [
        await raiseOn('INSERT', 'job_runs', sqlState, { ...sql(), times: 6 }),
        await raiseOn('INSERT', 'delivery_attempts', sqlState, { ...sql(), times: 6 }),
      ];
      const jobs = await Promise.all(WAYS.map((way) => submit(request, job(way, { callback: { url: receiver.url } }))));
      for (const { id, type } of jobs) {
        const done = await untilDone(request, id, 30_000);
        expect(done, `${type} ${sqlState}`).toMatchObject({ status: 'succeeded', runs: 1, output: { rows: 2353 } });
        expect(await endsOf(request, id), `${type} ${sqlState}`).toEqual(['succeeded']);
      }
      await eventually(async () => {
        const [open] = await database.sql`SELECT count(*)::int AS count FROM ringback.delivery_queue`;
        expect(open!.count).toBe(0);
      }, 20_000);
      for (const one of errors) {
        expect(await one.raised(), sqlState).toBe(6);
        await one.stop();
      }
    }
    const attempts = await database.sql`
      SELECT outcome, count(*)::int AS count FROM ringback.delivery_attempts GROUP BY outcome`;
    expect([...attempts]).toEqual([{ outcome: 'delivered', count: 32 }]);
    expect(receiver.requests).toHaveLength(32);
  });

  it('for good: it fails with an error that says so, and is not run again', async () => {
    const { request } = await setStage();
    await raiseOn('INSERT', 'job_runs', '23514', { ...sql(), when: "NEW.status = 'succeeded'" });
    const jobs = await Promise.all(WAYS.map((way) => submit(request, job(way))));
    for (const { id, type } of jobs) {
      const done = await untilDone(request, id, 30_000);
      expect(done, type).toMatchObject({ status: 'failed', runs: 1, error: { code: 'end_not_stored' } });
      expect(done.error.message).toContain('SQLSTATE 23514');
    }
  });

  it('does not keep the runs of others from being rescued', async () => {
    const first = await setStage();
    const hang = (way: string) => submit(first.request, { ...job(way), input: { csv, mode: 'hang' } });
    const [bad, good] = [await hang('inline'), await hang('inline')];
    await eventually(async () => {
      const running = await database.sql`SELECT FROM ringback.run_queue WHERE state = 'leased'`;
      expect(running.count).toBe(2);
    });
    await first.kill();
    await raiseOn('INSERT', 'job_runs', '23514', { ...sql(), when: `NEW.job_id = '${bad.id}'` });
    const env = { RINGBACK_SECRET_KEY: first.secretKey, RINGBACK_BOOTSTRAP_KEY: first.key };
    const second = await startService({ databaseUrl: database.url, env: { ...env, RINGBACK_ROLES: 'api,keeper' } });
    await eventually(async () => {
      expect(await endsOf(second.request, good.id)).toEqual(['lost']);
      const refused = second.logs.filter(({ msg }) => msg === 'a run could not be rescued');
      expect(refused.map(({ job_id: id }) => id)).toContain(bad.id);
    }, 40_000);
  });
});
