import { drizzle, type PostgresJsDatabase } from 'drizzle-orm/postgres-js';
import postgres, { type Options, type Sql, type TransactionSql } from 'postgres';

/** Anything a statement can be sent on: the pool, or one transaction. */
export type Connection = Sql | TransactionSql;
export type Transaction = TransactionSql;

export interface Database {
  /** Statements whose text is the point. */
  readonly sql: Sql;
  /** Plain reads and writes, typed by the schema. Same pool. */
  readonly orm: PostgresJsDatabase;
  close(): Promise<void>;
}

export interface DatabaseOptions {
  readonly url: string;
  readonly applicationName: string;
  /** Connections at most. */
  readonly max: number;
  /** False behind PgBouncer, which refuses start-up parameters it does not know. */
  readonly pinPlans: boolean;
}

/**
 * Every statement of ours names its rows by key, a few to a few hundred at a time. A generic plan made while a table is
 * small would join over the whole table, and would be kept while the table grows to millions of rows; so the planner is
 * told to prefer indexes.
 *
 * FEW_ROWS: for the same reason the rows that a statement brings along pass an always-true `LIKE` on their id. The
 * planner takes a JSON recordset for 100 rows, which made it scan a new table's whole index once (10,000 buffers for 99
 * jobs) rather than probe it per row; it takes the filtered set for one row, and probes.
 */
const INDEX_PLANS = { enable_seqscan: 'off', enable_hashjoin: 'off', enable_mergejoin: 'off' } as const;

const NO_BACKOFF_BEYOND_SECONDS = 1;

export function openDatabase(options: DatabaseOptions): Database {
  const settings: Options<Record<string, never>> = {
    max: options.max,
    connect_timeout: 5,
    idle_timeout: 60,
    // Reconnect soon after an outage: the default doubles up to 20 s.
    backoff: (tries: number) => Math.min(0.05 * 2 ** tries, NO_BACKOFF_BEYOND_SECONDS),
    connection: { application_name: options.applicationName, ...(options.pinPlans ? INDEX_PLANS : {}) },
    onnotice: () => undefined,
  };
  const sql = postgres(options.url, settings);
  const { parsers, serializers } = sql.options;
  const before = { parsers: { ...parsers }, serializers: { ...serializers } };
  const orm = drizzle(sql);
  // drizzle takes the date and JSON codecs out of the client it wraps; it copes with the standard ones as well.
  Object.assign(parsers, before.parsers);
  Object.assign(serializers, before.serializers);
  return { sql, orm, close: () => sql.end({ timeout: 5 }) };
}

/** SQLSTATE classes and driver codes that mean: not reachable or not ready now, try again later. */
const UNAVAILABLE = /^(?:08|53|57P0[1-3]|58|CONNECTION_|CONNECT_TIMEOUT|E[A-Z]{4,})/;

/** True when the database cannot be reached or is starting, stopping or out of room: nothing is wrong with the statement. */
export function isUnavailable(error: unknown): boolean {
  const cause = error instanceof Error && error.cause instanceof Error ? error.cause : error;
  const code = (cause as { code?: unknown } | null)?.code;
  return typeof code === 'string' && UNAVAILABLE.test(code);
}
