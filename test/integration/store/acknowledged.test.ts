import { setTimeout as pause } from 'node:timers/promises';
import { describe, expect, test } from 'vitest';
import { isOutcomeUnknown, isUnavailable } from '#store/database.ts';
import { useDatabase } from '../../support/database.ts';

const database = useDatabase();

/** A table of the test's own. */
async function makeTable(name: string): Promise<void> {
  await database.sql.unsafe(`CREATE TABLE public.${name} (n int PRIMARY KEY)`);
}

const countOf = async (name: string) =>
  (await database.sql.unsafe<{ n: number }[]>(`SELECT count(*)::int AS n FROM public.${name}`))[0]!.n;

const idleInTransaction = async () =>
  database.sql`
    SELECT pid, state, query FROM pg_stat_activity
    WHERE datname = current_database() AND state LIKE 'idle in transaction%'`;

describe('what was acknowledged is there', () => {
  // The driver reserves no connection for a BEGIN that is the 100th statement on its way there, or that a full socket holds up.
  test.each([99, 100, 198, 199, 200, 201, 202, 1000])(
    'with a transaction behind %i statements that are under way, which fails',
    async (before) => {
      const table = `behind_${before}`;
      await makeTable(table);
      const pool = database.open({ max: 2 });
      // Both of its connections are open.
      await Promise.all([1, 2].map(() => pool.sql`SELECT pg_sleep(0.05)`));
      const selects = Array.from({ length: before }, () => pool.sql`SELECT 1`.then(() => true));
      const failing = pool
        .transaction(async (tx) => {
          await tx.unsafe(`INSERT INTO public.${table} VALUES (-1)`);
          throw new Error('changed my mind');
        })
        .catch((error: unknown) => error);
      const inserts = Array.from({ length: 300 }, (_, n) =>
        pool.sql.unsafe(`INSERT INTO public.${table} VALUES ($1)`, [n]).then(
          () => true,
          () => false,
        ),
      );
      expect(await failing).toMatchObject({ message: 'changed my mind' });
      await Promise.all(selects);
      const acknowledged = (await Promise.all(inserts)).filter(Boolean);
      expect(acknowledged).toHaveLength(300);
      expect(await countOf(table)).toBe(acknowledged.length);
      expect(await idleInTransaction()).toEqual([]);
    },
  );

  test('with transactions behind statements too large for the socket to take at once', async () => {
    await makeTable('behind_large');
    const pool = database.open({ max: 2 });
    const large = 'x'.repeat(1_000_000);
    const selects = Array.from({ length: 40 }, () => pool.sql`SELECT length(${large})`.then(() => true));
    const failing = Array.from({ length: 5 }, () =>
      pool.transaction(async (tx) => {
        await tx`SELECT length(${large})`;
        await tx.unsafe('SELECT 1/0');
      }),
    );
    const inserts = Array.from({ length: 300 }, (_, n) =>
      pool.sql.unsafe(`INSERT INTO public.behind_large VALUES (${n})`),
    );
    for (const { status } of await Promise.allSettled(failing)) expect(status).toBe('rejected');
    await Promise.all([...selects, ...inserts]);
    expect(await countOf('behind_large')).toBe(300);
  });

  test('in a transaction that resolved although one of its statements had failed: it rejects, and nothing stays', async () => {
    await makeTable('failed');
    const pool = database.open({ max: 1 });
    const done = pool.transaction(async (tx) => {
      await tx.unsafe('INSERT INTO public.failed VALUES (1)');
      await tx.unsafe('SELECT 1/0').catch(() => undefined);
    });
    await expect(done).rejects.toMatchObject({ code: '22012' });
    expect(await countOf('failed')).toBe(0);
    expect(await idleInTransaction()).toEqual([]);
  });

  test('a transaction that was rolled back behind our back is not taken for committed', async () => {
    await makeTable('behind_our_back');
    const pool = database.open({ max: 1 });
    const done = pool.transaction(async (tx) => {
      await tx.unsafe('INSERT INTO public.behind_our_back VALUES (1)');
      await tx.unsafe(`DO $$ BEGIN RAISE EXCEPTION 'x'; END $$`).catch(() => undefined);
    });
    await expect(done).rejects.toThrow('x');
    expect(await countOf('behind_our_back')).toBe(0);
  });

  test('a deferred constraint that fails at the commit fails the statement, and the transaction', async () => {
    await database.sql.unsafe(`
      CREATE TABLE public.parents (n int PRIMARY KEY);
      CREATE TABLE public.children (n int REFERENCES public.parents DEFERRABLE INITIALLY DEFERRED)`);
    const pool = database.open({ max: 1 });
    await expect(pool.sql`INSERT INTO public.children VALUES (1)`).rejects.toMatchObject({ code: '23503' });
    const done = pool.transaction((tx) => tx`INSERT INTO public.children VALUES (1)`);
    await expect(done).rejects.toMatchObject({ code: '23503' });
    expect(await countOf('children')).toBe(0);
    expect(await pool.sql`SELECT 1 AS one`).toEqual([{ one: 1 }]);
  });

  test('a statement that opens a transaction is refused, and its connection destroyed', async () => {
    await makeTable('opened');
    const pool = database.open({ max: 1 });
    for (const text of [
      'BEGIN',
      'START TRANSACTION',
      'SELECT 1; BEGIN',
      'BEGIN; INSERT INTO public.opened VALUES (1)',
    ]) {
      await expect(pool.sql.unsafe(text), text).rejects.toThrow('left a transaction open');
    }
    await pool.sql`INSERT INTO public.opened VALUES (2)`;
    expect(await countOf('opened')).toBe(1);
  });

  test('a connection that broke is known to have left nothing before its COMMIT, and nobody knows what after', async () => {
    await makeTable('broken');
    const pool = database.open({ max: 2 });
    const end = (pid: unknown) => database.sql`SELECT pg_terminate_backend(${pid as number})`;
    const before = await pool
      .transaction(async (tx) => {
        const [row] = await tx`INSERT INTO public.broken VALUES (1) RETURNING pg_backend_pid() AS pid`;
        await end(row!['pid']);
        await tx`SELECT pg_sleep(30)`;
      })
      .catch((error: unknown) => error);
    expect([isUnavailable(before), isOutcomeUnknown(before)]).toEqual([true, false]);
    const pid = (await pool.sql`SELECT pg_backend_pid() AS pid`)[0]!['pid'];
    const sent = pool.sql`SELECT pg_sleep(30)`.catch((error: unknown) => error);
    await Promise.all([pause(0), end(pid)]);
    const after = await sent;
    expect([isUnavailable(after), isOutcomeUnknown(after)]).toEqual([true, true]);
    expect(await countOf('broken')).toBe(0);
  });
});
