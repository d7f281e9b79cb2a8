import { describe, expect, it } from 'vitest';
import { hashApiKey, newApiKey, type ApiKeyScope } from '#domain/api-key.ts';
import { newId } from '#domain/ids.ts';
import { ensureApiKey } from '#store/accounts.ts';
import { useDatabase } from '../support/database.ts';
import { eventually } from '../support/eventually.ts';
import { errorsIn } from '../support/log.ts';
import { client, submit } from './support/api.ts';
import { beginRun, type ClaimedRun, claimRun, claimRuns, tell } from './support/claims.ts';
import { serviceEnv, useService } from './support/main-process.ts';
import { expectProblem } from './support/problem.ts';

/** What nobody may do, and what makes no sense. */

const database = useDatabase();
const key = 'rbk_for-worker-misuse';
const service = useService(() =>
  serviceEnv(database.url, {
    RINGBACK_BOOTSTRAP_KEY: key,
    RINGBACK_CONFIG: 'test/e2e/support/remote.config.ts',
    RINGBACK_MAX_BODY_BYTES: '262144',
  }),
);
const ask = (...args: Parameters<ReturnType<typeof client>>) => client(service.url, key)(...args);

/** A job, and the run of it that is ours. */
const begin = (submission: object = {}, wish: object = {}) => beginRun(ask, submission, wish);

const jobOf = async ({ job }: ClaimedRun) => (await ask('GET', `/v1/jobs/${job.id}`)).json;

/** An API key with these scopes, of an account of its own; `again` gives it other ones, as the next start would. */
async function keyWith(...scopes: ApiKeyScope[]) {
  const now = new Date();
  const [made, accountId] = [newApiKey(), newId('acc', now.getTime())];
  const ensure = (given: readonly ApiKeyScope[]) =>
    ensureApiKey(database.db, {
      accountId,
      accountName: accountId,
      keyId: newId('key', now.getTime()),
      hash: hashApiKey(made),
      lastFour: made.slice(-4),
      scopes: given,
      now,
    });
  await ensure(scopes);
  return { ask: client(service.url, made), again: (...given: ApiKeyScope[]) => ensure(given) };
}

describe('the scope worker', () => {
  it('is needed, and no other', async () => {
    const { ask: clients } = await keyWith('read', 'write');
    const refused = await clients('POST', '/v1/worker/claims', { types: ['test.raw'], worker: 'x' });
    expect(refused.json).toMatchObject({ status: 403, code: 'insufficient_scope' });
    expect(refused.json.detail).toContain('"worker"');
    for (const what of ['heartbeat', 'progress', 'log', 'complete', 'fail', 'release'])
      expect((await clients('POST', `/v1/worker/runs/x/${what}`, {})).status).toBe(403);
    expect((await clients('PUT', '/v1/worker/runs/x/result', {})).status).toBe(403);
    const { ask: workers } = await keyWith('worker');
    expect(await claimRuns(workers, ['test.raw'])).toEqual([]);
    expect((await workers('GET', '/v1/jobs')).status).toBe(403);
    expect((await workers('POST', '/v1/jobs', { type: 'test.raw', input: 1 })).status).toBe(403);
  });

  it("reaches every account's jobs", async () => {
    const { id } = await submit((await keyWith('read', 'write')).ask, { type: 'test.raw', input: 1 });
    const run = await claimRun(ask, 'test.raw');
    expect(run.job.id).toBe(id);
    expect((await tell(ask, run, 'complete', { output: 1 })).status).toBe(200);
  });

  it('is given to a key from before there was one, when it is made valid again', async () => {
    const { ask: owner, again } = await keyWith('read', 'write');
    await again('read', 'write', 'worker');
    expect(await claimRuns(owner, ['test.raw'])).toEqual([]);
  });
});

