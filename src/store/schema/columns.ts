import { sql, type SQL } from 'drizzle-orm';
import { customType, pgSchema, timestamp } from 'drizzle-orm/pg-core';

export const ringback = pgSchema('ringback');

/** An id: `text COLLATE "C"`, so that it compares by bytes, which for TypeIDs is by creation time. */
// oxlint-disable-next-line typescript/no-unnecessary-type-parameters -- it is what the column's type is made of
export const idColumn = <Id extends string>(name: string) =>
  customType<{ data: Id }>({ dataType: () => 'text COLLATE "C"' })(name);

/** A moment, to the millisecond, as JavaScript has it. */
export const moment = (name: string) => timestamp(name, { withTimezone: true, precision: 3, mode: 'date' });

/** Bytes. postgres.js hands a Buffer over. */
export const bytes = customType<{ data: Uint8Array }>({ dataType: () => 'bytea' });

/** A CHECK's list from a tuple of `domain/`, so that the type and the constraint cannot drift apart. */
export function oneOf(column: string, values: readonly string[]): SQL {
  return sql.raw(`${column} IN (${values.map((value) => `'${value}'`).join(', ')})`);
}

/**
 * PostgreSQL's 64-bit transaction id, with the generation of the database in its upper bits; filled by the database. As text: it
 * does not fit a JavaScript number.
 */
export const transactionId = () =>
  customType<{ data: string; default: true }>({ dataType: () => 'xid8' })('xid').default(
    sql.raw('ringback.feed_position(pg_current_xact_id())'),
  );
