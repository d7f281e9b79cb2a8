import { drizzle, type PostgresJsDatabase } from 'drizzle-orm/postgres-js';
import postgres, { type Sql, type TransactionSql } from 'postgres';
import { Sockets } from './socket.ts';

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
 *
 * BY_KEY: an endpoint that is found by its id must not be deleted, which is said so that no partial index says the same:
 * `deleted_at IS NULL` made the planner take `endpoints_url`, and read all endpoints of the account (260 buffers among 300).
 */
const INDEX_PLANS = { enable_seqscan: 'off', enable_hashjoin: 'off', enable_mergejoin: 'off' } as const;

/** `{a,"b c"}`, as PostgreSQL writes an array of one dimension. */
function parseArray(text: string): string[] {
  const elements = text.slice(1, -1).matchAll(/"((?:[^"\\]|\\.)*)"|([^,]+)/g);
  return Array.from(elements, ([, quoted, plain]) => quoted?.replaceAll(/\\(.)/g, '$1') ?? plain ?? '');
}

function serializeArray(values: readonly string[]): string {
  return `{${values.map((value) => `"${value.replaceAll(/["\\]/g, String.raw`\$&`)}"`).join(',')}}`;
}

const arrayOf = (oid: number) => ({ to: oid, from: [oid], serialize: serializeArray, parse: parseArray });

/**
 * What keeps postgres.js alive when connections break.
 *
 * Left to itself, it asks each new connection for the array types; a connection that breaks while it is asked ends the
 * process with an unhandled rejection. So it is told the one that we use.
 */
export function sturdy(sockets = new Sockets()) {
  return {
    fetch_types: false,
    types: { textArray: arrayOf(1009) },
    // Not in the package's types, but in its documentation.
    socket: sockets.make,
  };
}

interface Pool {
  readonly sql: Sql;
  readonly orm: PostgresJsDatabase;
  /** Waits for what is under way, for DRAIN_SECONDS at most. */
  end(): Promise<void>;
}

const DRAIN_SECONDS = 5;

/** @param onClose called when one of its connections ends, for whatever reason */
function openPool(options: DatabaseOptions, onClose: () => void): Pool {
  const sockets = new Sockets();
  const sql = postgres(options.url, {
    max: options.max,
    connect_timeout: 5,
    // Connections end when they break and not otherwise.
    max_lifetime: null,
    connection: { application_name: options.applicationName, ...(options.pinPlans ? INDEX_PLANS : {}) },
    onnotice: () => undefined,
    onclose: onClose,
    ...sturdy(sockets),
  }) as Sql;
  const { parsers, serializers } = sql.options;
  const before = { parsers: { ...parsers }, serializers: { ...serializers } };
  const orm = drizzle(sql);
  // drizzle takes the date and JSON codecs out of the client it wraps; it copes with the standard ones as well.
  Object.assign(parsers, before.parsers);
  Object.assign(serializers, before.serializers);
  return { sql, orm, end: () => sql.end({ timeout: DRAIN_SECONDS }).finally(() => sockets.close()) };
}

/**
 * Opens the database; nothing is connected yet. A connection that breaks takes its pool with it: postgres.js would open
 * it again with what the old one had not sent or not read yet, and a query could get another's answer. The others of that
 * pool finish what they are doing; whatever comes next goes to a new one. So take `sql` and `orm` anew for each use.
 */
export function openDatabase(options: DatabaseOptions): Database {
  let isClosed = false;
  let current = open();
  const draining = new Set<Promise<void>>();

  function open(): Pool {
    const pool = openPool(options, () => {
      if (pool !== current || isClosed) return;
      current = open();
      const drained = pool.end().finally(() => draining.delete(drained));
      draining.add(drained);
    });
    return pool;
  }

  return {
    get sql() {
      return current.sql;
    },
    get orm() {
      return current.orm;
    },
    close: async () => {
      isClosed = true;
      await Promise.all([current.end(), ...draining]);
    },
  };
}

/**
 * Runs `work` in a transaction: committed when it resolves, rolled back when it rejects.
 *
 * When the connection breaks, postgres.js would send what is left of the transaction, its COMMIT or ROLLBACK too, to the
 * dead connection, or to the one that took its place. So nothing is sent any more once it is lost, and `begin` ends
 * through the connection's own close.
 */
export async function transaction<T>({ sql }: Database, work: (tx: Transaction) => Promise<T>): Promise<T> {
  const never = new Promise<never>(() => undefined);
  let lost = false;
  const begun = sql.begin(async (tx) => {
    try {
      const result = await work(guard(tx, () => lost));
      return await (lost ? never : result);
    } catch (error) {
      if (lost || isConnectionLost(error)) return never;
      throw error;
    }
  });
  try {
    return (await begun) as T;
  } catch (error) {
    lost = true;
    throw error;
  }
}

/** The transaction's connection, until it is lost. */
function guard(tx: Transaction, isLost: () => boolean): Transaction {
  const refuseWhenLost = () => {
    if (isLost()) throw Object.assign(new Error('the connection was lost'), { code: 'CONNECTION_CLOSED' });
  };
  return new Proxy(tx, {
    apply: (target, self, args) => {
      refuseWhenLost();
      return Reflect.apply(target, self, args) as unknown;
    },
    get: (target, key) => {
      if (key === 'unsafe') refuseWhenLost();
      return Reflect.get(target, key) as unknown;
    },
  });
}

const CONNECTION_LOST = /^(?:08|57P0|CONNECTION_|E[A-Z_]{4,})/;

function isConnectionLost(error: unknown): boolean {
  return CONNECTION_LOST.test(codeOf(error));
}

/** SQLSTATE classes and driver codes that mean: not reachable or not ready now, try again later. */
const UNAVAILABLE = /^(?:08|53|57P0[1-3]|58|CONNECTION_|CONNECT_TIMEOUT|E[A-Z_]{4,})/;

/** True when the database cannot be reached or is starting, stopping or out of room: nothing is wrong with the statement. */
export function isUnavailable(error: unknown): boolean {
  return UNAVAILABLE.test(codeOf(error));
}

/** True when there is such a row already: a unique constraint refused another one. */
export function isDuplicate(error: unknown): boolean {
  return codeOf(error) === '23505';
}

/** True when it refuses us, and always will: wrong user or password, no such database, no right to it. */
export function isForbidden(error: unknown): boolean {
  return /^(?:28|3D000|42501)/.test(codeOf(error));
}

/** The SQLSTATE or the driver's code; drizzle wraps errors. */
function codeOf(error: unknown): string {
  const cause = error instanceof Error && error.cause instanceof Error ? error.cause : error;
  const code = (cause as { code?: unknown } | null | undefined)?.code;
  return typeof code === 'string' ? code : '';
}