describe('nonsense', { timeout: 40_000 }, () => {
  const UNKNOWN = '01h455vb4pex5vsknk084sn02q';

  it.each([
    'nonsense',
    'a.b.c',
    `acc_${UNKNOWN}.job_${UNKNOWN}.run_${UNKNOWN}`,
    `acc_${UNKNOWN}.job_${UNKNOWN}`,
    '%00',
  ])('in place of a handle (%s) names no run', async (handle) => {
    for (const [what, body] of [
      ['heartbeat', {}],
      ['progress', { percent: 1 }],
      ['log', { lines: [{ level: 'info', message: 'x' }] }],
      ['complete', { output: 1 }],
      ['fail', { error: { message: 'x' } }],
      ['release', {}],
    ] as const)
      expectProblem(await tell(ask, { handle }, what, body), 'run_not_found');
    expectProblem(await ask('PUT', `/v1/worker/runs/${handle}/result`, 'x'), 'run_not_found');
  });

  it('with a wrong fence, or from somebody who holds no run of this kind, changes nothing', async () => {
    const run = await begin();
    const [account, job] = run.handle.split('.');
    const wrong = { handle: `${account}.${job}.run_${UNKNOWN}` };
    for (const [what, body] of [
      ['heartbeat', {}],
      ['progress', { percent: 1 }],
      ['log', { lines: [{ level: 'info', message: 'x' }] }],
      ['complete', { output: 1 }],
      ['fail', { error: { message: 'x' } }],
      ['release', {}],
    ] as const)
      expectProblem(await tell(ask, wrong, what, body), 'run_superseded');
    const upload = await ask('PUT', `/v1/worker/runs/${wrong.handle}/result`, 'x');
    expectProblem(upload, 'run_superseded');
    expect(await jobOf(run)).toMatchObject({ status: 'in_progress' });
    const log = await database.sql`SELECT FROM ringback.job_logs WHERE job_id = ${run.job.id}`;
    expect(log).toHaveLength(0);
    await tell(ask, run, 'complete', { output: null });
  });

  it("cannot end a runner's run", async () => {
    const { id } = await submit(ask, { type: 'ringback.sleep', input: { ms: 600_000 } });
    const [held] = await eventually(async () => {
      const rows = await database.sql`
        SELECT account_id || '.' || job_id || '.' || run_id AS handle FROM ringback.run_queue
        WHERE job_id = ${id} AND run_id IS NOT NULL`;
      expect(rows).toHaveLength(1);
      return rows as unknown as [{ handle: string }];
    });
    for (const [what, body] of [
      ['heartbeat', {}],
      ['complete', { output: 1 }],
      ['fail', { error: { message: 'x' } }],
      ['release', {}],
      ['log', { lines: [{ level: 'info', message: 'x' }] }],
    ] as const)
      expectProblem(await tell(ask, held, what, body), 'run_superseded');
    expect((await ask('GET', `/v1/jobs/${id}`)).json.status).toBe('in_progress');
    await ask('POST', `/v1/jobs/${id}/cancel`);
  });

  it.each([
    ['heartbeat', { lease_s: 4 }],
    ['heartbeat', { lease_s: 301 }],
    ['heartbeat', { progress: { percent: 101 } }],
    ['progress', {}],
    ['progress', { percent: '1' }],
    ['log', { lines: [] }],
    ['log', { lines: Array.from({ length: 101 }, () => ({ level: 'info', message: 'x' })) }],
    ['log', { lines: [{ level: 'loud', message: 'x' }] }],
    ['log', { lines: [{ level: 'info', message: 1 }] }],
    ['log', { lines: [{ level: 'info', message: 'x', fields: [] }] }],
    ['complete', {}],
    ['complete', { ouput: 1 }],
    ['complete', { output: 1, more: 1 }],
    ['fail', {}],
    ['fail', { error: 'x' }],
    ['fail', { error: { message: '' } }],
    ['fail', { error: { code: 'Not Snake', message: 'x' } }],
    ['fail', { error: { message: 'x' }, retryable: 'no' }],
    ['fail', { error: { message: 'x' }, retry_after_s: -1 }],
    ['release', { why: 'x' }],
  ])('as a body (%s %j) is refused, and the run goes on', async (what, body) => {
    const run = await begin();
    expectProblem(await tell(ask, run, what, body), 'invalid_body');
    expect(await jobOf(run)).toMatchObject({ status: 'in_progress' });
    expect((await tell(ask, run, 'complete', { output: null })).status).toBe(200);
  });

  it('that is no JSON, or too much of it, is refused', async () => {
    const run = await begin();
    expectProblem(await tell(ask, run, 'complete', '{"output":'), 'malformed_json');
    expectProblem(await tell(ask, run, 'complete', { output: 'x'.repeat(262_144 * 16) }), 'body_too_large');
    expectProblem(
      await tell(ask, run, 'log', { lines: [{ level: 'info', message: 'x'.repeat(262_144) }] }),
      'body_too_large',
    );
    const path = `/v1/worker/runs/${run.handle}/complete`;
    expectProblem(await ask('POST', path, 'output=1', { 'content-type': 'text/plain' }), 'unsupported_media_type');
    expect((await tell(ask, run, 'complete', { output: null })).status).toBe(200);
  });
});

it('and leaves no error in the log', () => {
  expect(errorsIn(service.main.logs)).toEqual([]);
});
