import type { Sql } from 'postgres';

/** What happened to a job, from the rows that auditors read, in the order it happened. */
export async function readTimeline(sql: Sql, jobId: string): Promise<Array<{ at: string; what: string }>> {
  return sql<{ at: string; what: string }[]>`
    WITH job AS (SELECT * FROM ringback.jobs WHERE id = ${jobId}), timeline AS (
      SELECT created_at AS at, 1 AS rank, format('accepted    %s %s', type, id) AS what FROM job
      UNION ALL
      SELECT run.started_at, 2, format('started     run %s on %s', number, run.worker_id)
      FROM ringback.job_runs AS run JOIN job ON run.job_id = job.id
      UNION ALL
      SELECT run.finished_at, 3, format('finished    run %s %s after %s ms', number, run.status,
        round(extract(epoch FROM run.finished_at - run.started_at) * 1000))
      FROM ringback.job_runs AS run JOIN job ON run.job_id = job.id
      UNION ALL
      SELECT event.created_at, 4, format('event       %s %s', event.type, event.id)
      FROM ringback.events AS event JOIN job ON event.job_id = job.id AND event.body IS NOT NULL
      UNION ALL
      SELECT attempt.started_at, 5, format('attempt %s   %s: HTTP %s in %s ms%s', number, outcome, response_status,
        round(total_ms::numeric, 1), ', next at ' || to_char(next_attempt_at AT TIME ZONE 'UTC', 'HH24:MI:SS.MS'))
      FROM ringback.delivery_attempts AS attempt JOIN job ON attempt.job_id = job.id
      UNION ALL
      SELECT delivery.finished_at, 6, format('delivery    %s after %s attempts', delivery.status, attempt_count)
      FROM ringback.deliveries AS delivery JOIN job ON delivery.job_id = job.id AND delivery.finished_at IS NOT NULL
    )
    SELECT to_char(at AT TIME ZONE 'UTC', 'HH24:MI:SS.MS') AS at, what FROM timeline ORDER BY timeline.at, rank`;
}
