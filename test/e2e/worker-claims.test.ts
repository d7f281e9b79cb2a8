import { describe, expect, it } from 'vitest';
import { useDatabase } from '../support/database.ts';
import { eventually } from '../support/eventually.ts';
import { errorsIn } from '../support/log.ts';
import { client, submit, untilDone } from './support/api.ts';
import { type ClaimedRun, claimRun, claimRuns, tell } from './support/claims.ts';
import { serviceEnv, spawnMain, useService } from './support/main-process.ts';
import { openSocket } from './support/raw-http.ts';

/** How workers come by their runs. */

const CONFIG = 'test/e2e/support/remote.config.ts';
const database = useDatabase();
const key = 'rbk_for-worker-claims';
const service = useService(() =>
  serviceEnv(database.url, {
    RINGBACK_BOOTSTRAP_KEY: key,
    RINGBACK_CONFIG: CONFIG,
  }),
);
const ask = (...args: Parameters<ReturnType<typeof client>>) => client(service.url, key)(...args);

const jobOf = async ({ job }: ClaimedRun) => (await ask('GET', `/v1/jobs/${job.id}`)).json;

describe('a claim', { timeout: 40_000 }, () => {
  it('says all that a worker needs, and starts the job', async () => {
    const { id } = await submit(ask, { type: 'test.raw', input: { n: 1.5 }, metadata: { a: 'b' }, timeout_ms: 90_000 });
    const [run] = await claimRuns(ask, ['test.raw'], { lease_s: 60 });
    expect(run).toMatchObject({
      number: 1,
      job: { id, type: 'test.raw', account_id: expect.stringMatching(/^acc_/), metadata: { a: 'b' } },
      input: { n: 1.5 },
      timeout_ms: 90_000,
      heartbeat_after_s: 19.98,
    });
    const left = (at: string) => (Date.parse(at) - Date.now()) / 1000;
    expect(left(run!.lease_expires_at)).toBeGreaterThan(50);
    expect(left(run!.lease_expires_at)).toBeLessThanOrEqual(60);
    expect(left(run!.deadline_at)).toBeGreaterThan(80);
    expect(await jobOf(run!)).toMatchObject({ status: 'in_progress', runs: 1 });
    await tell(ask, run!, 'complete', { output: null });
  });

  it('gets what is queued while it waits, at once', async () => {
    const waiting = claimRuns(ask, ['test.other', 'test.raw'], { wait_s: 20 });
    const { id } = await submit(ask, { type: 'test.raw', input: 0 });
    const began = performance.now();
    const [run] = await waiting;
    expect(run?.job.id).toBe(id);
    expect(performance.now() - began, 'woken, not polled').toBeLessThan(2000);
    await tell(ask, run!, 'complete', { output: null });
  });

  it('is empty when nothing comes in time', async () => {
    const began = performance.now();
    expect(await claimRuns(ask, ['test.raw'], { wait_s: 0.3 })).toEqual([]);
    expect(performance.now() - began).toBeGreaterThan(295);
  });

  it('takes no more than it may, and from each type in turn', async () => {
    const submitAll = (type: string) => Promise.all([1, 2, 3, 4].map((n) => submit(ask, { type, input: n })));
    await Promise.all([submitAll('test.raw'), submitAll('test.other')]);
    const rounds: ClaimedRun[][] = [];
    for (let n = 0; n < 4; n++) rounds.push(await claimRuns(ask, ['test.raw', 'test.other'], { max: 2 }));
    expect(rounds.map((runs) => runs.length)).toEqual([2, 2, 2, 2]);
    const types = rounds.map((runs) => runs[0]!.job.type);
    expect(new Set(types.slice(0, 2)).size, 'neither type waits for the other').toBe(2);
    await Promise.all(rounds.flat().map((run) => tell(ask, run, 'complete', { output: null })));
  });

  it("never goes beyond the type's concurrency, and its end lets a waiting worker begin", async () => {
    const jobs = await Promise.all([1, 2, 3, 4, 5].map((n) => submit(ask, { type: 'test.few', input: n })));
    const claims = await Promise.all(Array.from({ length: 8 }, () => claimRuns(ask, ['test.few'], { max: 3 })));
    const running = claims.flat();
    expect(running).toHaveLength(2);
    const waiting = claimRuns(ask, ['test.few'], { wait_s: 20 });
    const began = performance.now();
    await tell(ask, running[0]!, 'complete', { output: null });
    const [next] = await waiting;
    expect(next).toBeDefined();
    expect(performance.now() - began, 'woken, not polled').toBeLessThan(2000);
    const rest = [running[1]!, next!];
    for (const run of rest) await tell(ask, run, 'complete', { output: null });
    for (let n = 0; n < 2; n++)
      await tell(ask, await claimRun(ask, 'test.few', { wait_s: 5 }), 'complete', { output: null });
    for (const { id } of jobs) expect((await untilDone(ask, id)).status).toBe('succeeded');
  });

  it('of a client that hung up leaves nothing behind: who comes next gets the run at once', async () => {
    const socket = await openSocket(service.url);
    const body = JSON.stringify({ types: ['test.raw'], worker: 'gone', wait_s: 30, lease_s: 300 });
    socket.write(
      `POST /v1/worker/claims HTTP/1.1\r\nhost: x\r\nauthorization: Bearer ${key}\r\n` +
        `content-type: application/json\r\ncontent-length: ${body.length}\r\n\r\n${body}`,
    );
    const before = service.main.logs.length;
    socket.destroy();
    // The request's line says that it is over.
    await eventually(() => {
      const line = service.main.logs.slice(before).find(({ route }) => route === '/v1/worker/claims');
      expect(line).toBeDefined();
    });
    const { id } = await submit(ask, { type: 'test.raw', input: 0 });
    const run = await claimRun(ask, 'test.raw');
    expect(run.job.id).toBe(id);
    await tell(ask, run, 'complete', { output: null });
  });

  it('of clients that hang up in the middle of it loses no job and counts none as failed', async () => {
    const jobs = await Promise.all(Array.from({ length: 20 }, (_, n) => submit(ask, { type: 'test.raw', input: n })));
    for (let n = 0; n < 20; n++) {
      const abort = new AbortController();
      const claimed = fetch(`${service.url}/v1/worker/claims`, {
        method: 'POST',
        headers: { authorization: `Bearer ${key}`, 'content-type': 'application/json' },
        body: JSON.stringify({ types: ['test.raw'], worker: 'hasty', lease_s: 5 }),
        signal: abort.signal,
      });
      setTimeout(() => abort.abort(), n / 4);
      const answer = await claimed.then((response) => response.json()).catch(() => undefined);
      for (const run of (answer as { runs: ClaimedRun[] } | undefined)?.runs ?? [])
        await tell(ask, run, 'complete', { output: null });
    }
    // Those whose answer was on its way when the client hung up come back when their lease runs out.
    await eventually(async () => {
      for (const run of await claimRuns(ask, ['test.raw'], { max: 100 }))
        await tell(ask, run, 'complete', { output: null });
      const left = await database.sql`SELECT FROM ringback.run_queue WHERE type = 'test.raw'`;
      expect(left).toHaveLength(0);
    }, 25_000);
    for (const { id } of jobs) expect((await untilDone(ask, id)).status).toBe('succeeded');
  });

  it('that waits is answered at once when the service stops', async () => {
    const patient = { RINGBACK_SHUTDOWN_TIMEOUT_MS: '60000' };
    const main = spawnMain(
      serviceEnv(database.url, { RINGBACK_BOOTSTRAP_KEY: key, RINGBACK_CONFIG: CONFIG, ...patient }),
    );
    const other = client(await main.listening(), key);
    const waiting = Array.from({ length: 20 }, () => claimRuns(other, ['test.raw'], { wait_s: 30 }));
    // It waits by the time that a later request has been answered.
    await claimRuns(other, ['test.raw']);
    expect((await main.ends({ signal: 'SIGTERM' })).code).toBe(0);
    expect((await Promise.all(waiting)).flat()).toEqual([]);
  });

  it.each([
    ['no types', { types: [] }, 422, 'invalid_body', /types/],
    ['too many types', { types: Array.from({ length: 101 }, () => 'test.raw') }, 422, 'invalid_body', /types/],
    ['too many runs', { types: ['test.raw'], max: 101 }, 422, 'invalid_body', /max/],
    ['too long a wait', { types: ['test.raw'], wait_s: 31 }, 422, 'invalid_body', /wait_s/],
    ['too short a lease', { types: ['test.raw'], lease_s: 4 }, 422, 'invalid_body', /lease_s/],
    ['no name', { types: ['test.raw'], worker: '' }, 422, 'invalid_body', /worker/],
    ['an unknown member', { types: ['test.raw'], tpyes: 1 }, 422, 'invalid_body', /tpyes/],
    ['an unknown type', { types: ['test.raw', 'test.row'] }, 404, 'unknown_job_type', /Did you mean test.raw/],
    ['a type of ours', { types: ['test.raw', 'test.inline'] }, 422, 'invalid_body', /types\/1.*remote: true/],
  ])('with %s is refused', async (_, wish, status, code, saying) => {
    const refused = await ask('POST', '/v1/worker/claims', { worker: 'test', ...wish });
    expect(refused.json).toMatchObject({ status, code, detail: expect.stringMatching(saying) });
  });
});

it('leaves no error in the log, and one line for each claim that got something', () => {
  expect(errorsIn(service.main.logs)).toEqual([]);
  const line = service.main.logs.find(({ msg }) => msg === 'claim');
  expect(line).toMatchObject({ worker_id: 'test', claimed: 1, runs: [expect.stringMatching(/^run_/)] });
});
