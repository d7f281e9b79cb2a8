import { createHash } from 'node:crypto';
import { beforeEach, describe, expect, test } from 'vitest';
import { z } from 'zod';
import type { AccountId } from '#domain/ids.ts';
import { refuse } from '#domain/problem.ts';
import { deleteExpiredKeys } from '#store/idempotency.ts';
import { endRuns } from '#store/end-runs.ts';
import { retireJobs } from '#store/retention.ts';
import { defineJob } from '../../../src/jobs/type/define.ts';
import type { Submission } from '../../../src/jobs/submit/submission.ts';
import type { SubmitterDeps } from '../../../src/jobs/submit/submit.ts';
import { helper, useDatabase } from '../../support/database.ts';
import { accepted, claimRun, makeAccount, runEnd, SECRET_KEYS } from '../../support/fixtures.ts';
import { makeSubmitter } from '../../support/workers.ts';

const database = useDatabase();

const anything = defineJob({ type: 'test.anything', input: z.unknown(), run: () => null });

let accountId: AccountId;
beforeEach(async () => {
  await database.sql`DELETE FROM ringback.run_queue`;
  ({ accountId } = await makeAccount(database.db));
});

/** A process of its own, as far as the database can tell. */
function instance(changes: Partial<SubmitterDeps> = {}) {
  const submitter = makeSubmitter({ db: database.open() }, [anything], changes);
  return (submission: Partial<Submission> = {}, key = 'order-4711') => {
    const whole = { type: 'test.anything', input: 1, ...submission };
    const fingerprint = createHash('sha256').update(JSON.stringify(whole)).digest();
    return submitter.submit(accountId, whole, { key, fingerprint });
  };
}

const count = async (table: 'jobs' | 'run_queue' | 'endpoints' | 'endpoint_secrets' | 'idempotency_keys') => {
  const [row] = await database.sql<[{ count: number }]>`
    SELECT count(*)::int FROM ringback.${helper(table)} WHERE account_id = ${accountId}`;
  return row.count;
};

/** An admission that lets nobody through before it is told: a submission held there has looked its key up already. */
function gate() {
  const opened = Promise.withResolvers<undefined>();
  const reached = Promise.withResolvers<void>();
  const admit = () => {
    reached.resolve();
    return opened.promise;
  };
  return { admission: { admit }, reached: reached.promise, open: () => opened.resolve(undefined) };
}

describe('100 equal submissions under one key at once', () => {
  test.each([
    ['in two processes', 2, {}],
    ['in ten processes', 10, {}],
    ['in two processes, the first for their URL', 2, { callback: { url: 'http://127.0.0.1:8080/new' } }],
  ])('%s make one job, and get one answer', async (_where, processes, submission) => {
    const instances = Array.from({ length: processes }, () => instance());
    const all = Array.from({ length: 100 }, (_, n) => instances[n % processes]!(submission));
    const answers = (await Promise.all(all)).map(accepted);
    expect(new Set(answers.map(({ body }) => body)).size).toBe(1);
    expect(answers.filter(({ replayed }) => !replayed)).toHaveLength(1);
    expect(new Set(answers.map(({ id }) => id))).toEqual(
      new Set([(JSON.parse(answers[0]!.body) as { id: string }).id]),
    );
    expect([await count('jobs'), await count('run_queue'), await count('idempotency_keys')]).toEqual([1, 1, 1]);
    const endpoints = 'callback' in submission ? 1 : 0;
    expect([await count('endpoints'), await count('endpoint_secrets')]).toEqual([endpoints, endpoints]);
    expect(answers[0]!.body.includes('whsec_'), 'the secret is told to each of them').toBe(endpoints === 1);
  });
});

describe('a submission whose key is taken while it is on its way', () => {
  test.each([
    ['for a URL that is new', { callback: { url: 'http://127.0.0.1:8080/lost' } }, 1],
    ['without a callback', {}, 0],
  ])('%s is answered with the first job, and leaves nothing of its own', async (_what, submission, endpoints) => {
    const held = gate();
    const late = instance({ admission: held.admission })(submission);
    await held.reached;
    const first = accepted(await instance()(submission));
    held.open();
    expect(accepted(await late)).toEqual({ ...first, replayed: true });
    expect([await count('jobs'), await count('run_queue')]).toEqual([1, 1]);
    expect([await count('endpoints'), await count('endpoint_secrets')]).toEqual([endpoints, endpoints]);
  });

  test('by another payload is refused, and leaves no endpoint whose secret nobody saw', async () => {
    const held = gate();
    const callback = { url: 'http://127.0.0.1:8080/unseen' };
    const late = instance({ admission: held.admission })({ callback });
    await held.reached;
    accepted(await instance()({ input: 2 }));
    held.open();
    expect(await late).toMatchObject({ ok: false, code: 'idempotency_key_reused' });
    expect([await count('jobs'), await count('endpoints'), await count('endpoint_secrets')]).toEqual([1, 0, 0]);
    const again = accepted(await instance()({ callback }, 'another key'));
    expect(again.body, 'the endpoint is made anew, and shows its secret').toContain('whsec_');
  });
});

