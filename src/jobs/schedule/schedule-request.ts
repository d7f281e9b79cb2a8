import { type AccountId, newId } from '#domain/ids.ts';
import { FINAL_JOB_EVENT_TYPES } from '#domain/job.ts';
import { type Result } from '#domain/problem.ts';
import type { RetryPolicy } from '#domain/retry.ts';
import type { MisfirePolicy, OverlapPolicy } from '#domain/schedule.ts';
import type { ScheduleRecord } from '#store/schedules.ts';
import type { CallbackRequest } from '../submit/callback-targets.ts';
import { type Cron, parseCron } from './cron.ts';

/** What a schedule's jobs have in common. Null takes away what it had. */
export interface JobMembers {
  readonly input?: unknown;
  /** The input as it was sent. Left out: as `JSON.stringify` writes it. */
  readonly inputText?: string | undefined;
  readonly metadata?: Readonly<Record<string, string>> | undefined;
  readonly callback?: CallbackRequest | null | undefined;
  readonly priority?: number | undefined;
  readonly timeout_ms?: number | null | undefined;
  readonly retry?: Partial<RetryPolicy> | null | undefined;
}

interface Policies {
  readonly overlap?: OverlapPolicy | undefined;
  readonly misfire?: MisfirePolicy | undefined;
}

/** What a client asks for; the shape is checked already. */
export interface NewSchedule extends Policies {
  readonly name: string;
  readonly cron: string;
  readonly time_zone?: string | undefined;
  readonly job: JobMembers & { readonly type: string };
  readonly paused?: boolean | undefined;
}

/** What is left out stays as it is. */
export interface ScheduleChanges extends Policies {
  readonly cron?: string | undefined;
  readonly time_zone?: string | undefined;
  readonly job?: JobMembers | undefined;
}

/** The row that a request asks for; where its callback goes has yet to be found. */
export function newSchedule(accountId: AccountId, request: NewSchedule, now: Date): Result<ScheduleRecord> {
  const { name, job, overlap = 'allow', misfire = 'fire_once', paused = false } = request;
  const cron = parseCron(request.cron, request.time_zone ?? 'UTC');
  if (!cron.ok) return cron;
  const { expression, timeZone, next } = cron.value;
  const schedule: ScheduleRecord = {
    accountId,
    id: newId('sch', now.getTime()),
    name,
    cron: expression,
    timeZone,
    overlap,
    misfire,
    type: job.type,
    inputText: 'null',
    metadata: {},
    ...NO_CALLBACK,
    priority: 0,
    timeoutMs: null,
    retry: null,
    ...columnsOf(job),
    paused,
    nextFireAt: paused ? null : next(now),
    lastFireAt: null,
    lastJobId: null,
    overlapSkips: 0,
    lastError: null,
    createdAt: now,
    updatedAt: now,
  };
  return { ok: true, value: schedule };
}

/** The row with what a request changes. The next time is worked out anew when the expression or the time zone changes. */
export function changedSchedule(before: ScheduleRecord, changes: ScheduleChanges, now: Date): Result<ScheduleRecord> {
  const { overlap = before.overlap, misfire = before.misfire, job = {} } = changes;
  const cron = parseCron(changes.cron ?? before.cron, changes.time_zone ?? before.timeZone);
  if (!cron.ok) return cron;
  const { expression, timeZone } = cron.value;
  const keepsTime = expression === before.cron && timeZone === before.timeZone && before.nextFireAt !== null;
  const nextFireAt = keepsTime ? before.nextFireAt : nextFireOf(cron.value, before, now);
  const schedule: ScheduleRecord = {
    ...before,
    ...columnsOf(job),
    cron: expression,
    timeZone,
    overlap,
    misfire,
    nextFireAt: before.paused ? null : nextFireAt,
    // What was wrong may be right now: its next time will tell.
    lastError: null,
  };
  return { ok: true, value: schedule };
}

export function pausedSchedule(before: ScheduleRecord): ScheduleRecord {
  return before.paused ? before : { ...before, paused: true, nextFireAt: null };
}

/** Goes on with the first time after now. Refused while nobody could say when that is, also when it is not paused. */
export function resumedSchedule(before: ScheduleRecord, now: Date): Result<ScheduleRecord> {
  const cron = parseCron(before.cron, before.timeZone);
  if (!cron.ok) return cron;
  if (!before.paused && before.nextFireAt !== null) return { ok: true, value: before };
  return { ok: true, value: { ...before, paused: false, nextFireAt: nextFireOf(cron.value, before, now) } };
}

/** What another process's clock may be ahead of ours. */
const SKEW_MS = 60_000;

/**
 * Also after what fired last: a keeper's clock may be a little ahead of ours, and no time may fire twice. One that fired by a
 * clock that was wrong is no reason to wait until then.
 */
function nextFireOf(cron: Cron, { lastFireAt }: ScheduleRecord, now: Date): Date | null {
  const aheadMs = lastFireAt === null ? 0 : lastFireAt.getTime() - now.getTime();
  return cron.next(lastFireAt !== null && aheadMs > 0 && aheadMs <= SKEW_MS ? lastFireAt : now);
}

const NO_CALLBACK = { callbackEndpointId: null, callbackUrl: null, callbackEvents: null };

function columnsOf(job: JobMembers): Partial<ScheduleRecord> {
  const { input, inputText = JSON.stringify(input), metadata, callback, priority, timeout_ms: timeoutMs, retry } = job;
  return {
    ...(input !== undefined && { inputText }),
    ...(metadata !== undefined && { metadata }),
    ...(priority !== undefined && { priority }),
    ...(timeoutMs !== undefined && { timeoutMs }),
    ...(retry !== undefined && { retry }),
    ...(callback === null && NO_CALLBACK),
    ...(callback && { callbackEvents: callback.events ?? FINAL_JOB_EVENT_TYPES }),
  };
}
