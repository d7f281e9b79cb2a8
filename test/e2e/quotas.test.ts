import { setTimeout as pause } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { useDatabase } from '../support/database.ts';
import { eventually } from '../support/eventually.ts';
import { makeAccount } from '../support/fixtures.ts';
import { type Answer, type Ask, client, submit, untilDone } from './support/api.ts';
import { type Environment, serviceEnv, useService } from './support/main-process.ts';
import { expectProblem } from './support/problem.ts';

const database = useDatabase();

const echo = { type: 'ringback.echo', input: 1 };
const later = () => ({ ...echo, run_at: new Date(Date.now() + 3_600_000).toISOString() });

/** A service with these limits, for the tests of one block; answers what makes clients, each with an account of its own. */
function useLimits(env: Environment): () => Promise<Ask> {
  const service = useService(() => serviceEnv(database.url, env));
  return async () => client(service.url, (await makeAccount(database.db)).key);
}

const retryAfter = ({ headers }: Answer) => Number(headers.get('retry-after'));

/** Waits as the refusal tells, no longer, and sends it again: it must be accepted. */
async function comeBack(refused: Answer, send: () => Promise<Answer>): Promise<void> {
  await pause(1000 * retryAfter(refused));
  const answer = await send();
  expect(answer.status, answer.text).toBe(202);
}

describe('an account that may submit five jobs a second', () => {
  const newClient = useLimits({ RINGBACK_ACCOUNT_SUBMISSIONS_PER_SECOND: '5' });
  const send = (ask: Ask) => ask('POST', '/v1/jobs', echo);

  it('is told with every answer what is left, and with a refusal when to come back', async () => {
    const ask = await newClient();
    const began = performance.now();
    const answers: Answer[] = [];
    do answers.push(await send(ask));
    while (answers.at(-1)!.status === 202 && answers.length < 500);
    const earned = Math.ceil(((performance.now() - began) / 1000) * 5);
    const refused = answers.pop()!;
    expect(answers.length).toBeGreaterThanOrEqual(5);
    expect(answers.length).toBeLessThanOrEqual(5 + earned);
    for (const { headers } of [...answers, refused])
      expect(headers.get('ratelimit-policy')).toBe('"submissions";q=5;w=1');
    expect(answers[0]!.headers.get('ratelimit')).toBe('"submissions";r=4;t=1');
    expect(refused.headers.get('ratelimit')).toBe('"submissions";r=0;t=1');
    expect(expectProblem(refused, 'too_many_submissions')).toMatchObject({ submissions_per_second: 5 });
    expect(retryAfter(refused)).toBe(1);
    await comeBack(refused, () => send(ask));
  });

  it('has no more let in for sending many at once, and nothing is stored of the others', async () => {
    const ask = await newClient();
    const began = performance.now();
    const answers = await Promise.all(Array.from({ length: 40 }, () => send(ask)));
    const earned = Math.ceil(((performance.now() - began) / 1000) * 5);
    const accepted = answers.filter(({ status }) => status === 202);
    for (const answer of answers) if (answer.status !== 202) expectProblem(answer, 'too_many_submissions');
    expect(accepted.length).toBeGreaterThanOrEqual(5);
    expect(accepted.length).toBeLessThanOrEqual(5 + earned);
    const stored = (await ask('GET', '/v1/jobs')).json.items.map(({ id }: { id: string }) => id);
    expect(stored.toSorted()).toEqual(accepted.map(({ json }) => json.id).toSorted());
  });

  it('has as many items of a batch let in, from its beginning, and is told when to send the others', async () => {
    const ask = await newClient();
    const items = Array.from({ length: 20 }, () => echo);
    const answer = await ask('POST', '/v1/jobs/batch', { items });
    expect(answer.status).toBe(207);
    const statuses = answer.json.items.map(({ status }: { status: number }) => status);
    expect(statuses).toEqual([...Array(5).fill(202), ...Array(15).fill(429)]);
    expect(answer.json.items[5]).toMatchObject({ code: 'too_many_submissions', retry_after: 1 });
    expect(answer.headers.get('ratelimit')).toBe('"submissions";r=0;t=1');
  });

  it('pays nothing for what is told again, or refused for what it is', async () => {
    const ask = await newClient();
    const keyed = () => ask('POST', '/v1/jobs', echo, { 'idempotency-key': 'paid' });
    const first = await keyed();
    for (let n = 0; n < 30; n++) {
      expect(await keyed()).toMatchObject({ status: 202, text: first.text });
      expectProblem(await ask('POST', '/v1/jobs', { type: 'ringback.ecko' }), 'unknown_job_type');
    }
    expect((await send(ask)).headers.get('ratelimit')).toMatch(/^"submissions";r=[34];t=1$/);
  });

  it('takes nothing from another account', async () => {
    const [one, other] = [await newClient(), await newClient()];
    await Promise.all(Array.from({ length: 20 }, () => send(one)));
    expect((await send(other)).headers.get('ratelimit')).toBe('"submissions";r=4;t=1');
  });
});

