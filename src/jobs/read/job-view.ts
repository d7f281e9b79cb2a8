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

// A member that is undefined is not written. Objects of one shape are made, and written, in half the time of those that are
// put together from what there is.

function viewState(job: JobRecord, statusUrl: string) {
  const result = job.status === 'succeeded' ? viewResult(job) : undefined;
  return {
    id: job.id,
    type: job.type,
    status: job.status,
    done: isFinal(job.status),
    progress: job.progress ?? undefined,
    result_url: result && `${statusUrl}/result`,
    result,
    error: job.error ?? undefined,
  };
}

function viewRest(job: JobRecord, statusUrl: string) {
  return {
    runs: job.runCount,
    metadata: job.metadata,
    priority: job.priority === 0 ? undefined : job.priority,
    timeout_ms: job.timeoutMs ?? undefined,
    retry: job.retry ? viewRetry(job.retry) : undefined,
    schedule_id: job.scheduleId ?? undefined,
    scheduled_for: job.scheduledFor ?? undefined,
    callback: viewCallback(job),
    created_at: job.createdAt,
    updated_at: job.updatedAt,
    run_at: job.runAt ?? undefined,
    expires_at: job.expiresAt ?? undefined,
    started_at: job.startedAt ?? undefined,
    next_run_at: job.nextRunAt ?? undefined,
    cancel_requested_at: job.cancelRequestedAt ?? undefined,
    finished_at: job.finishedAt ?? undefined,
    status_url: statusUrl,
    cancel_url: `${statusUrl}/cancel`,
  };
}

/** Describes a result that does not stand in the job itself. */
function viewResult({ resultRunId, resultType, resultBytes, resultSha256 }: JobRecord) {
  if (resultRunId === null || resultType === null || resultBytes === null || resultSha256 === null) return undefined;
  return { content_type: resultType, bytes: resultBytes, sha256: Buffer.from(resultSha256).toString('hex') };
}

function viewCallback({ callbackEndpointId, callbackUrl, callbackEvents }: JobRecord) {
  if (callbackEndpointId === null || callbackUrl === null || callbackEvents === null) return undefined;
  return { endpoint_id: callbackEndpointId, url: callbackUrl, events: callbackEvents };
}

export function viewRetry({ maxRuns, minDelayMs, factor, maxDelayMs, jitter }: Partial<RetryPolicy>) {
  return { max_runs: maxRuns, min_delay_ms: minDelayMs, factor, max_delay_ms: maxDelayMs, jitter };
}
