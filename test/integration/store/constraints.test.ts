import { describe, expect, test } from 'vitest';
import { type AccountId, newId } from '#domain/ids.ts';
import { settleDeliveries } from '#store/deliveries.ts';
import { insertLogLines } from '#store/job-logs.ts';
import { insertChunk } from '#store/result-chunks.ts';
import { useDatabase } from '../../support/database.ts';
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

/**
 * Every row here is a legal one with something changed, and must be refused by the constraint it names. Whatever a
 * later version of ours, or an operator, writes: such a row is not there.
 */
type Change = readonly [constraint: string, changes: Readonly<Record<string, string>>];

/** A legal row of each table, to copy: values are SQL expressions. */
async function legalRow(table: string): Promise<{ where: string; fresh: Record<string, string> }> {
  const { accountId } = await makeAccount(database.db);
  const due = await makeDelivery(database.db, accountId, await makeEndpoint(database.db, accountId));
  await settleDeliveries(database.sql, [settlement(await claimDelivery(database.db, due))]);
  await claimDelivery(
    database.db,
    await makeDelivery(database.db, accountId, await makeEndpoint(database.db, accountId)),
  );
  await makeJobSide(accountId);
  const where = OF_NO_ACCOUNT[table] ?? `account_id = '${accountId}'`;
  return { where, fresh: FRESH[table] ?? { id: `'${newId('job', 1)}'` } };
}

const OF_NO_ACCOUNT: Readonly<Record<string, string>> = { database_clock: 'only_row', database_epochs: 'number = 1' };

/** What makes a copy's primary key another one, where that is not `id`. */
const FRESH: Readonly<Record<string, Record<string, string>>> = {
  accounts: { account_id: "'acc_new'", name: "'new'" },
  database_clock: { only_row: 'only_row' },
  database_epochs: { number: '2' },
  run_queue: { job_id: "'job_new'" },
  delivery_queue: { delivery_id: "'dlv_new'" },
  endpoint_health: { endpoint_id: 'endpoint_id' },
  endpoint_lanes: { endpoint_id: 'endpoint_id' },
  job_logs: { position: '2000001' },
  result_chunks: { number: '1' },
  idempotency_keys: { key: "'new'" },
};

/** A row in each table that a delivery has nothing to do with: a run under way that logs, and what nobody writes yet. */
async function makeJobSide(accountId: AccountId): Promise<void> {
  const { sql } = database;
  const idempotency = {
    key: 'k',
    fingerprint: '00'.repeat(32),
    response: '',
    responseKeyId: null,
    expiresAt: new Date(),
  };
  const job = await claimRun(database.db, await insertJob(database.db, accountId, { idempotency }));
  const run = { accountId, jobId: job.id, runId: job.runId };
  const line = {
    position: 1_000_001,
    level: 'info',
    message: 'said',
    fieldsText: null,
    createdAt: new Date(),
  } as const;
  await insertLogLines(sql, run, [line]);
  await insertChunk(sql, run, 0, Buffer.from('bytes'));
  await sql`
    INSERT INTO ringback.job_tombstones (account_id, id, type, status, created_at, finished_at, expired_at)
    VALUES (${accountId}, ${newId('job', 2)}, 'test.job', 'failed', now(), now(), now())`;
  await sql`
    INSERT INTO ringback.job_schedules (
      account_id, id, name, cron, time_zone, overlap, misfire, type, input, metadata, priority, paused, next_fire_at,
      overlap_skips, created_at, updated_at)
    VALUES (${accountId}, ${newId('sch', 2)}, 'daily', '0 0 * * *', 'UTC', 'skip', 'skip', 'test.job', 'null', '{}', 0,
      false, now(), 0, now(), now())`;
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
    `INSERT INTO ringback.${table} (${names.join()}) OVERRIDING SYSTEM VALUE SELECT ${values.join()} FROM ringback.${table} WHERE ${where} LIMIT 1`,
  );
}

const ERROR = `'{"code":"timeout","message":"x"}'`;
const READY = {
  state: "'ready'",
  run_id: 'NULL',
  worker_id: 'NULL',
  held_by: 'NULL',
  lease_expires_at: 'NULL',
  deadline_at: 'NULL',
};
const NOT_LEASED = { attempt_id: 'NULL', worker_id: 'NULL', leased_at: 'NULL', lease_expires_at: 'NULL' };
const OTHER_URL = { url: "'https://example.com/other'" };
const RUNNING = { status: "'in_progress'", output: 'NULL', finished_at: 'NULL' };
const QUEUED = { ...RUNNING, status: "'queued'", started_at: 'NULL' };
const NEVER_RUN = { run_count: '0', run_started_at: 'NULL', worker_id: 'NULL' };
const APART = { result_run_id: "'run_x'", result_type: "'text/plain'", result_bytes: '1', result_sha256: "'\\x00'" };
const FAILED = { status: "'failed'", output: 'NULL', error: ERROR };

