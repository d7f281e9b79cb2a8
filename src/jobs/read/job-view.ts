import { isFinal } from '#domain/job.ts';
import type { RetryPolicy } from '#domain/retry.ts';
import type { JobRecord } from '#store/jobs.ts';

/** A job as clients see it: the same in a status, in a list and in a callback. Members without a value are left out. */
export function viewJob(job: JobRecord, publicUrl: string) {
  const statusUrl = `${publicUrl}/v1/jobs/${job.id}`;
  return {
    id: job.id,
    type: job.type,
    status: job.status,
    done: isFinal(job.status),
    ...(job.progress && { progress: job.progress }),
    ...(job.status === 'succeeded' && viewResult(job, statusUrl)),
    ...(job.error && { error: job.error }),
    runs: job.runCount,
    metadata: job.metadata,
    ...(job.priority !== 0 && { priority: job.priority }),
    ...(job.timeoutMs !== null && { timeout_ms: job.timeoutMs }),
    ...(job.retry && { retry: viewRetry(job.retry) }),
    ...(job.scheduleId && { schedule_id: job.scheduleId }),
    ...(job.scheduledFor && { scheduled_for: job.scheduledFor }),
    ...(job.callbackEndpointId &&
      job.callbackUrl &&
      job.callbackEvents && {
        callback: { endpoint_id: job.callbackEndpointId, url: job.callbackUrl, events: [...job.callbackEvents] },
      }),
    created_at: job.createdAt,
    updated_at: job.updatedAt,
    ...(job.runAt && { run_at: job.runAt }),
    ...(job.expiresAt && { expires_at: job.expiresAt }),
    ...(job.startedAt && { started_at: job.startedAt }),
    ...(job.nextRunAt && { next_run_at: job.nextRunAt }),
    ...(job.cancelRequestedAt && { cancel_requested_at: job.cancelRequestedAt }),
    ...(job.finishedAt && { finished_at: job.finishedAt }),
    status_url: statusUrl,
    cancel_url: `${statusUrl}/cancel`,
  };
}

/** The output itself, or where it is: never both. */
function viewResult({ output, resultRunId, resultType, resultBytes, resultSha256 }: JobRecord, statusUrl: string) {
  if (resultRunId === null || resultType === null || resultBytes === null || resultSha256 === null) return { output };
  const sha256 = Buffer.from(resultSha256).toString('hex');
  return { result_url: `${statusUrl}/result`, result: { content_type: resultType, bytes: resultBytes, sha256 } };
}

export function viewRetry({ maxRuns, minDelayMs, factor, maxDelayMs, jitter }: Partial<RetryPolicy>) {
  return {
    ...(maxRuns !== undefined && { max_runs: maxRuns }),
    ...(minDelayMs !== undefined && { min_delay_ms: minDelayMs }),
    ...(factor !== undefined && { factor }),
    ...(maxDelayMs !== undefined && { max_delay_ms: maxDelayMs }),
    ...(jitter !== undefined && { jitter }),
  };
}
