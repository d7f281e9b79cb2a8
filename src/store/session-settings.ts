/**
 * Every statement of ours names its rows by key, a few to a few hundred at a time. A generic plan made while a table is
 * small would join over the whole table, and would be kept while the table grows to millions of rows; so the planner is
 * told to prefer indexes.
 *
 * FEW_ROWS: for the same reason the rows that a statement brings along pass an always-true `LIKE` on their id. The
 * planner takes a JSON recordset for 100 rows, which made it scan a new table's whole index once (10,000 buffers for 99
 * jobs) rather than probe it per row; it takes the filtered set for one row, and probes.
 *
 * BY_KEY: an endpoint that is found by its id must not be deleted, which is said so that no partial index says the same:
 * `deleted_at IS NULL` made the planner take `endpoints_url`, and read all endpoints of the account (260 buffers among 300).
 */
const PLANS = {
  enable_seqscan: 'off',
  enable_hashjoin: 'off',
  enable_mergejoin: 'off',
  enable_indexscan: 'on',
  enable_indexonlyscan: 'on',
  enable_bitmapscan: 'on',
  enable_nestloop: 'on',
  enable_material: 'on',
  enable_sort: 'on',
  enable_partition_pruning: 'on',
  plan_cache_mode: 'auto',
  jit: 'off',
} as const;

/**
 * What a statement's meaning, its text or its durability hangs on, and an administrator may have set otherwise for the database or
 * the role: how values are written, which objects a name finds, what a transaction sees, when a session is ended.
 */
const MEANING = {
  client_min_messages: 'warning',
  DateStyle: 'ISO, MDY',
  IntervalStyle: 'postgres',
  TimeZone: 'UTC',
  bytea_output: 'hex',
  extra_float_digits: '1',
  standard_conforming_strings: 'on',
  array_nulls: 'on',
  transform_null_equals: 'off',
  search_path: 'public',
  row_security: 'on',
  default_transaction_isolation: 'read committed',
  default_transaction_read_only: 'off',
  default_transaction_deferrable: 'off',
  // A process that was suspended must not hold its locks for ever.
  idle_in_transaction_session_timeout: '30s',
  idle_session_timeout: '0',
  exit_on_error: 'off',
} as const;

/**
 * Shorter than a statement may take, so that one that waits for somebody else's lock is told from one that is slow: it gets no more
 * time for it, during which it would hold locks of its own.
 */
const LOCK_TIMEOUT_MS = 3000;

/** What the start of a session sets, so that no default of the database, the role or the server counts. */
export function sessionSettings(statementTimeoutMs: number, pinPlans: boolean): Record<string, string> {
  const timeouts = {
    statement_timeout: `${statementTimeoutMs}`,
    lock_timeout: `${statementTimeoutMs === 0 ? 0 : LOCK_TIMEOUT_MS}`,
  };
  // Timeouts first: behind a pooler the others are set under those of the database.
  return { ...timeouts, ...MEANING, ...(pinPlans && PLANS) };
}

/**
 * What cannot be set at the start of a session, because a server may not know it or may not let it be set. A database that does
 * not wait for its own disk (`synchronous_commit` off) would forget what was acknowledged; other levels are its operator's choice.
 * The server notices a client that vanished from its keepalives, and lets go of its locks.
 */
export const AFTER_CONNECTING = `
  SELECT set_config(name, value, false)
  FROM (VALUES ('synchronous_commit', 'on', current_setting('synchronous_commit') = 'off'),
    ('transaction_timeout', '0', current_setting('transaction_timeout', true) IS NOT NULL),
    ('tcp_keepalives_idle', '5', version() LIKE '%linux%'),
    ('tcp_keepalives_interval', '2', version() LIKE '%linux%'),
    ('tcp_keepalives_count', '3', version() LIKE '%linux%'),
    ('tcp_user_timeout', '10000', version() LIKE '%linux%'),
    ('client_connection_check_interval', '2000', version() LIKE '%linux%')) AS wanted (name, value, applies)
  WHERE applies`;

/**
 * Opens a transaction behind a pooler that hands out another session for each: what the session settings would say is said for
 * the transaction. One simple query, sent together with what follows.
 */
export function beginPooled(statementTimeoutMs: number): string {
  const settings = Object.entries(sessionSettings(statementTimeoutMs, true)).filter(
    ([name]) => !name.startsWith('default_transaction_'),
  );
  const local = settings.map(([name, value]) => `SET LOCAL ${name} = '${value}'`).join('; ');
  const durable = `SELECT set_config('synchronous_commit', 'on', true) WHERE current_setting('synchronous_commit') = 'off'`;
  return `${BEGIN}; ${local}; ${durable}`;
}

/** The defaults of the database do not count here either. */
export const BEGIN = 'BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE NOT DEFERRABLE';
