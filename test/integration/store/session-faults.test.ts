import { describe, expect, test } from 'vitest';
import { isOutcomeUnknown, isUnavailable } from '#store/database.ts';
import { accounts } from '#store/schema/accounts.ts';
import { startTcpProxy } from '../../e2e/support/tcp-proxy.ts';
import { useDatabase } from '../../support/database.ts';
import { eventually } from '../../support/eventually.ts';

const database = useDatabase();

const errorOf = (promise: Promise<unknown>): Promise<unknown> =>
  promise.then(
    () => undefined,
    (error: unknown) => error,
  );

const pidOf = async ({ sql }: { sql: typeof database.sql }): Promise<number> =>
  (await sql<{ pid: number }[]>`SELECT pg_backend_pid() AS pid`)[0]!.pid;

describe('an error in the middle of a result', () => {
  test('leaves nothing behind for the next statement of that connection', async () => {
    const pool = database.open({ max: 1 });
    const error = await errorOf(pool.sql`SELECT 1 / (2 - i) FROM generate_series(1, 5) AS i`);
    expect(error).toMatchObject({ code: '22012' });
    expect(await pool.sql`SELECT 1 AS one`).toEqual([{ one: 1 }]);
  });

  /** Each fails at a different stage: before, at and behind the first row, in the parser, the planner, the driver, at the commit. */
  const failing: ReadonlyArray<readonly [string, (pool: typeof database.db, n: number) => Promise<unknown>]> = [
    ['behind n rows', ({ sql }, n) => sql`SELECT i, 1 / (${n}::int - i) FROM generate_series(1, 100) AS i`],
    [
      'behind n large rows',
      ({ sql }, n) => sql`SELECT repeat('x', 50000), 1 / (${n % 9}::int - i) FROM generate_series(0, 9) AS i`,
    ],
    ['in a text', ({ sql }, n) => sql.unsafe(`SELECT i, 1 / (${n} - i) FROM generate_series(1, 100) AS i`)],
    [
      'in the second of two texts',
      ({ sql }, n) => sql.unsafe(`SELECT 7; SELECT 1 / (${n} - i) FROM generate_series(1, 100) AS i`),
    ],
    ['in the builder', ({ orm }) => orm.select().from(accounts).where(wrong())],
    ['of syntax', ({ sql }) => sql.unsafe('SELEC 1')],
    ['of a parameter', ({ sql }) => sql`SELECT ${'x'}::int`],
    ['of a parameter that cannot be sent', ({ sql }) => sql`SELECT ${undefined as never}`],
    ['of a moment that is none', ({ sql }) => sql`SELECT ${new Date(Number.NaN)}::timestamptz`],
    [
      'of a time limit',
      ({ within }, n) => within(20).sql`SELECT i, pg_sleep(i / 100.0 * ${n % 3}) FROM generate_series(1, 100) AS i`,
    ],
    [
      'in a transaction',
      (pool, n) =>
        pool.transaction(async (tx) => [
          await tx`SELECT 1`,
          await tx`SELECT 1 / (${n}::int - i) FROM generate_series(1, 100) AS i`,
        ]),
    ],
    [
      'in two statements at once',
      (pool, n) =>
        pool.transaction((tx) =>
          Promise.all([tx`SELECT 1 / (${n}::int - i) FROM generate_series(1, 100) AS i`, tx`SELECT ${n}::int AS n`]),
        ),
    ],
  ];
  const wrong = () => undefined;

  test.each(failing)('%s, again and again beside others, changes no other result', async (_, fail) => {
    const pool = database.open({ max: 3 });
    for (let round = 0; round < 10; round++) {
      const asked = Array.from({ length: 30 }, (_unused, n) => {
        if (n % 3 === 0) return errorOf(fail(pool, (round * 10 + n / 3) % 100));
        if (n % 3 === 1) return pool.sql`SELECT ${n}::int AS n, i FROM generate_series(1, ${n}::int) AS i`;
        return pool.transaction(async (tx) => [
          ...(await tx`SELECT ${n}::int AS n`),
          ...(await tx`SELECT ${-n}::int AS n`),
        ]);
      });
      const answers = await Promise.all(asked);
      for (const [n, answer] of answers.entries()) {
        if (n % 3 === 1) expect(answer).toEqual(Array.from({ length: n }, (_unused, i) => ({ n, i: i + 1 })));
        if (n % 3 === 2) expect(answer).toEqual([{ n }, { n: -n }]);
      }
    }
  });
});

