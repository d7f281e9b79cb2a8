import type { Database } from './database.ts';

/** Seconds after which what was added counts for 1/e: long enough to be steady, short enough to be "lately". */
export const FADE_SECONDS = 60;

export interface TypeRuns {
  readonly type: string;
  /** Runs that ended. */
  readonly runs: number;
  /** What they took together. */
  readonly totalMs: number;
}

/**
 * Adds runs that have ended since the last time. Sums fade with their age, so that any number of processes may add to
 * them. Rows are taken in the order of their types: two processes wait for each other in one direction only.
 */
export async function addTypeRuns({ sql }: Database, ran: readonly TypeRuns[]): Promise<void> {
  await sql`
    INSERT INTO ringback.job_type_stats AS stats (type, runs, total_ms, updated_at)
    SELECT type, runs, "totalMs", now()
    FROM json_to_recordset(${JSON.stringify(ran)}::text::json) AS ran (type text, runs float8, "totalMs" float8)
    ORDER BY type
    ON CONFLICT (type) DO UPDATE SET (runs, total_ms, updated_at) = (
      SELECT stats.runs * share + excluded.runs, stats.total_ms * share + excluded.total_ms,
        -- The later of two that were written at once; but not one from a clock that was ahead.
        CASE WHEN stats.updated_at < excluded.updated_at + interval '1 min'
          THEN greatest(stats.updated_at, excluded.updated_at) ELSE excluded.updated_at END
      -- Bounded: exp() fails rather than answer 0, and a transaction may have begun before the last one that wrote here.
      FROM (SELECT exp(-least(100, greatest(0,
        extract(epoch FROM excluded.updated_at - stats.updated_at)::float8 / ${FADE_SECONDS}))) AS share) AS faded)`;
}

/** The sums as they have faded by now. */
export async function readTypeRuns({ sql }: Database): Promise<TypeRuns[]> {
  return sql<TypeRuns[]>`
    SELECT type, runs * share AS runs, total_ms * share AS "totalMs"
    FROM ringback.job_type_stats CROSS JOIN LATERAL (
      SELECT exp(-least(100, greatest(0,
        extract(epoch FROM now() - updated_at)::float8 / ${FADE_SECONDS}))) AS share) AS faded`;
}
