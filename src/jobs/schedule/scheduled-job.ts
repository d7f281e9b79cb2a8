import type { Refusal, Result } from '#domain/problem.ts';
import type { NewJob } from '#store/jobs.ts';
import type { ScheduledWork } from '#store/schedules.ts';
import type { JobTypes } from '../type/job-types.ts';
import { toNewJob } from '../submit/submission.ts';

/**
 * A job of a schedule, or why there can be none: its type may have gone since the schedule was made, or may take the input
 * no more.
 * @param scheduledFor null when it is triggered by hand
 */
export async function toScheduledJob(
  types: JobTypes,
  work: ScheduledWork,
  occasion: { now: Date; scheduledFor: Date | null },
): Promise<Result<NewJob>> {
  const { accountId, id: scheduleId, type, inputText, metadata, priority, timeoutMs, retry } = work;
  const submission = {
    type,
    input: JSON.parse(inputText) as unknown,
    inputText,
    metadata,
    priority,
    timeout_ms: timeoutMs ?? undefined,
    retry: retry ?? undefined,
  };
  const made = await toNewJob(types, accountId, submission, { ...occasion, scheduleId });
  if (!made.ok) return belowJob(made);
  const { callbackEndpointId, callbackUrl, callbackEvents } = work;
  return { ok: true, value: { ...made.value, callbackEndpointId, callbackUrl, callbackEvents } };
}

/** The refusal of a submission, its places those of a schedule's body. */
export function belowJob({ faults, ...refusal }: Refusal): Refusal {
  return { ...refusal, ...(faults && { faults: faults.map((fault) => ({ ...fault, path: `/job${fault.path}` })) }) };
}
