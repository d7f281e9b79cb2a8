import { sql as raw } from 'drizzle-orm';
import { describe, expect, test } from 'vitest';
import { isUnavailable } from '#store/database.ts';
import { accounts } from '#store/schema/accounts.ts';
import { useDatabase } from '../../support/database.ts';
import { eventually } from '../../support/eventually.ts';
import { makeAccount } from '../../support/fixtures.ts';

const database = useDatabase();

const backendOf = async ({ sql }: { sql: typeof database.sql }) =>
  (await sql`SELECT pg_backend_pid() AS pid`)[0]!['pid'] as number;

describe('an open database', () => {
  test('hands moments and JSON over alike, whether asked with SQL or with the builder', async () => {
    const { accountId } = await makeAccount(database.db);
    const [row] = await database.sql`
      SELECT created_at, '{"a":[1]}'::json AS j, '{"a":[1]}'::jsonb AS b, now() AS moment
      FROM ringback.accounts WHERE account_id = ${accountId}`;
    const [record] = await database.db.orm
      .select()
      .from(accounts)
      .where(raw`account_id = ${accountId}`);
    expect(row).toMatchObject({ j: { a: [1] }, b: { a: [1] }, moment: expect.any(Date) });
    expect(record!.createdAt).toEqual(row!['created_at']);
  });

  test.each([false, true])('prefers indexes, also through a pooler (%s)', async (pooled) => {
    const settings = await database.open({ pooled }).sql<{ setting: string }[]>`
      SELECT setting FROM pg_settings WHERE name IN ('enable_seqscan', 'enable_hashjoin', 'enable_mergejoin')`;
    expect(settings.map(({ setting }) => setting)).toEqual(['off', 'off', 'off']);
  });

  test('comes back by itself after its connection was cut', async () => {
    const pool = database.open({ max: 1 });
    const pid = await backendOf(pool);
    const cut = pool.sql`SELECT pg_sleep(600)`.catch((error: unknown) => error);
    await eventually(async () => {
      const [row] = await database.sql`SELECT query FROM pg_stat_activity WHERE pid = ${pid}`;
      expect(row!['query']).toContain('pg_sleep(600)');
    });
    await database.sql`SELECT pg_terminate_backend(${pid})`;
    expect(isUnavailable(await cut)).toBe(true);
    expect(await eventually(() => backendOf(pool))).not.toBe(pid);
  });
});

describe('an error', () => {
  const errorOf = (statement: string, pool = database.open({ max: 1 })) =>
    pool.sql.unsafe(statement).then(
      () => undefined,
      (error: unknown) => error,
    );

  test.each([
    ['of a statement that is wrong', 'SELEC 1'],
    ['of a constraint', `INSERT INTO ringback.accounts (account_id) VALUES ('x')`],
    ['of a value', `SELECT 'x'::int`],
    ['of an append-only table', 'TRUNCATE ringback.events'],
    ['of a statement that took too long', `SET statement_timeout = 10; SELECT pg_sleep(60)`],
  ])('%s does not mean that the database is away', async (_, statement) => {
    const error = await errorOf(statement);
    expect(error).toBeInstanceOf(Error);
    expect(isUnavailable(error)).toBe(false);
  });

  test.each([
    ['an address where nobody listens', 'postgres://nobody@127.0.0.1:1/x'],
    ['a name that does not resolve', 'postgres://nobody@nowhere.invalid/x'],
  ])('of %s means that it is', async (_, url) => {
    const error = await errorOf('SELECT 1', database.open({ max: 1, url }));
    expect(isUnavailable(error), String((error as { code?: string }).code)).toBe(true);
  });

  test.each(['57P01', '57P03', '53300', '08006', 'CONNECTION_CLOSED', 'CONNECT_TIMEOUT', 'ECONNRESET', 'EPIPE'])(
    'with code %s means that it is, wrapped or not',
    (code) => {
      const error = Object.assign(new Error('x'), { code });
      expect(isUnavailable(error)).toBe(true);
      expect(isUnavailable(new Error('drizzle says', { cause: error }))).toBe(true);
    },
  );

  test.each([undefined, null, 'ECONNRESET', new Error('no code'), { code: 42 }])(
    'that is odd (%j) does not',
    (error) => {
      expect(isUnavailable(error)).toBe(false);
    },
  );
});
