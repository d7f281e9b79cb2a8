import type { AccountId } from '#domain/ids.ts';
import type { Database } from './database.ts';

/** What an account has ready in a pool: the front of its lane, or all of it. */
export interface LaneSample {
  readonly pool: string;
  readonly accountId: AccountId;
  /** Runs looked at. */
  readonly waiting: number;
  /** False when there are more. */
  readonly isWhole: boolean;
  /** The times at which the runs looked at became due. */
  readonly oldestDueAt: Date;
  readonly newestDueAt: Date;
}

export interface QueueSample {
  readonly lanes: readonly LaneSample[];
  /** Runs under way, by pool. */
  readonly running: ReadonlyMap<string, number>;
}

/** Lanes, and runs of all of them together, that one sample looks at: with 1,000,000 runs queued as with none. */
const MAX_LANES = 500;
const MAX_RUNS = 10_000;

/** How much is waiting where. Served by `run_queue_ready`, hopping from lane to lane as a claim does, and `run_queue_leased`. */
export async function sampleQueue({ sql }: Database): Promise<QueueSample> {
  const [lanes, running] = await Promise.all([
    sql<LaneSample[]>`
      WITH RECURSIVE lane AS (
        (SELECT pool, account_id, 1 AS number FROM ringback.run_queue
          WHERE state = 'ready' ORDER BY pool, account_id LIMIT 1)
        UNION ALL
        SELECT next.pool, next.account_id, lane.number + 1
        FROM lane CROSS JOIN LATERAL (
          SELECT pool, account_id FROM ringback.run_queue
          WHERE state = 'ready' AND (pool, account_id) > (lane.pool, lane.account_id)
          ORDER BY pool, account_id LIMIT 1) AS next
        WHERE lane.number < ${MAX_LANES}
      ), share AS (
        SELECT pool, account_id, (${MAX_RUNS} / count(*) OVER ())::int AS runs FROM lane
      )
      SELECT share.pool, share.account_id AS "accountId", front.waiting, front.waiting < share.runs AS "isWhole",
        front."oldestDueAt", front."newestDueAt"
      FROM share CROSS JOIN LATERAL (
        SELECT count(*)::int AS waiting, min(due_at) AS "oldestDueAt", max(due_at) AS "newestDueAt"
        FROM (
          SELECT due_at FROM ringback.run_queue
          WHERE state = 'ready' AND pool = share.pool AND account_id = share.account_id
          ORDER BY priority DESC, due_at, job_id LIMIT share.runs) AS run) AS front
      WHERE front.waiting > 0`,
    sql<{ pool: string; runs: number }[]>`
      SELECT pool, count(*)::int AS runs FROM ringback.run_queue WHERE state = 'leased' GROUP BY pool`,
  ]);
  return { lanes, running: new Map(running.map(({ pool, runs }) => [pool, runs])) };
}
