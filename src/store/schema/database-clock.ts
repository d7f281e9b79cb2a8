import { sql } from 'drizzle-orm';
import { boolean, check } from 'drizzle-orm/pg-core';
import { moment, ringback } from './columns.ts';

/** What of the database's clock is known to be right, in one row: see `confirmClock`. By that clock, every time in it. */
export const databaseClock = ringback.table(
  'database_clock',
  {
    onlyRow: boolean('only_row').primaryKey().default(true),
    /** The latest time that was no jump away from the one before; an operator may set it. */
    confirmedAt: moment('confirmed_at').notNull(),
    /** While the clock is elsewhere: since when, and when it was last seen there. */
    doubtedSince: moment('doubted_since'),
    doubtedAt: moment('doubted_at'),
  },
  () => [check('database_clock_one_row', sql.raw('only_row'))],
);