describe('an account that may have three jobs that have not ended', () => {
  const newClient = useLimits({ RINGBACK_ACCOUNT_MAX_PENDING: '3' });

  it('is refused the fourth, and told what is left, until one has ended', async () => {
    const ask = await newClient();
    const jobs = [];
    for (const left of [2, 1, 0]) {
      const answer = await ask('POST', '/v1/jobs', later());
      expect(answer.status, answer.text).toBe(202);
      expect(answer.headers.get('ratelimit-policy')).toBe('"pending";q=3');
      expect(answer.headers.get('ratelimit')).toBe(`"pending";r=${left}`);
      jobs.push(answer.json);
    }
    const refused = await ask('POST', '/v1/jobs', echo);
    expect(expectProblem(refused, 'too_many_jobs')).toMatchObject({ max_pending: 3 });
    expect(refused.headers.get('ratelimit')).toBe('"pending";r=0');
    expect(retryAfter(refused)).toBeGreaterThanOrEqual(1);
    await ask('POST', `/v1/jobs/${jobs[0].id}/cancel`);
    const { id } = await submit(ask, echo);
    await untilDone(ask, id);
    await submit(ask, echo);
  });

  it('has as many items of a batch let in as there is room', async () => {
    const ask = await newClient();
    const [{ job }, ...rest] = (await ask('POST', '/v1/jobs/batch', { items: [1, 2, 3, 4].map(later) })).json.items;
    expect(rest.map(({ status }: { status: number }) => status)).toEqual([202, 202, 429]);
    expect(rest[2]).toMatchObject({ code: 'too_many_jobs', max_pending: 3, retry_after: expect.any(Number) });
    await ask('POST', `/v1/jobs/${job.id}/cancel`);
    await submit(ask, later());
  });
});

describe('an installation that takes three jobs in all', () => {
  const newClient = useLimits({ RINGBACK_MAX_QUEUED: '3' });

  /** Stored by no means: its callback is refused, once it has been let in. */
  const probe = { ...echo, callback: { url: 'http://10.0.0.1/' } };

  function untilFull(ask: Ask): Promise<Answer> {
    return eventually(async () => {
      const answer = await ask('POST', '/v1/jobs', probe);
      expectProblem(answer, 'queue_full');
      return answer;
    });
  }

  it('refuses everybody while they wait or run, says for how long, and takes who comes back then', async () => {
    await database.sql`TRUNCATE ringback.run_queue, ringback.job_type_stats`;
    const [ask, other] = [await newClient(), await newClient()];
    const waiting = later();
    const keyed = () => ask('POST', '/v1/jobs', waiting, { 'idempotency-key': 'before' });
    const first = await keyed();
    const sleepers = [];
    for (const _ of [1, 2]) sleepers.push(await submit(ask, { type: 'ringback.sleep', input: { ms: 600_000 } }));
    const refused = await untilFull(ask);
    // Nothing has ended lately: nobody knows when there will be room.
    expect(retryAfter(refused)).toBe(300);
    expect(refused.json.detail).toMatch(/^3 jobs .* 300 s/);
    expectProblem(await other('POST', '/v1/jobs', echo), 'queue_full');
    const { json } = await other('POST', '/v1/jobs/batch', { items: [echo, { type: 'no.such' }] });
    expect(json.items).toMatchObject([
      { status: 503, code: 'queue_full', retry_after: expect.any(Number) },
      { status: 404, code: 'unknown_job_type' },
    ]);
    expect(await keyed()).toMatchObject({ status: 202, text: first.text });

    // As if ten a second had ended lately.
    await database.sql`
      INSERT INTO ringback.job_type_stats (type, runs, total_ms, updated_at)
      VALUES ('ringback.sleep', 600, 60000, now() + interval '1 minute')`;
    const told = await eventually(async () => {
      const answer = await untilFull(other);
      expect(retryAfter(answer)).toBe(1);
      return answer;
    });
    for (const { id } of sleepers) await ask('POST', `/v1/jobs/${id}/cancel`);
    for (const { id } of sleepers) await untilDone(ask, id);
    // Nobody has submitted meanwhile: what was seen when it was full is no reason to refuse now.
    await comeBack(told, () => other('POST', '/v1/jobs', echo));
  });
});
