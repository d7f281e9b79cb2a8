import { newId } from '#domain/ids.ts';
import type { AnyJobDefinition, StandardSchema } from '../../../src/jobs/type/define.ts';
import { execute, type Stopped, type Stops } from '../../../src/jobs/run/execute.ts';
import {
  callHandler,
  type HandlerContext,
  type HandlerFailure,
  type HandlerOutcome,
} from '../../../src/jobs/run/handler.ts';
import { type JobType, JobTypes } from '../../../src/jobs/type/job-types.ts';
import type { ClaimedJob } from '../../../src/store/claim-runs.ts';

export const NOW = new Date('2026-01-31T12:00:00.000Z');
const MINUTE_AGO = new Date('2026-01-31T11:59:00.000Z');

/** A Standard Schema written by hand, as any library may have it. */
export function schema<Output = unknown>(
  validate: StandardSchema<unknown, Output>['~standard']['validate'] = (value) => ({ value: value as Output }),
): StandardSchema<unknown, Output> {
  return { '~standard': { version: 1, vendor: 'test', validate } };
}

/** A job type as the registry holds it; takes any input unless told otherwise. */
export function jobType(definition: Partial<AnyJobDefinition>): JobType {
  const whole = { type: 'test.job', input: schema(), run: () => null, ...definition };
  return new JobTypes([whole]).get(whole.type)!;
}

/** What a handler is told of its job and run. */
export const CONTEXT: HandlerContext = {
  progress: () => {},
  log: () => {},
  job: { id: 'job_1', type: 'test.job', accountId: 'acc_1' },
  run: { id: 'run_1', number: 1 },
};

export interface RunOptions extends Partial<Stops> {
  readonly input?: unknown;
  readonly cancelGraceMs?: number;
  readonly context?: HandlerContext;
}

/** Executes a job type's handler once, with nothing else going on. */
export function run(definition: Partial<AnyJobDefinition>, more: RunOptions = {}): Promise<HandlerOutcome | Stopped> {
  const type = jobType(definition);
  const { input = null, context = CONTEXT, cancelGraceMs = 1000, ...stops } = more;
  const never = new AbortController().signal;
  return execute((signal) => callHandler(type, input, context, signal), {
    timeoutMs: type.timeoutMs,
    cancelGraceMs,
    stops: { shutdown: never, leaseLost: never, canceled: never, ...stops },
  });
}

/** A handler's failure that asks for no time of its own; `message` may be a matcher. */
export function failure(code: HandlerFailure['error']['code'], message: unknown, retryable: boolean): HandlerFailure {
  return { kind: 'failed', error: { code, message: message as string }, retryable, retryAfterMs: null };
}

/** A job in its first run, with a callback that wants every end. */
export function claimedJob(more: Partial<ClaimedJob> = {}): ClaimedJob {
  return {
    accountId: newId('acc', 0),
    id: newId('job', MINUTE_AGO.getTime()),
    type: 'test.job',
    status: 'in_progress',
    inputText: 'null',
    outputText: null,
    error: null,
    progress: null,
    metadata: { order: '4711' },
    priority: 0,
    timeoutMs: null,
    retry: null,
    runAt: null,
    expiresAt: null,
    scheduleId: null,
    scheduledFor: null,
    resultRunId: null,
    resultType: null,
    resultBytes: null,
    resultSha256: null,
    callbackEndpointId: newId('ep', 0),
    callbackUrl: 'https://example.com/hook',
    callbackEvents: ['job.succeeded', 'job.failed', 'job.canceled', 'job.expired'],
    runCount: 1,
    failureCount: 0,
    sequence: 2,
    isStartUntold: false,
    createdAt: MINUTE_AGO,
    updatedAt: MINUTE_AGO,
    startedAt: MINUTE_AGO,
    runId: newId('run', MINUTE_AGO.getTime()),
    runStartedAt: MINUTE_AGO,
    leaseExpiresAt: NOW,
    deadlineAt: NOW,
    workerId: newId('wrk', 0),
    nextRunAt: null,
    cancelRequestedAt: null,
    finishedAt: null,
    runTimeoutMs: 60_000,
    ...more,
  };
}