const ILLEGAL: Readonly<Record<string, readonly Change[]>> = {
  accounts: [
    ['accounts_name', { name: 'name' }],
    ['accounts_callback_policy', { callback_policy: "'none'" }],
    ['accounts_limits', { max_running: '-1' }],
    ['accounts_limits', { max_pending: '-1' }],
    ['accounts_limits', { submissions_per_second: '0' }],
    ['accounts_retention', { retention_days: '-1' }],
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
    ['jobs_output', { ...FAILED, ...APART }],
    ['jobs_one_output', APART],
    ['jobs_result', { ...APART, output: 'NULL', result_type: 'NULL' }],
    ['jobs_result', { ...APART, output: 'NULL', result_bytes: 'NULL' }],
    ['jobs_result', { ...APART, output: 'NULL', result_sha256: 'NULL' }],
    ['jobs_result', { result_type: "'text/plain'" }],
    ['jobs_priority', { priority: '101' }],
    ['jobs_priority', { priority: '-101' }],
    ['jobs_error', { error: ERROR }],
    ['jobs_error', { ...FAILED, error: 'NULL' }],
    ['jobs_error', { ...RUNNING, error: ERROR }],
    ['jobs_run', { worker_id: 'NULL' }],
    ['jobs_run', { run_started_at: 'NULL' }],
    ['jobs_run', { ...QUEUED, run_count: '0' }],
    [
      'jobs_start_untold',
      { ...NEVER_RUN, status: "'queued'", finished_at: 'NULL', output: 'NULL', is_start_untold: 'true' },
    ],
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
  ],
  job_logs: [['job_logs_level', { level: "'fatal'" }]],
  job_tombstones: [['job_tombstones_status', { status: "'in_progress'" }]],
  result_chunks: [
    ['result_chunks_number', { number: '-1' }],
    ['result_chunks_pkey', { number: 'number' }],
  ],
  delivery_queue: [
    ['delivery_queue_trigger', { trigger: "'whim'" }],
    ['delivery_queue_state', { state: "'done'", ...NOT_LEASED }],
    ['delivery_queue_behind', { ...NOT_LEASED, state: "'behind'", job_id: 'NULL' }],
    ['delivery_queue_lease', { state: "'ready'" }],
    ['delivery_queue_lease', { state: "'delayed'", ...NOT_LEASED, attempt_id: 'attempt_id' }],
    ['delivery_queue_lease', NOT_LEASED],
    ...['attempt_id', 'worker_id', 'leased_at', 'lease_expires_at'].map((column): Change => [
      'delivery_queue_lease',
      { [column]: 'NULL' },
    ]),
    ['delivery_queue_pkey', { delivery_id: 'delivery_id' }],
  ],
  run_queue: [
    ['run_queue_pkey', { job_id: 'job_id' }],
    ['run_queue_state', { ...READY, state: "'done'" }],
    ['run_queue_held_by', { held_by: "'nobody'" }],
    ['run_queue_lease', { state: "'ready'" }],
    ['run_queue_lease', { state: "'delayed'" }],
    ['run_queue_lease', { ...READY, state: "'leased'" }],
    ['run_queue_lease', { run_id: 'NULL' }],
    ['run_queue_lease', { worker_id: 'NULL' }],
    ['run_queue_lease', { held_by: 'NULL' }],
    ['run_queue_lease', { lease_expires_at: 'NULL' }],
    ['run_queue_lease', { deadline_at: 'NULL' }],
    ['run_queue_completion_held', { ...READY, completion_hash: "'\\x00'" }],
    ['run_queue_upload_held', { ...READY, upload_id: "'upload'" }],
  ],
  idempotency_keys: [
    ['idempotency_keys_pkey', { key: 'key' }],
    ['idempotency_keys_length', { key: "''" }],
    ['idempotency_keys_length', { key: "repeat('x', 256)" }],
    ['idempotency_keys_fingerprint', { fingerprint: "'\\x00'" }],
  ],
  database_clock: [
    ['database_clock_one_row', { only_row: 'false' }],
    ['database_clock_pkey', {}],
  ],
  database_epochs: [
    ['database_epochs_pkey', { number: 'number', token: "'another'" }],
    ['database_epochs_token_unique', {}],
  ],
  job_schedules: [
    ['job_schedules_name', {}],
    ['job_schedules_account', { account_id: "'acc_nobody'" }],
    ['job_schedules_overlap', { overlap: "'queue'", name: "'x'" }],
    ['job_schedules_misfire', { misfire: "'panic'", name: "'x'" }],
    ['job_schedules_paused', { paused: 'true', name: "'x'" }],
  ],
  events: [
    ['events_type', { type: "'job.done'" }],
    ['events_of_a_job', { job_id: 'NULL' }],
    ['events_of_a_job', { type: "'endpoint.ping'" }],
  ],
  endpoints: [
    ['endpoints_url', { url: 'url' }],
    ['endpoints_url_length', { url: "repeat('x', 2001)" }],
    ['endpoints_url_length', { url: "repeat('ü', 1001)" }],
    ['endpoints_account', { account_id: "'acc_nobody'", url: "'x'" }],
    ['endpoints_status', { ...OTHER_URL, status: "'gone'" }],
    ['endpoints_ordering', { ...OTHER_URL, ordering: "'random'" }],
    ['endpoints_disabled_reason', { ...OTHER_URL, status: "'disabled'", disabled_reason: "'dull'" }],
    ['endpoints_disabled', { ...OTHER_URL, status: "'disabled'" }],
    ['endpoints_disabled', { ...OTHER_URL, disabled_reason: "'gone'" }],
    ['endpoints_tls_identity', { ...OTHER_URL, tls_certificate: "'x'" }],
    ['endpoints_limits', { ...OTHER_URL, timeout_ms: '0' }],
    ['endpoints_limits', { ...OTHER_URL, concurrency: '0' }],
    ['endpoints_limits', { ...OTHER_URL, rate_per_second: '0' }],
    ['endpoints_retry_schedule', { ...OTHER_URL, retry_schedule: "'{}'" }],
  ],
  endpoint_health: [
    ['endpoint_health_circuit', { circuit: "'half'" }],
    ['endpoint_health_failing', { consecutive_failures: '1' }],
    ['endpoint_health_failing', { failing_since: 'now()' }],
    ['endpoint_health_open', { circuit: "'open'" }],
    ['endpoint_health_pkey', {}],
    ['endpoint_health_endpoint', { endpoint_id: "'ep_nobody'" }],
  ],
  endpoint_lanes: [
    ['endpoint_lanes_pkey', {}],
    ['endpoint_lanes_endpoint', { endpoint_id: "'ep_nobody'" }],
  ],
  endpoint_secrets: [
    ['endpoint_secrets_endpoint', { endpoint_id: "'ep_nobody'" }],
    ['endpoint_secrets_endpoint', { account_id: "'acc_nobody'" }],
    ['endpoint_secrets_scheme', { scheme: "'v2'" }],
    ['endpoint_secrets_public_key', { scheme: "'v1a'" }],
    ['endpoint_secrets_public_key', { public_key: "'\\x00'" }],
  ],
  deliveries: [
    ['deliveries_status', { status: "'lost'" }],
    ['deliveries_event_type', { event_type: "'job.retrying'", event_id: "'evt_x'" }],
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
    // These have one row an endpoint, or one, and no id to change.
    if (['endpoint_health', 'endpoint_lanes', 'database_clock'].includes(table)) continue;
    await insertCopy(table, UNIQUE[table] ?? {});
  }
});

const UNIQUE: Readonly<Record<string, Record<string, string>>> = {
  database_epochs: { token: "'another'" },
  endpoints: { url: "'https://example.com/other'" },
  deliveries: { event_id: "'evt_other'" },
  job_schedules: { name: "'other'" },
};

test('every check, unique and foreign key constraint of the schema is in the table above', async () => {
  const rows = await database.sql<{ name: string }[]>`
    SELECT DISTINCT conname::text AS name FROM pg_constraint
    JOIN pg_class ON pg_class.oid = conrelid AND NOT relispartition
    WHERE connamespace = 'ringback'::regnamespace AND contype IN ('c', 'u', 'f') AND relname <> 'migrations'`;
  const tried = new Set(Object.values(ILLEGAL).flatMap((changes) => changes.map(([constraint]) => constraint)));
  expect(rows.map(({ name }) => name).filter((name) => !tried.has(name))).toEqual([]);
});
