import { beforeAll, describe, expect, test } from 'vitest';
import { settleDeliveries } from '#store/deliveries.ts';
import { insertLogLines } from '#store/job-logs.ts';
import { helper, useDatabase } from '../../support/database.ts';
import {
  claimRun,
  insertJob,
  makeAccount,
  claimDelivery,
  makeDelivery,
  makeEndpoint,
  settlement,
} from '../../support/fixtures.ts';

const database = useDatabase();

const TABLES = ['delivery_attempts', 'events', 'job_logs', 'job_runs'] as const;

/** One row at least in each, in the partition of this week. */
beforeAll(async () => {
  const { accountId } = await makeAccount(database.db);
  const due = await makeDelivery(database.db, accountId, await makeEndpoint(database.db, accountId));
  await settleDeliveries(database.sql, [settlement(await claimDelivery(database.db, due))]);
  const { id: jobId, runId } = await claimRun(database.db, await insertJob(database.db, accountId));
  const line = {
    position: 1_000_001,
    level: 'info',
    message: 'said',
    fieldsText: null,
    createdAt: new Date(),
  } as const;
  await insertLogLines(database.sql, { accountId, jobId, runId }, [line]);
});

/** The table itself, the default partition, and the partition that holds the rows. */
async function placesOf(table: string): Promise<string[]> {
  const rows = await database.sql<{ place: string }[]>`
    SELECT DISTINCT 'ringback.' || relname AS place FROM ${helper(`ringback.${table}`)} AS r
    JOIN pg_class ON pg_class.oid = r.tableoid`;
  expect(rows.length).toBeGreaterThan(0);
  expect(rows.map(({ place }) => place)).not.toContain(`ringback.${table}_default`);
  return [`ringback.${table}`, `ringback.${table}_default`, ...rows.map(({ place }) => place)];
}

describe.each(TABLES)('%s', (table) => {
  test.each([
    ['UPDATE', (place: string) => `UPDATE ${place} SET account_id = account_id`],
    ['UPDATE that moves a row', (place: string) => `UPDATE ${place} SET account_id = 'acc_other'`],
    ['DELETE', (place: string) => `DELETE FROM ${place}`],
  ])('refuses %s, named by table or by partition', async (_, statement) => {
    for (const place of await placesOf(table)) {
      if (place.endsWith('_default')) continue; // it is empty: a row trigger has nothing to refuse
      await expect(database.sql.unsafe(statement(place)), place).rejects.toMatchObject({
        code: '23001',
        message: expect.stringMatching(/is append-only: (UPDATE|DELETE) is refused/),
      });
    }
  });

  test('refuses TRUNCATE, named by table or by partition, or through another table', async () => {
    for (const place of await placesOf(table)) {
      for (const more of ['', ' CASCADE']) {
        await expect(database.sql.unsafe(`TRUNCATE ${place}${more}`), place).rejects.toMatchObject({
          code: '23001',
          message: expect.stringContaining('is append-only: TRUNCATE is refused'),
        });
      }
    }
    const before = await database.sql`SELECT count(*) FROM ${helper(`ringback.${table}`)}`;
    expect(before).not.toEqual([{ count: '0' }]);
  });

  test('refuses changes of rows that landed in the default partition', async () => {
    const time = table === 'events' || table === 'job_logs' ? 'created_at' : 'started_at';
    const name = `ringback.${table}`;
    const [row] = await database.sql`SELECT * FROM ${helper(name)} LIMIT 1`;
    const early = { ...row, [time]: new Date('2020-01-01T00:00:00Z') };
    const json = new Set(['error', 'request_headers', 'response_headers']);
    const columns = Object.keys(early).filter((column) => early[column as never] !== null && !json.has(column));
    await database.sql`INSERT INTO ${helper(name)} ${helper(early as never, columns) as never}`;
    for (const statement of [`UPDATE ${name}_default SET account_id = account_id`, `DELETE FROM ${name}_default`]) {
      await expect(database.sql.unsafe(statement)).rejects.toMatchObject({ code: '23001' });
    }
  });
});

test('every partition has both guards', async () => {
  const guards = await database.sql<{ partition: string; guards: string[] }[]>`
    SELECT relname::text AS partition, ARRAY(
      SELECT tgname::text FROM pg_trigger WHERE tgrelid = pg_class.oid AND NOT tgisinternal ORDER BY 1) AS guards
    FROM pg_class WHERE relispartition AND relkind = 'r' AND relnamespace = 'ringback'::regnamespace`;
  expect(guards.length).toBeGreaterThanOrEqual(TABLES.length * 5);
  expect(guards.filter((row) => row.guards.join() !== 'append_only,no_truncate')).toEqual([]);
});
