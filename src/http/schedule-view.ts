import { viewRetry } from '#jobs/read/job-view.ts';
import type { ListedSchedule, ScheduleRecord } from '#jobs/schedule/schedules.ts';

/** A schedule in a list: without its input and the times to come. */
export function viewListedSchedule(schedule: ListedSchedule) {
  return {
    id: schedule.id,
    name: schedule.name,
    cron: schedule.cron,
    time_zone: schedule.timeZone,
    overlap: schedule.overlap,
    misfire: schedule.misfire,
    paused: schedule.paused,
    job: viewScheduledJob(schedule),
    next_fire_at: schedule.nextFireAt,
    last_fire_at: schedule.lastFireAt,
    last_job_id: schedule.lastJobId,
    overlap_skips: schedule.overlapSkips,
    ...(schedule.lastError && { last_error: schedule.lastError }),
    created_at: schedule.createdAt,
    updated_at: schedule.updatedAt,
  };
}

/**
 * As JSON, with the input as it was submitted.
 * @param signingSecret shown this once: its callback's endpoint was made with it
 */
export function scheduleJson(schedule: ScheduleRecord, nextTimes: readonly Date[], signingSecret?: string): string {
  const { job, ...view } = viewListedSchedule(schedule);
  const callback = job.callback && { ...job.callback, ...(signingSecret && { signing_secret: signingSecret }) };
  const text = JSON.stringify({ ...job, ...(callback && { callback }) });
  const withInput = `${text.slice(0, -1)},"input":${schedule.inputText}}`;
  return `${JSON.stringify({ ...view, next_times: nextTimes }).slice(0, -1)},"job":${withInput}}`;
}

function viewScheduledJob(schedule: ListedSchedule) {
  const { callbackEndpointId, callbackUrl, callbackEvents } = schedule;
  return {
    type: schedule.type,
    metadata: schedule.metadata,
    priority: schedule.priority,
    ...(schedule.timeoutMs !== null && { timeout_ms: schedule.timeoutMs }),
    ...(schedule.retry && { retry: viewRetry(schedule.retry) }),
    ...(callbackEndpointId &&
      callbackUrl &&
      callbackEvents && {
        callback: { endpoint_id: callbackEndpointId, url: callbackUrl, events: [...callbackEvents] },
      }),
  };
}
