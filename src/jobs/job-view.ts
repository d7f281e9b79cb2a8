import { isFinal } from '#domain/job.ts';
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
    ...(job.status === 'succeeded' && { output: job.output }),
    ...(job.error && { error: job.error }),
    runs: job.runCount,
    metadata: job.metadata,
    ...(job.callbackEndpointId &&
      job.callbackUrl &&
      job.callbackEvents && {
        callback: { endpoint_id: job.callbackEndpointId, url: job.callbackUrl, events: [...job.callbackEvents] },
      }),
    created_at: job.createdAt,
    updated_at: job.updatedAt,
    ...(job.startedAt && { started_at: job.startedAt }),
    ...(job.nextRunAt && { next_run_at: job.nextRunAt }),
    ...(job.finishedAt && { finished_at: job.finishedAt }),
    status_url: statusUrl,
  };
}
