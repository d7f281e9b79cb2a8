import type { TestDatabase } from '../../support/database.ts';

/** What an administrator may have set for a database or a role, each as far from what is usual as PostgreSQL lets it be. */
export const ODD_DEFAULTS: Readonly<Record<string, string>> = {
  DateStyle: 'SQL, DMY',
  TimeZone: 'Pacific/Chatham',
  IntervalStyle: 'sql_standard',
  bytea_output: 'escape',
  extra_float_digits: '-15',
  standard_conforming_strings: 'off',
  backslash_quote: 'on',
  array_nulls: 'off',
  transform_null_equals: 'on',
  quote_all_identifiers: 'on',
  search_path: 'hostile, pg_catalog',
  default_transaction_isolation: 'serializable',
  default_transaction_read_only: 'on',
  default_transaction_deferrable: 'on',
  // Not less: behind a pooler our own begins under it, on a machine that may be busy.
  statement_timeout: '100',
  lock_timeout: '1',
  idle_in_transaction_session_timeout: '1',
  idle_session_timeout: '100',
  client_min_messages: 'debug5',
  synchronous_commit: 'off',
  row_security: 'off',
  exit_on_error: 'on',
  plan_cache_mode: 'force_custom_plan',
  enable_indexscan: 'off',
  enable_bitmapscan: 'off',
  enable_indexonlyscan: 'off',
  enable_nestloop: 'off',
  enable_partition_pruning: 'off',
  jit: 'on',
  jit_above_cost: '0',
  xmlbinary: 'hex',
  gin_fuzzy_search_limit: '1',
};

/** For sessions from now on. Undone before the test's own sessions need the database again. */
export async function setDefaults(
  { db, url }: TestDatabase,
  defaults: Readonly<Record<string, string>>,
): Promise<void> {
  const name = new URL(url).pathname.slice(1);
  for (const [setting, value] of Object.entries(defaults)) {
    const list = setting === 'search_path' || setting === 'DateStyle' ? value : `'${value}'`;
    await db.sql.unsafe(`ALTER DATABASE ${name} SET ${setting} TO ${list}`);
  }
}
