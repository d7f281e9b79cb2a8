import { describe, expect, test } from 'vitest';
import { newId } from '#domain/ids.ts';
import { settleDeliveries } from '#store/deliveries.ts';
import { useDatabase } from '../../support/database.ts';
import { inTransaction, makeAccount, makeDelivery, makeEndpoint, settlement } from '../../support/fixtures.ts';

const database = useDatabase();

/**
 * Every row here is a legal one with something changed, and must be refused by the constraint it names. Whatever a
 * later version of ours, or an operator, writes: such a row is not there.
 */
type Change = readonly [constraint: string, changes: Readonly<Record<string, string>>];

/** A legal row of each table, to copy: values are SQL expressions. */
async function legalRow(table: string): Promise<{ where: string; fresh: Record<string, string> }> {
  const { accountId } = await makeAccount(database.db);
  const due = await makeDelivery(database.db, accountId, await makeEndpoint(database.db, accountId));
  await inTransaction(database.db, (tx) => settleDeliveries(tx, [settlement(due)]));
  const fresh = table === 'accounts' ? { account_id: "'acc_new'", name: "'new'" } : { id: `'${newId('job', 1)}'` };
  return { where: `account_id = '${accountId}'`, fresh };
}

/** Inserts a copy of the table's newest legal row with some of its columns replaced. */
async function insertCopy(table: string, changes: Readonly<Record<string, string>>): Promise<void> {
  const { where, fresh } = await legalRow(table);
  const columns = await database.sql<{ name: string }[]>`
    SELECT column_name AS name FROM information_schema.columns
    WHERE table_schema = 'ringback' AND table_name = ${table} ORDER BY ordinal_position`;
  const names = columns.map(({ name }) => name);
  expect(names).toEqual(expect.arrayContaining(Object.keys(changes)));
  const values = names.map((name) => changes[name] ?? fresh[name] ?? name);
  await database.sql.unsafe(
    `INSERT INTO ringback.${table} (${names.join()}) SELECT ${values.join()} FROM ringback.${table} WHERE ${where} LIMIT 1`,
  );
}

const ERROR = `'{"code":"timeout","message":"x"}'`;
const RUNNING = { status: "'in_progress'", output: 'NULL', finished_at: 'NULL' };
const QUEUED = { ...RUNNING, status: "'queued'", started_at: 'NULL' };
const NEVER_RUN = { run_count: '0', run_started_at: 'NULL', worker_id: 'NULL' };
const FAILED = { status: "'failed'", output: 'NULL', error: ERROR };

