import { getTableConfig, type PgColumn, type PgTable } from 'drizzle-orm/pg-core';
import { expect, test } from 'vitest';
import { accounts, apiKeys } from '#store/schema/accounts.ts';
import {
  deliveries,
  deliveryAttempts,
  endpointHealth,
  endpointLanes,
  endpoints,
  endpointSecrets,
} from '#store/schema/callbacks.ts';
import { databaseClock } from '#store/schema/database-clock.ts';
import { databaseEpochs } from '#store/schema/database-epochs.ts';
import { events, jobRuns, jobs } from '#store/schema/jobs.ts';
import { jobLogs, jobTombstones, resultChunks } from '#store/schema/results.ts';
import { deliveryQueue } from '#store/schema/delivery-queue.ts';
import { processes } from '#store/schema/processes.ts';
import { runQueue } from '#store/schema/run-queue.ts';
import { idempotencyKeys, jobSchedules, jobTypeStats } from '#store/schema/submissions.ts';
import { useDatabase } from '../../support/database.ts';

const database = useDatabase();

const TABLES: readonly PgTable[] = [
  accounts,
  apiKeys,
  databaseClock,
  databaseEpochs,
  deliveries,
  deliveryAttempts,
  endpoints,
  endpointSecrets,
  events,
  idempotencyKeys,
  jobLogs,
  jobRuns,
  jobs,
  jobSchedules,
  jobTombstones,
  jobTypeStats,
  resultChunks,
  processes,
  runQueue,
  deliveryQueue,
  endpointHealth,
  endpointLanes,
];

interface Column {
  readonly name: string;
  readonly type: string;
  readonly nullable: boolean;
}

/** As PostgreSQL spells them. */
function declared(column: PgColumn): Column {
  const type = column
    .getSQLType()
    .replace(/^timestamp \(3\)/, 'timestamp(3)')
    .replace(/ COLLATE "C"$/, ' C');
  return { name: column.name, type, nullable: !column.notNull };
}

async function actual(table: string): Promise<Column[]> {
  return database.sql<Column[]>`
    SELECT attname::text AS name,
      format_type(atttypid, atttypmod) || CASE WHEN collname = 'C' THEN ' C' ELSE '' END AS type,
      NOT attnotnull AS nullable
    FROM pg_attribute LEFT JOIN pg_collation ON pg_collation.oid = attcollation
    WHERE attrelid = ${`ringback.${table}`}::text::regclass AND attnum > 0 AND NOT attisdropped
    ORDER BY attnum`;
}

test.each(TABLES.map((table) => [getTableConfig(table).name, getTableConfig(table).columns] as const))(
  'the columns of %s are what the schema says',
  async (name, columns) => {
    const byName = (a: Column, b: Column) => (a.name < b.name ? -1 : 1);
    const found = [...(await actual(name))];
    expect(found.length).toBeGreaterThan(0);
    expect(found.toSorted(byName)).toEqual(columns.map(declared).toSorted(byName));
  },
);

test('there are no other tables', async () => {
  const rows = await database.sql<{ name: string }[]>`
    SELECT relname::text AS name FROM pg_class
    WHERE relnamespace = 'ringback'::regnamespace AND relkind IN ('r', 'p') AND NOT relispartition ORDER BY 1`;
  const names = [...TABLES.map((table) => getTableConfig(table).name), 'migrations'];
  expect(rows.map(({ name }) => name)).toEqual(names.toSorted());
});

/** Of nobody: a small table that every node can have. */
const SHARED = ['database_clock', 'database_epochs', 'job_type_stats', 'migrations', 'processes'];

test('a primary key starts with the account, so that a table can be distributed by it', async () => {
  const rows = await database.sql<{ table: string; first: string }[]>`
    SELECT relname::text AS table, attname::text AS first FROM pg_constraint
    JOIN pg_class ON pg_class.oid = conrelid JOIN pg_attribute ON attrelid = conrelid AND attnum = conkey[1]
    WHERE connamespace = 'ringback'::regnamespace AND contype = 'p'`;
  expect(rows.length).toBeGreaterThan(0);
  const others = rows.filter(({ first }) => first !== 'account_id').map(({ table }) => table);
  expect(others.toSorted()).toEqual(SHARED);
});
