import { type AccountId, newId, type ScheduleId } from '#domain/ids.ts';
import { FINAL_JOB_EVENT_TYPES } from '#domain/job.ts';
import { type StorableJson, toKeptJson, toStorableJson } from '#domain/json.ts';
import { unheldNumbers } from '#domain/json-number.ts';
import { type Fault, type Refusal, type Result, refuse } from '#domain/problem.ts';
import type { RetryPolicy } from '#domain/retry.ts';
import type { JobRecord, NewJob, StorableJob } from '#store/jobs.ts';
import type { CallbackRequest } from './callback-targets.ts';
import { jobJson } from '../read/job-view.ts';
import { eventBodyOf, namedDelivery } from '../run/event-body.ts';
import type { JobType, JobTypes } from '../type/job-types.ts';
import { validate } from '../type/validate.ts';

/** What a client asks for; the shape is checked already. */
export interface Submission {
  readonly type: string;
  /** Left out: the job type decides whether it can do without. */
  readonly input?: unknown;
  /** The input as it was sent, which is what is kept. Left out: as `JSON.stringify` writes it. */
  readonly inputText?: string | undefined;
  readonly callback?: CallbackRequest | undefined;
  readonly metadata?: Readonly<Record<string, string>> | undefined;
  readonly priority?: number | undefined;
  readonly timeout_ms?: number | undefined;
  readonly retry?: Partial<RetryPolicy> | undefined;
  readonly run_at?: Date | undefined;
  readonly expires_at?: Date | undefined;
}

/** When it is submitted; and by which schedule, for which of its times, if by one. */
export interface Occasion {
  readonly now: Date;
  readonly scheduleId?: ScheduleId | null;
  readonly scheduledFor?: Date | null;
}

/** A clock that is a little behind ours is no reason to refuse a `run_at`: it then means now. */
const CLOCK_TOLERANCE_MS = 5_000;
const FARTHEST_RUN_AT_MS = 366 * 86_400_000;

/**
 * The job that a submission asks for, its callback's endpoint still to be found; or everything that is wrong with it.
 * Nothing that passes here fails later for its input.
 */
export async function toNewJob(
  types: JobTypes,
  accountId: AccountId,
  submission: Submission,
  { now, scheduleId = null, scheduledFor = null }: Occasion,
): Promise<Result<NewJob>> {
  const type = types.find(submission.type);
  if (!type.ok) return type;
  const jobType = type.value;
  const wrong = wrongTimes(jobType, submission, now);
  if (wrong !== undefined) return wrong;
  const input = await checkInput(jobType, submission);
  if (!input.ok) return input;
  const { callback, metadata = {}, priority = 0, timeout_ms: timeoutMs = null, retry = null } = submission;
  const runAt = submission.run_at ?? null;
  const job = {
    accountId,
    id: newId('job', now.getTime()),
    eventId: newId('evt', now.getTime()),
    type: jobType.type,
    pool: jobType.pool,
    inputText: input.value,
    metadata,
    priority,
    timeoutMs,
    runTimeoutMs: timeoutMs ?? jobType.timeoutMs,
    retry,
    runAt: runAt !== null && runAt > now ? runAt : null,
    expiresAt: submission.expires_at ?? null,
    scheduleId,
    scheduledFor,
    callbackEndpointId: null,
    callbackUrl: null,
    callbackEvents: callback === undefined ? null : (callback.events ?? FINAL_JOB_EVENT_TYPES),
    createdAt: now,
    idempotency: null,
  };
  return { ok: true, value: job };
}