describe('a key', () => {
  test('is remembered for a day and then free again, whether it was forgotten or not', async () => {
    const submit = instance();
    const first = accepted(await submit());
    const [row] = await database.sql`
      SELECT expires_at - created_at = interval '1 day' AS "aDay" FROM ringback.idempotency_keys
      WHERE account_id = ${accountId}`;
    expect(row).toEqual({ aDay: true });
    await expire();
    const second = accepted(await submit());
    expect(second).toMatchObject({ replayed: false });
    expect(second.id).not.toBe(first.id);
    expect(accepted(await submit({})), 'it is the second job’s by now').toEqual({ ...second, replayed: true });
    await expire();
    expect(await deleteExpiredKeys(database.db, new Date(), 100)).toBe(1);
    expect(await count('idempotency_keys')).toBe(0);
    expect(accepted(await submit({ input: 'another' }))).toMatchObject({ replayed: false });
    expect(await count('jobs')).toBe(3);
  });

  test('answers as it did at first when its job has ended, and when it is gone', async () => {
    const submit = instance();
    const first = accepted(await submit({ callback: { url: 'http://127.0.0.1:8080/kept' } }));
    const again = () => submit({ callback: { url: 'http://127.0.0.1:8080/kept' } });
    await endRuns(database.sql, [runEnd(await claimRun(database.db, { accountId, id: first.id }))]);
    expect(accepted(await again())).toEqual({ ...first, replayed: true });
    const retired = await retireJobs(database.db, accountId, {
      ids: [first.id],
      finishedBefore: new Date(Date.now() + 1000),
      now: new Date(),
    });
    expect(retired).toBe(1);
    expect(accepted(await again())).toEqual({ ...first, replayed: true });
    expect(accepted(await instance()({ callback: { url: 'http://127.0.0.1:8080/kept' } }))).toMatchObject({
      id: first.id,
      replayed: true,
    });
    expect(await count('jobs')).toBe(0);
  });

  test('is not used up by a submission that was refused', async () => {
    const refusal = refuse('too_many_jobs', 'not now');
    const refusing = instance({ admission: { admit: () => Promise.resolve(refusal) } });
    expect(await Promise.all([refusing(), refusing()])).toEqual([refusal, refusal]);
    expect(await refusing({ type: 'test.nothing' })).toMatchObject({ ok: false, code: 'unknown_job_type' });
    expect(accepted(await instance()({ input: 'another' }))).toMatchObject({ replayed: false });
  });

  test('with another payload is refused, at once and later', async () => {
    const submit = instance();
    const answers = await Promise.all([submit({ input: 1 }), submit({ input: 2 }), submit({ input: 3 })]);
    expect(answers.map((answer) => answer.ok || answer.code)).toEqual([
      true,
      'idempotency_key_reused',
      'idempotency_key_reused',
    ]);
    expect(await instance()({ input: 2 })).toMatchObject({ ok: false, code: 'idempotency_key_reused' });
    expect(await count('jobs')).toBe(1);
  });

  test('keeps an answer that shows a secret encrypted, and one that does not as it is', async () => {
    const submit = instance();
    const plain = accepted(await submit({}, 'plain'));
    await submit({ callback: { url: 'http://127.0.0.1:8080/sealed' } }, 'sealed');
    const rows = await database.sql<{ key: string; response: Buffer; response_key_id: string | null }[]>`
      SELECT key, response, response_key_id FROM ringback.idempotency_keys WHERE account_id = ${accountId} ORDER BY key`;
    expect(rows).toMatchObject([
      { key: 'plain', response_key_id: null },
      { key: 'sealed', response_key_id: SECRET_KEYS[0]!.id },
    ]);
    expect(rows[0]!.response.toString()).toBe(plain.body);
    expect(rows[1]!.response.includes('whsec_')).toBe(false);
  });

  const expire = () =>
    database.sql`UPDATE ringback.idempotency_keys SET expires_at = created_at WHERE account_id = ${accountId}`;
});
