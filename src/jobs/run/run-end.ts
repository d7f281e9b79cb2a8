import { newId } from '#domain/ids.ts';
import type { FinalJobStatus, JobError, JobProgress } from '#domain/job.ts';
import { nextRunAt, type RetryPolicy } from '#domain/retry.ts';
import type { JobRecord } from '#store/jobs.ts';
import type { RunEnd, StoredResult } from '#store/end-runs.ts';
import { eventBody, namedDelivery } from './event-body.ts';
import type { HandlerFailure } from './handler.ts';
import type { Stopped } from './execute.ts';

/** How a run, or a job that waited, came to an end. */
export type RunOutcome =
  | { readonly kind: 'succeeded'; readonly outputText: string | null; readonly result: StoredResult | null }
  | HandlerFailure
  | Exclude<Stopped, { kind: 'superseded' }>
  /** Its worker stopped giving signs of life. */
  | { readonly kind: 'lost' }
  /** Not started in time; only a job that waits can expire. */
  | { readonly kind: 'expired' };

export interface RunEndContext {
  readonly policy: RetryPolicy;
  readonly publicUrl: string;
  readonly now: Date;
  /** In [0, 1). */
  readonly random: number;
  /** The last that the run reported, if any. */
  readonly progress?: JobProgress | null;
}

const LOST: JobError = {
  code: 'worker_lost',
  message: 'The worker died, or stopped responding and its lease ran out.',
};
const CANCELED: JobError = { code: 'canceled', message: 'The job was canceled by its client.' };
const EXPIRED: JobError = { code: 'expired', message: 'The job was not started before its expires_at.' };

/**
 * What an outcome makes of the run and its job: over, with an event and, when somebody is to be told, a delivery; or to
 * be run again. The job's `runId` is the fence; without one the job waited.
 */
export function decideRunEnd(job: JobRecord, outcome: RunOutcome, context: RunEndContext): RunEnd {
  switch (outcome.kind) {
    case 'succeeded': {
      const { outputText, result } = outcome;
      const ended = { ...job, outputText, ...asResult(job, result) };
      return {
        ...over(ended, 'succeeded', null, context),
        ...ran(job, context),
        runStatus: 'succeeded',
        outputText,
        result,
      };
    }
    case 'released':
      // Nobody needs the run that would follow.
      if (job.cancelRequestedAt !== null) return decideRunEnd(job, { kind: 'canceled' }, context);
      return { ...again(job, null, context), runStatus: 'released' };
    case 'canceled':
      return { ...over(job, 'canceled', CANCELED, context), ...ifRun(job, 'canceled', CANCELED) };
    case 'expired':
      return over(job, 'expired', EXPIRED, context);
    case 'lost':
      return failedRun(job, 'lost', LOST, null, context);
    case 'timed_out':
      return failedRun(job, 'timed_out', outcome.error, null, context);
    case 'failed':
      return failedRun(job, 'failed', outcome.error, outcome, context);
    default:
      return outcome satisfies never;
  }
}

function failedRun(
  job: JobRecord,
  runStatus: 'failed' | 'timed_out' | 'lost',
  error: JobError,
  failure: HandlerFailure | null,
  context: RunEndContext,
): RunEnd {
  const stack = failure?.stack;
  const run = {
    runStatus,
    runError: error,
    ...(stack !== undefined && { stack }),
    ...(runStatus !== 'lost' && ran(job, context)),
  };
  // Called off while it ran: no run follows a failed one.
  if (job.cancelRequestedAt !== null) return { ...over(job, 'canceled', CANCELED, context), ...run };
  const { policy, now, random } = context;
  const failures = job.failureCount + 1;
  const retryAfterMs = failure?.retryAfterMs ?? null;
  const next = failure?.retryable === false ? null : nextRunAt(policy, { failures, now, random, retryAfterMs });
  return { ...(next === null ? over(job, 'failed', error, context) : again(job, next, context)), ...run };
}

/** What every end has, and what most have. */
function base(job: JobRecord, { now, progress = null }: RunEndContext) {
  return {
    accountId: job.accountId,
    jobId: job.id,
    runId: job.runId,
    sequence: job.sequence + 1,
    runStatus: null,
    runError: null,
    jobError: null,
    outputText: null,
    result: null,
    progress,
    nextRunAt: null,
    endedAt: now,
    delivery: null,
  } as const satisfies Partial<RunEnd>;
}

function again(job: JobRecord, next: Date | null, context: RunEndContext): RunEnd {
  const event = { id: newId('evt', context.now.getTime()), type: 'job.retrying' as const, body: null };
  return { ...base(job, context), jobStatus: 'in_progress', nextRunAt: next, event };
}

/**
 * The end of a job: its last event, what tells of it, and the duty to bring that where the job said. Who else of the account
 * wants it, the database knows.
 */
function over(job: JobRecord, status: FinalJobStatus, error: JobError | null, context: RunEndContext): RunEnd {
  const { publicUrl, now } = context;
  const type = `job.${status}` as const;
  const progress = context.progress ?? job.progress;
  const ended = { ...job, status, error, progress, updatedAt: now, finishedAt: now, nextRunAt: null };
  const event = { id: newId('evt', now.getTime()), type, body: eventBody(type, ended, publicUrl, now) };
  const delivery = namedDelivery(job, type, now);
  return { ...base(job, context), jobStatus: status, jobError: error, event, delivery };
}

function ran({ type, runStartedAt }: JobRecord, { now }: RunEndContext): Pick<RunEnd, 'ran'> {
  return runStartedAt === null ? {} : { ran: { type, ms: Math.max(0, now.getTime() - runStartedAt.getTime()) } };
}

/** Only a run that was under way is recorded. */
function ifRun(job: JobRecord, runStatus: 'canceled', runError: JobError): Partial<RunEnd> {
  return job.runId === null ? {} : { runStatus, runError };
}

function asResult(job: JobRecord, result: StoredResult | null): Partial<JobRecord> {
  if (result === null) return {};
  return {
    resultRunId: job.runId,
    resultType: result.contentType,
    resultBytes: result.bytes,
    resultSha256: Buffer.from(result.sha256, 'hex'),
  };
}