describe('a connection that falls silent', () => {
  test('fails its statement when the deadline has passed, and the others go on', async () => {
    const proxy = await startTcpProxy(database.url);
    const pool = database.open({ url: proxy.url, max: 3 }).within(300);
    await Promise.all([1, 2, 3].map(() => pool.sql`SELECT pg_sleep(0.05)`));
    const silenced = proxy.silenceNext();
    const lost = errorOf(pool.sql`SELECT 1`);
    await silenced;
    const others = Array.from({ length: 50 }, (_, n) => pool.sql`SELECT ${n}::int AS n`);
    expect((await Promise.all(others)).map(([row]) => row!['n'] as number)).toEqual(others.map((_, n) => n));
    const error = await lost;
    expect([isUnavailable(error), isOutcomeUnknown(error)]).toEqual([true, true]);
    expect(await pool.sql`SELECT 1 AS one`).toEqual([{ one: 1 }]);
  });

  test('in a transaction is known to have left nothing, unless its COMMIT had been sent', async () => {
    const proxy = await startTcpProxy(database.url);
    const pool = database.open({ url: proxy.url, max: 1 }).within(300);
    await pool.sql`SELECT 1`;
    const before = proxy.silenceNext(/marker/);
    const early = await errorOf(pool.transaction((tx) => tx`SELECT 'marker'`));
    expect([await before, isUnavailable(early), isOutcomeUnknown(early)]).toEqual([expect.any(String), true, false]);
    const atCommit = proxy.silenceNext(/COMMIT\0/);
    const late = await errorOf(pool.transaction((tx) => tx`SELECT 1`));
    expect([await atCommit, isUnavailable(late), isOutcomeUnknown(late)]).toEqual([expect.any(String), true, true]);
  });

  test('while all the network is silent, statements fail and none of them waits for ever', async () => {
    const proxy = await startTcpProxy(database.url);
    const pool = database.open({ url: proxy.url, max: 2 }).within(300);
    await pool.sql`SELECT 1`;
    proxy.stall();
    for (const error of await Promise.all(Array.from({ length: 20 }, () => errorOf(pool.sql`SELECT 1`))))
      expect(isUnavailable(error)).toBe(true);
    proxy.flow();
    await eventually(async () => expect(await pool.sql`SELECT 1 AS one`).toEqual([{ one: 1 }]), 10_000);
  });

  test('a statement that is slow is canceled by the server, keeps its connection, and gets more time when it comes again', async () => {
    const pool = database.open({ max: 1 }).within(200);
    const pid = await pidOf(pool);
    const slow = () => pool.sql`SELECT pg_sleep(0.3)`;
    expect(await errorOf(slow())).toMatchObject({ code: '57014' });
    expect(await errorOf(slow())).toBeUndefined();
    expect(await pidOf(pool)).toBe(pid);
  });
});

describe('a session whose server is no longer the primary', () => {
  test.each(['25006', '57P01', '57P03', '08006'])('is not used again after %s, nor are the others', async (code) => {
    const pool = database.open({ max: 3 });
    const arrived = [1, 2, 3].map(() => Promise.withResolvers<void>());
    const pids = await Promise.all(
      arrived.map(({ resolve }) =>
        pool.transaction(async (sql) => {
          resolve();
          await Promise.all(arrived.map(({ promise }) => promise));
          return pidOf({ sql });
        }),
      ),
    );
    const before = new Set(pids);
    expect(before.size).toBe(3);
    const error = await errorOf(
      pool.sql.unsafe(`DO $$ BEGIN RAISE EXCEPTION 'not now' USING ERRCODE = '${code}'; END $$`),
    );
    expect(isUnavailable(error)).toBe(true);
    expect(before).not.toContain(await pidOf(pool));
    await eventually(async () => {
      const alive =
        await database.sql`SELECT FROM pg_stat_activity WHERE pid = ANY (${[...before].map(String)}::text[]::int[])`;
      expect(alive).toHaveLength(0);
    });
  });
});

describe('a deadlock', () => {
  test('is tried again, for a statement as for a transaction', async () => {
    await database.sql.unsafe('CREATE TABLE locked (n int PRIMARY KEY, by text); INSERT INTO locked VALUES (1), (2)');
    const pool = database.open({ max: 4 });
    const take = (first: number, second: number, by: string, met: () => Promise<void>) =>
      pool.transaction(async (tx) => {
        await tx.unsafe(`UPDATE locked SET by = '${by}' WHERE n = ${first}`);
        await met();
        await tx.unsafe(`UPDATE locked SET by = '${by}' WHERE n = ${second}`);
        return by;
      });
    let arrived = 0;
    const both = Promise.withResolvers<void>();
    const met = async () => {
      arrived += 1;
      if (arrived === 2) both.resolve();
      await both.promise;
    };
    expect(await Promise.all([take(1, 2, 'one', met), take(2, 1, 'other', met)])).toEqual(['one', 'other']);
    expect(arrived).toBe(3);
  });
});
