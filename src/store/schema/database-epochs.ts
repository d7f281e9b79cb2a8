import { integer, text } from 'drizzle-orm/pg-core';
import { moment, ringback } from './columns.ts';

/** The servers and databases that this data has lived in, oldest first: docs/decisions/0022. */
export const databaseEpochs = ringback.table('database_epochs', {
  number: integer().primaryKey(),
  /** Random. Cursors carry it, so that those of another copy of this data are refused. */
  token: text().notNull().unique(),
  /** System identifier, database, timeline and start of the server, as far as the role may read them. */
  identity: text().notNull(),
  /** Of positions in the feed, when the epoch began. */
  generation: integer().notNull(),
  beganAt: moment('began_at').notNull(),
});
