import { describe, expect, test } from 'vitest';
import type { AccountId } from '#domain/ids.ts';
import type { SubmissionLimits } from '#store/quotas.ts';
import { Admission } from '../../../src/jobs/submit/admission.ts';
import { QueueDepth } from '../../../src/jobs/submit/queue-depth.ts';
import { useDatabase } from '../../support/database.ts';
import { claimRun, insertJob, makeAccount, runEnd } from '../../support/fixtures.ts';
import { endRuns } from '#store/end-runs.ts';

const database = useDatabase();
const NO_LIMITS: SubmissionLimits = { perSecond: null, maxPending: null };

/** An API process's own, with limits for every account. */
function admission(defaults: Partial<SubmissionLimits> = {}, maxQueued = 1_000_000) {
  const onError = (error: unknown) => {
    throw error;
  };
  const depth = new QueueDepth({ db: database.db, max: maxQueued, onError });
  return {
    depth,
    ...gate(new Admission({ db: database.db, defaults: { ...NO_LIMITS, ...defaults }, depth, onError })),
  };
}

function gate(made: Admission) {
  return {
    made,
    /** The codes of so many submissions at once; `ok` for one that is let in. */
    ask: async (accountId: AccountId, count: number) => {
      const refusals = await Promise.all(Array.from({ length: count }, () => made.admit(accountId)));
      return refusals.map((refusal) => refusal?.code ?? 'ok');
    },
  };
}

const counted = (codes: readonly string[]) =>
  Object.fromEntries([...Map.groupBy(codes, (code) => code)].map(([code, all]) => [code, all.length]));

/** As if so much time had passed since: what was paid for lies further back. */
async function letPass(accountId: AccountId, interval: string): Promise<void> {
  await database.sql`
    UPDATE ringback.accounts SET submissions_paid_until = submissions_paid_until - ${interval}::interval
    WHERE account_id = ${accountId}`;
}

describe('submissions a second', () => {
  test('may be a second’s worth at once, and then as fast as time passes', async () => {
    const { accountId } = await makeAccount(database.db);
    const { ask, made } = admission({ perSecond: 10 });
    expect(counted(await ask(accountId, 15))).toEqual({ ok: 10, too_many_submissions: 5 });
    expect(made.rateLimit(accountId)).toEqual({
      submissions: { perSecond: 10, remaining: 0, resetSeconds: 1 },
      pending: null,
    });
    await letPass(accountId, '300 ms');
    // A little time passes by itself.
    const { ok = 0 } = counted(await ask(accountId, 10));
    expect(ok).toBeGreaterThanOrEqual(3);
    await letPass(accountId, '1 hour');
    expect(counted(await ask(accountId, 15))).toEqual({ ok: 10, too_many_submissions: 5 });
  });

  test('are let in again after a second at most when the clock was ahead as they were counted', async () => {
    const { accountId } = await makeAccount(database.db);
    const { ask } = admission({ perSecond: 10 });
    await ask(accountId, 1);
    await letPass(accountId, '-1 hour');
    expect(counted(await ask(accountId, 1))).toEqual({ too_many_submissions: 1 });
    await letPass(accountId, '1 second');
    expect(counted(await ask(accountId, 5))).toEqual({ ok: 5 });
  });

  test('are counted for all processes together', async () => {
    const { accountId } = await makeAccount(database.db);
    const [one, other] = [admission({ perSecond: 5 }), admission({ perSecond: 5 })];
    const codes = (await Promise.all([one.ask(accountId, 20), other.ask(accountId, 20)])).flat();
    const { ok = 0 } = counted(codes);
    expect(ok).toBeGreaterThanOrEqual(5);
    expect(ok).toBeLessThanOrEqual(6); // one more may have been earned meanwhile
  });

  test('may be fewer than one: the refusal says how long to wait', async () => {
    const { accountId } = await makeAccount(database.db);
    await database.sql`UPDATE ringback.accounts SET submissions_per_second = 0.1 WHERE account_id = ${accountId}`;
    const { made } = admission();
    expect(await made.admit(accountId)).toBeUndefined();
    expect(await made.admit(accountId)).toMatchObject({ code: 'too_many_submissions', retryAfter: 10 });
  });

  test('of one account are no other account’s', async () => {
    const [one, other] = [await makeAccount(database.db), await makeAccount(database.db)];
    const { ask } = admission({ perSecond: 1 });
    expect(await ask(one.accountId, 2)).toContain('too_many_submissions');
    expect(await ask(other.accountId, 1)).toEqual(['ok']);
  });
});

describe('jobs that have not ended', () => {
  test('are as many as the account may have, and make room when they end', async () => {
    const { accountId } = await makeAccount(database.db);
    const { ask, made } = admission({ maxPending: 3 });
    await insertJob(database.db, accountId);
    const running = await claimRun(database.db, await insertJob(database.db, accountId));
    expect(await ask(accountId, 2)).toEqual(['ok', 'too_many_jobs']);
    await insertJob(database.db, accountId);
    expect(await made.admit(accountId)).toMatchObject({
      code: 'too_many_jobs',
      retryAfter: 5,
      extra: { max_pending: 3 },
    });
    await endRuns(database.sql, [runEnd(running)]);
    expect(await ask(accountId, 1)).toEqual(['ok']);
  });

  test('an account’s own limit comes before everybody’s', async () => {
    const { accountId } = await makeAccount(database.db);
    await database.sql`UPDATE ringback.accounts SET max_pending = 0 WHERE account_id = ${accountId}`;
    const { ask } = admission({ maxPending: 1000 });
    expect(await ask(accountId, 1)).toEqual(['too_many_jobs']);
  });
});

test('an account without limits costs no statement', async () => {
  const { accountId } = await makeAccount(database.db);
  const { ask } = admission();
  expect(counted(await ask(accountId, 500))).toEqual({ ok: 500 });
  const [row] = await database.sql`
    SELECT submissions_paid_until AS "paidUntil" FROM ringback.accounts WHERE account_id = ${accountId}`;
  expect(row).toEqual({ paidUntil: null });
});

test('while too much waits everybody is asked to come back, and is let in once there is room', async () => {
  const { accountId } = await makeAccount(database.db);
  const { depth, made } = admission({}, 1);
  const [{ queued }] = await database.sql<[{ queued: number }]>`SELECT count(*)::int AS queued FROM ringback.run_queue`;
  const job = await claimRun(database.db, await insertJob(database.db, accountId));
  await depth.look();
  const refusal = await made.admit(accountId);
  expect(refusal).toMatchObject({ code: 'queue_full' });
  expect(refusal?.retryAfter).toBeGreaterThanOrEqual(1);
  expect(refusal?.retryAfter).toBeLessThanOrEqual(300);
  await endRuns(database.sql, [runEnd(job)]);
  const roomy = admission({}, queued + 1);
  await roomy.depth.look();
  expect(await roomy.made.admit(accountId)).toBeUndefined();
});
