import { newId } from '#domain/ids.ts';
import type { JobError } from '#domain/job.ts';
import { nextRunAt } from '#domain/retry.ts';
import type { ClaimedJob, JobRecord, RunEnd } from '#store/jobs.ts';
import type { RunOutcome } from './execute.ts';
import { viewJob } from './job-view.ts';

/**
 * What an outcome makes of the run and its job: over, with an event and, when somebody is to be told, a delivery; or
 * to be run again. `random` is in [0, 1).
 */
export function decideRunEnd(
  job: ClaimedJob,
  outcome: RunOutcome,
  context: { maxRuns: number; publicUrl: string; now: Date; random: number },
): RunEnd {
  const { now } = context;
  const base = {
    accountId: job.accountId,
    jobId: job.id,
    runId: job.runId,
    progress: job.progress,
    endedAt: now,
    event: null,
    delivery: null,
    outputText: null,
    nextRunAt: null,
  };
  switch (outcome.kind) {
    case 'released':
      return { ...base, runStatus: 'released', runError: null, jobStatus: 'in_progress' };
    case 'succeeded': {
      const ended = { ...job, status: 'succeeded' as const, output: JSON.parse(outcome.outputText) as unknown };
      return {
        ...base,
        runStatus: 'succeeded',
        runError: null,
        outputText: outcome.outputText,
        ...over(ended, context),
      };
    }
    case 'failed':
    case 'timed_out': {
      const runStatus = outcome.kind;
      const failures = job.failureCount + 1;
      if ((outcome.kind === 'timed_out' || outcome.retryable) && failures < context.maxRuns) {
        const again = nextRunAt(failures, now, context.random);
        return { ...base, runStatus, runError: outcome.error, jobStatus: 'in_progress', nextRunAt: again };
      }
      return { ...base, runStatus, runError: outcome.error, ...over(asFailed(job, outcome.error), context) };
    }
    default:
      return outcome satisfies never;
  }
}

function asFailed(job: ClaimedJob, error: JobError): JobRecord & { readonly status: 'failed' } {
  return { ...job, status: 'failed', error };
}

/** The end of a job: its last event, the callback's bytes, rendered once for every attempt, and the duty to send them. */
function over(
  job: JobRecord & { readonly status: 'succeeded' | 'failed' },
  { publicUrl, now }: { publicUrl: string; now: Date },
): Pick<RunEnd, 'jobStatus' | 'event' | 'delivery'> {
  const type = `job.${job.status}` as const;
  const event = { id: newId('evt', now.getTime()), type };
  if (job.callbackEndpointId === null || job.callbackEvents?.includes(type) !== true) {
    return { jobStatus: job.status, event: { ...event, body: null }, delivery: null };
  }
  const sequence = job.sequence + 1;
  const view = viewJob({ ...job, sequence, updatedAt: now, finishedAt: now, nextRunAt: null }, publicUrl);
  const body = JSON.stringify({ type, timestamp: now, sequence, data: { job: view } });
  const delivery = { id: newId('dlv', now.getTime()), endpointId: job.callbackEndpointId };
  return { jobStatus: job.status, event: { ...event, body }, delivery };
}
