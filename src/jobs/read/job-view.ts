import { isFinal } from '#domain/job.ts';
import type { RetryPolicy } from '#domain/retry.ts';
import type { JobRecord } from '#store/jobs.ts';

/**
 * A job as clients see it, as JSON: the same in a status, in a list and in a callback. Members without a value are left out.
 * An output stands there as it was handed in.
 */
export function jobJson(job: JobRecord, publicUrl: string): string {
  const statusUrl = `${publicUrl}/v1/jobs/${job.id}`;
  const { status, resultRunId, outputText } = job;
  const output = status === 'succeeded' && resultRunId === null ? `,"output":${outputText ?? 'null'}` : '';
  const head = JSON.stringify(viewState(job, statusUrl)).slice(0, -1);
  return `${head}${output},${JSON.stringify(viewRest(job, statusUrl)).slice(1)}`;
}

function viewState(job: JobRecord, statusUrl: string) {
  return {
    id: job.id,
    type: job.type,
    status: job.status,
    done: isFinal(job.status),
    ...(job.progress && { progress: job.progress }),
    ...(job.status === 'succeeded' && viewResult(job, statusUrl)),
    ...(job.error && { error: job.error }),
  };
}

function viewRest(job: JobRecord, statusUrl: string) {
  return {
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

/** Where a result is that does not stand in the job itself. */
function viewResult({ resultRunId, resultType, resultBytes, resultSha256 }: JobRecord, statusUrl: string) {
  if (resultRunId === null || resultType === null || resultBytes === null || resultSha256 === null) return undefined;
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