const ILLEGAL: Readonly<Record<string, readonly Change[]>> = {
  accounts: [
    ['accounts_name', { name: 'name' }],
    ['accounts_pkey', { account_id: 'account_id' }],
  ],
  api_keys: [
    ['api_keys_hash_is_sha256', { hash: "'\\x00'" }],
    ['api_keys_account', { account_id: "'acc_nobody'" }],
    ['api_keys_pkey', { id: 'id' }],
  ],
  jobs: [
    ['jobs_status', { status: "'done'", output: 'NULL', finished_at: 'NULL' }],
    ['jobs_finished', { finished_at: 'NULL' }],
    ['jobs_finished', { ...RUNNING, finished_at: 'now()' }],
    ['jobs_finished', { ...FAILED, finished_at: 'NULL' }],
    ['jobs_started', { started_at: 'NULL' }],
    ['jobs_started', { ...RUNNING, started_at: 'NULL' }],
    ['jobs_output', { output: 'NULL' }],
    ['jobs_output', { ...RUNNING, output: "'1'" }],
    ['jobs_output', { ...FAILED, output: "'1'" }],
    ['jobs_error', { error: ERROR }],
    ['jobs_error', { ...FAILED, error: 'NULL' }],
    ['jobs_error', { ...RUNNING, error: ERROR }],
    ['jobs_run', { worker_id: 'NULL' }],
    ['jobs_run', { run_started_at: 'NULL' }],
    ['jobs_run', { ...QUEUED, run_count: '0' }],
    ['jobs_running', { run_id: "'run_x'" }],
    ['jobs_running', { ...RUNNING, run_id: "'run_x'", next_run_at: 'now()' }],
    ['jobs_running', { ...RUNNING, ...NEVER_RUN, run_id: "'run_x'" }],
    ['jobs_next_run', { next_run_at: 'now()' }],
    ['jobs_next_run', { ...QUEUED, ...NEVER_RUN, next_run_at: 'now()' }],
    ['jobs_callback', { callback_url: 'NULL' }],
    ['jobs_callback', { callback_endpoint_id: 'NULL' }],
    ['jobs_metadata', { metadata: "'[]'" }],
    ['jobs_metadata', { metadata: "'null'" }],
    ['jobs_counts', { failure_count: '2' }],
    ['jobs_counts', { failure_count: '-1' }],
    ['jobs_counts', { sequence: '0' }],
    ['jobs_pkey', { id: 'id' }],
  ],
  job_runs: [
    ['job_runs_status', { status: "'in_progress'", error: ERROR }],
    ['job_runs_number', { number: '0' }],
    ['job_runs_error', { error: ERROR }],
    ['job_runs_error', { status: "'failed'" }],
    ['job_runs_error', { status: "'lost'" }],
    ['job_runs_error', { status: "'released'", error: ERROR }],
    ['job_runs_job', { job_id: "'job_nobody'" }],
    ['job_runs_job', { account_id: "'acc_nobody'" }],
  ],
  events: [['events_type', { type: "'job.done'" }]],
  endpoints: [
    ['endpoints_url', { url: 'url' }],
    ['endpoints_url_length', { url: "repeat('x', 2001)" }],
    ['endpoints_url_length', { url: "repeat('ü', 1001)" }],
    ['endpoints_account', { account_id: "'acc_nobody'", url: "'x'" }],
  ],
  endpoint_secrets: [
    ['endpoint_secrets_endpoint', { endpoint_id: "'ep_nobody'" }],
    ['endpoint_secrets_endpoint', { account_id: "'acc_nobody'" }],
  ],
  deliveries: [
    ['deliveries_status', { status: "'lost'" }],
    ['deliveries_event_type', { event_type: "'job.started'", event_id: "'evt_x'" }],
    ['deliveries_due', { next_attempt_at: 'now()' }],
    ['deliveries_due', { status: "'pending'", finished_at: 'NULL' }],
    ['deliveries_due', { status: "'held'", finished_at: 'NULL', next_attempt_at: 'now()' }],
    ['deliveries_finished', { finished_at: 'NULL' }],
    ['deliveries_finished', { status: "'pending'", next_attempt_at: 'now()' }],
    ['deliveries_finished', { status: "'held'" }],
    ['deliveries_attempts', { attempt_count: '-1' }],
    ['deliveries_event_endpoint', {}],
    ['deliveries_job', { job_id: "'job_nobody'", event_id: "'evt_x'" }],
  ],
  delivery_attempts: [
    ['delivery_attempts_outcome', { outcome: "'ok'", error_code: "'x'" }],
    ['delivery_attempts_trigger', { trigger: "'retry'" }],
    ['delivery_attempts_number', { number: '0' }],
    ['delivery_attempts_error', { error_code: "'x'" }],
    ['delivery_attempts_error', { outcome: "'timeout'" }],
    ['delivery_attempts_finished', { finished_at: 'NULL' }],
    ['delivery_attempts_finished', { outcome: "'interrupted'", error_code: "'x'" }],
  ],
};

describe.each(Object.entries(ILLEGAL))('%s', (table, changes) => {
  test.each(changes)('%s refuses %j', async (constraint, change) => {
    await expect(insertCopy(table, change)).rejects.toMatchObject({
      code: expect.stringMatching(/^23/),
      constraint_name: expect.stringMatching(new RegExp(`^${constraint}$`)),
    });
  });
});

test('a row with nothing but its id changed is accepted, so that the refusals above mean what they say', async () => {
  for (const table of Object.keys(ILLEGAL)) {
    await insertCopy(
      table,
      table === 'endpoints' ? { url: "'https://example.com/other'" } : (OTHER_EVENT[table] ?? {}),
    );
  }
});

const OTHER_EVENT: Readonly<Record<string, Record<string, string>>> = { deliveries: { event_id: "'evt_other'" } };

test('every check, unique and foreign key constraint of the schema is in the table above', async () => {
  const rows = await database.sql<{ name: string }[]>`
    SELECT DISTINCT conname::text AS name FROM pg_constraint
    JOIN pg_class ON pg_class.oid = conrelid AND NOT relispartition
    WHERE connamespace = 'ringback'::regnamespace AND contype IN ('c', 'u', 'f') AND relname <> 'migrations'`;
  const tried = new Set(Object.values(ILLEGAL).flatMap((changes) => changes.map(([constraint]) => constraint)));
  expect(rows.map(({ name }) => name).filter((name) => !tried.has(name))).toEqual([]);
});
