import { getTableColumns, sql as text } from 'drizzle-orm';
import type { Connection } from './database.ts';
import { jobs } from './schema/jobs.ts';

const { input: _input, output, isTold: _isTold, progressToldAt: _progressToldAt, ...columns } = getTableColumns(jobs);

/** The columns of a `JobRecord`, for drizzle. The driver would parse an output, and change its numbers by that. */
export const jobRecordColumns = { ...columns, outputText: text<string | null>`${output}::text` };

/** The columns of a `JobRecord`, for statements that have their jobs in `page`. */
export const jobColumns = (sql: Connection) => sql`
  page.account_id AS "accountId", page.id, page.type, page.status, page.output::text AS "outputText",
  page.error, page.progress, page.metadata,
  page.priority, page.timeout_ms AS "timeoutMs", page.retry, page.run_at AS "runAt", page.expires_at AS "expiresAt",
  page.schedule_id AS "scheduleId", page.scheduled_for AS "scheduledFor", page.result_run_id AS "resultRunId",
  page.result_type AS "resultType", page.result_bytes::float8 AS "resultBytes", page.result_sha256 AS "resultSha256",
  page.callback_endpoint_id AS "callbackEndpointId", page.callback_url AS "callbackUrl",
  page.callback_events AS "callbackEvents", page.run_count AS "runCount", page.failure_count AS "failureCount",
  page.sequence, page.is_start_untold AS "isStartUntold",
  page.created_at AS "createdAt", page.updated_at AS "updatedAt", page.started_at AS "startedAt",
  page.run_id AS "runId", page.run_started_at AS "runStartedAt", page.worker_id AS "workerId",
  page.next_run_at AS "nextRunAt", page.cancel_requested_at AS "cancelRequestedAt", page.finished_at AS "finishedAt"`;