async function checkInput(jobType: JobType, submission: Submission): Promise<Result<string>> {
  const { input: given } = submission;
  const json = inputJson(submission);
  if (!json.ok) return refuse('invalid_input', `The input cannot be stored: ${json.reason}.`);
  // A handler gets what JavaScript makes of it; back ends and remote workers get the text.
  const unheld = jobType.way === 'inline' || jobType.way === 'thread' ? unheldNumbers(json.text) : [];
  if (unheld.length > 0) return refuseInput(jobType, unheld);
  const checked = await validate(jobType.input, given);
  if (!checked.ok) return refuseInput(jobType, checked.faults);
  const { maxInputBytes } = jobType;
  if (json.text.length * 3 > maxInputBytes && Buffer.byteLength(json.text) > maxInputBytes) {
    const detail = `The input of ${jobType.type} may have ${maxInputBytes} bytes at most.`;
    return refuse('input_too_large', detail, { extra: { max_bytes: maxInputBytes } });
  }
  return { ok: true, value: json.text };
}

function refuseInput({ type }: JobType, faults: readonly Fault[]): Refusal {
  const placed = faults.map((fault) => ({ ...fault, path: `/input${fault.path}` }));
  return refuse('invalid_input', `The input does not fit ${type}.`, { faults: placed });
}

/** The input as it is kept, should it be possible to keep it. */
export function inputJson({ input, inputText }: Pick<Submission, 'input' | 'inputText'>): StorableJson {
  return inputText === undefined ? toStorableJson(input) : toKeptJson(inputText, input);
}

function wrongTimes(jobType: JobType, submission: Submission, now: Date): Refusal | undefined {
  const { run_at: runAt, expires_at: expiresAt, timeout_ms: timeoutMs } = submission;
  const faults: Fault[] = [];
  if (runAt !== undefined && runAt.getTime() < now.getTime() - CLOCK_TOLERANCE_MS)
    faults.push({ path: '/run_at', message: 'is in the past; leave it out to run at once' });
  if (runAt !== undefined && runAt.getTime() > now.getTime() + FARTHEST_RUN_AT_MS)
    faults.push({ path: '/run_at', message: 'is more than 366 days away' });
  if (expiresAt !== undefined && expiresAt <= now) faults.push({ path: '/expires_at', message: 'is in the past' });
  if (expiresAt !== undefined && runAt !== undefined && expiresAt <= runAt)
    faults.push({ path: '/expires_at', message: 'must be after run_at' });
  if (timeoutMs !== undefined && timeoutMs > jobType.timeoutMs)
    faults.push({ path: '/timeout_ms', message: `may be ${jobType.timeoutMs} at most for ${jobType.type}` });
  if (faults.length === 0) return undefined;
  return refuse('invalid_body', faults.map(({ path, message }) => `${path} ${message}`).join('; '), { faults });
}

/**
 * Adds what tells of the submission.
 * @param view the job as clients see it, as JSON; without what only its submitter is told
 */
export function toStorableJob(job: NewJob, view: string): StorableJob {
  const { createdAt } = job;
  const queuedBody = eventBodyOf('job.queued', view, createdAt).join('1');
  return { ...job, queuedBody, queuedDeliveryId: namedDelivery(job, 'job.queued', createdAt)?.id ?? null };
}

/** The job as clients see it once it is stored, as JSON. */
export function viewSubmitted(job: NewJob, publicUrl: string): string {
  return jobJson(recordOf(job), publicUrl);
}

/** The row that an insert writes, without reading it back. */
export function recordOf(job: NewJob): JobRecord {
  const {
    eventId: _eventId,
    inputText: _inputText,
    pool: _pool,
    runTimeoutMs: _runTimeoutMs,
    idempotency: _idempotency,
    ...columns
  } = job;
  return {
    ...columns,
    status: 'queued',
    outputText: null,
    error: null,
    progress: null,
    resultRunId: null,
    resultType: null,
    resultBytes: null,
    resultSha256: null,
    runCount: 0,
    failureCount: 0,
    sequence: 1,
    isStartUntold: false,
    updatedAt: job.createdAt,
    startedAt: null,
    runId: null,
    runStartedAt: null,
    workerId: null,
    nextRunAt: null,
    cancelRequestedAt: null,
    finishedAt: null,
  };
}
