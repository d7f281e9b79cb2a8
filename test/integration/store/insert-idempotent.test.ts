import { describe, expect, test } from 'vitest';
import { findJob } from '#store/job-reads.ts';
import { insertJobs, type NewIdempotencyKey } from '#store/jobs.ts';
import { useDatabase } from '../../support/database.ts';
import { makeAccount, newJob } from '../../support/fixtures.ts';

const database = useDatabase();

const keyOwner = async (accountId: string, key: string) => {
  const rows = await database.sql`
    SELECT job_id FROM ringback.idempotency_keys WHERE account_id = ${accountId} AND key = ${key}`;
  return rows[0]?.['job_id'] as string | undefined;
};

function keyNamed(key: string): NewIdempotencyKey {
  return {
    key,
    fingerprint: 'ab'.repeat(32),
    response: Buffer.from('{"the":"answer"}').toString('base64'),
    responseKeyId: 'key-1',
    expiresAt: new Date(Date.now() + 86_400_000),
  };
}

describe('a job under an idempotency key', () => {
  test('is stored with it, and answered as stored', async () => {
    const { accountId } = await makeAccount(database.db);
    const job = newJob(accountId, { idempotency: keyNamed('one') });
    expect((await insertJobs(database.sql, [job])).ids).toEqual(new Set([job.id]));
    expect(await database.sql`SELECT * FROM ringback.idempotency_keys WHERE account_id = ${accountId}`).toEqual([
      {
        account_id: accountId,
        key: 'one',
        fingerprint: Buffer.alloc(32, 0xab),
        job_id: job.id,
        response: Buffer.from('{"the":"answer"}'),
        response_key_id: 'key-1',
        created_at: job.createdAt,
        expires_at: job.idempotency!.expiresAt,
      },
    ]);
  });

  test('that is taken is left out, with everything that belongs to it; its neighbours are stored', async () => {
    const { accountId } = await makeAccount(database.db);
    const first = newJob(accountId, { idempotency: keyNamed('taken') });
    await insertJobs(database.sql, [first]);
    const second = newJob(accountId, { idempotency: keyNamed('taken') });
    const [before, after] = [newJob(accountId), newJob(accountId, { idempotency: keyNamed('free') })];
    expect((await insertJobs(database.sql, [before, second, after])).ids).toEqual(new Set([before.id, after.id]));
    expect(await findJob(database.db, accountId, second.id)).toBeUndefined();
    expect(await database.sql`SELECT FROM ringback.run_queue WHERE job_id = ${second.id}`).toHaveLength(0);
    expect(await database.sql`SELECT FROM ringback.events WHERE job_id = ${second.id}`).toHaveLength(0);
    expect(await keyOwner(accountId, 'taken')).toBe(first.id);
  });

  test('of another account is a key of its own', async () => {
    const [one, other] = [await makeAccount(database.db), await makeAccount(database.db)];
    const jobs = [one, other].map(({ accountId }) => newJob(accountId, { idempotency: keyNamed('shared') }));
    expect((await insertJobs(database.sql, jobs)).ids).toEqual(new Set(jobs.map(({ id }) => id)));
  });

  test('that has run out takes it over', async () => {
    const { accountId } = await makeAccount(database.db);
    const expiresAt = new Date('2026-01-02T00:00:00Z');
    const createdAt = new Date('2026-01-01T00:00:00Z');
    const old = newJob(accountId, { createdAt, idempotency: { ...keyNamed('old'), expiresAt } });
    await insertJobs(database.sql, [old]);
    const early = newJob(accountId, { createdAt: new Date(+expiresAt - 1), idempotency: keyNamed('old') });
    expect((await insertJobs(database.sql, [early])).ids).toEqual(new Set());
    const late = newJob(accountId, { createdAt: expiresAt, idempotency: keyNamed('old') });
    expect((await insertJobs(database.sql, [late])).ids).toEqual(new Set([late.id]));
    expect(await keyOwner(accountId, 'old')).toBe(late.id);
  });

  test('twice in one group fails the group, which is then tried one by one', async () => {
    const { accountId } = await makeAccount(database.db);
    const twice = [0, 1].map(() => newJob(accountId, { idempotency: keyNamed('twice') }));
    await expect(insertJobs(database.sql, twice)).rejects.toMatchObject({ code: '21000' });
    expect(await database.sql`SELECT FROM ringback.jobs WHERE account_id = ${accountId}`).toHaveLength(0);
  });

  test('by many connections at once is stored once, in whatever order each group names its keys', async () => {
    const { accountId } = await makeAccount(database.db);
    const keys = Array.from({ length: 30 }, (_, n) => `key ${n}`);
    const groups = [keys, keys.toReversed(), [...keys.slice(15), ...keys.slice(0, 15)], keys.toSorted()];
    const inserted = await Promise.all(
      groups.map((names) =>
        insertJobs(
          database.sql,
          names.map((name) => newJob(accountId, { idempotency: keyNamed(name) })),
        ),
      ),
    );
    expect(inserted.reduce((sum, { ids }) => sum + ids.size, 0)).toBe(30);
    const rows = await database.sql`
      SELECT job.id FROM ringback.jobs AS job JOIN ringback.idempotency_keys AS key ON key.job_id = job.id
      WHERE job.account_id = ${accountId}`;
    expect(new Set(rows.map(({ id }) => id as string))).toEqual(new Set(inserted.flatMap(({ ids }) => [...ids])));
    expect(await database.sql`SELECT FROM ringback.jobs WHERE account_id = ${accountId}`).toHaveLength(30);
  });
});
