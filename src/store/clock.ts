import type { Database } from './database.ts';

/** When the clock was last known to be right (Unix milliseconds, by itself); see `confirmClock`. */
export async function readConfirmedAt({ sql }: Database): Promise<number> {
  const [row] = await sql<[{ confirmedAt: Date }]>`SELECT confirmed_at AS "confirmedAt" FROM ringback.database_clock`;
  return row.confirmedAt.getTime();
}

/** The database's clock, in Unix milliseconds. */
export async function readClock({ sql }: Database): Promise<number> {
  const [row] = await sql<[{ ms: number }]>`SELECT (extract(epoch FROM clock_timestamp()) * 1000)::float8 AS ms`;
  return row.ms;
}

export interface ClockVerdict {
  readonly isConfirmed: boolean;
  /** What the clock is ahead of the record by, in milliseconds: negative when it is behind. */
  readonly aheadMs: number;
  /** When it is confirmed, should it run on without a jump. */
  readonly confirmedFrom: Date;
}

/** How far the clock may be from where it was last seen: a short stop is no reason to doubt it. */
export const CLOCK_BOUND_MS = 3_600_000;

/**
 * Whether the database's clock agrees with the record of it, which is moved on with it. Up to `CLOCK_BOUND_MS` it may be from where it
 * was seen last. Beyond, it is confirmed once it has been seen to go on without a jump for as long as the time is that nobody saw pass,
 * `longestMs` at most: a service that stood still for an hour waits an hour. Undefined, and nothing is written, when the
 * clock is not where the process has it (`now`). Any number of processes may ask.
 */
export async function confirmClock(
  { sql }: Database,
  { now, longestMs }: { now: Date; longestMs: number },
): Promise<ClockVerdict | undefined> {
  const [verdict] = await sql<ClockVerdict[]>`
    WITH record AS MATERIALIZED (
      SELECT *, clock_timestamp() AS at, ${CLOCK_BOUND_MS} * interval '1 ms' AS bound FROM ringback.database_clock FOR UPDATE
    ), seen AS (
      SELECT *, at - confirmed_at AS ahead, CASE WHEN at BETWEEN doubted_at - bound AND doubted_at + bound
        THEN doubted_since ELSE at END AS since
      FROM record WHERE at BETWEEN ${now}::timestamptz - bound AND ${now}::timestamptz + bound
    ), judged AS (
      SELECT *, since + least(greatest(since - confirmed_at, confirmed_at - since), ${longestMs} * interval '1 ms') AS confirmed_from,
        ahead BETWEEN -bound AND bound AS is_near
      FROM seen
    ), decided AS (
      SELECT *, is_near OR at >= confirmed_from AS is_confirmed FROM judged
    )
    UPDATE ringback.database_clock AS clock SET
      confirmed_at = CASE WHEN is_confirmed THEN at ELSE clock.confirmed_at END,
      doubted_since = CASE WHEN NOT is_confirmed THEN since END,
      doubted_at = CASE WHEN NOT is_confirmed THEN at END
    FROM decided
    RETURNING is_confirmed AS "isConfirmed", (extract(epoch FROM ahead) * 1000)::float8 AS "aheadMs",
      confirmed_from AS "confirmedFrom"`;
  return verdict;
}
