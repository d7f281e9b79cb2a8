import { drizzle, type PostgresJsDatabase } from 'drizzle-orm/postgres-js';
import { clientFor } from './drizzle-client.ts';
import { Pool } from './pool.ts';
import { createSql, type Sql } from './statement.ts';

/** Anything a statement can be sent on: the pool, or one transaction. */
export type Connection = Sql;
export type Transaction = Sql;

export interface Database {
  /** Statements whose text is the point, each in a transaction of its own. */
  readonly sql: Sql;
  /** Plain reads and writes, typed by the schema. Same pool. */
  readonly orm: PostgresJsDatabase;
  /** Runs `work` in a transaction: committed when it resolves, rolled back when it rejects. After a deadlock it is run again. */
  transaction<R>(work: (tx: Transaction) => Promise<R>): Promise<R>;
  /** The same pool, for statements that may take so long: in milliseconds. */
  within(statementTimeoutMs: number): Database;
  /** Waits for what is under way, within a bound. */
  close(): Promise<void>;
}

export interface DatabaseOptions {
  readonly url: string;
  readonly applicationName: string;
  /** Connections at most. */
  readonly max: number;
  /** Through PgBouncer or the like, each transaction on another session: prepares nothing and keeps no settings there. */
  readonly pooled: boolean;
}

/** Above what any statement on the way of a job takes, by far; short enough that a silent connection does not stop a process for 5 s. */
const STATEMENT_TIMEOUT_MS = 3500;
const DRAIN_MS = 5000;

/** Opens the database; nothing is connected yet. */
export function openDatabase(options: DatabaseOptions): Database {
  const pool = new Pool({ ...options, pinPlans: true, statementTimeoutMs: STATEMENT_TIMEOUT_MS });
  return viewOf(pool, STATEMENT_TIMEOUT_MS);
}

function viewOf(pool: Pool, timeoutMs: number): Database {
  const sql = createSql((statement) => pool.send(statement, timeoutMs));
  return {
    sql,
    orm: drizzle(clientFor(sql)),
    transaction: (work) => pool.transaction(work, timeoutMs),
    within: (ms) => viewOf(pool, ms),
    close: () => pool.close(DRAIN_MS),
  };
}

export { isDuplicate, isForbidden, isOutcomeUnknown, isPooler, isUnavailable } from './sql-errors.ts';
