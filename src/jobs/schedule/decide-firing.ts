import { refuseTarget } from '#domain/callback-target.ts';
import { newId } from '#domain/ids.ts';
import { type Refusal, refuse, type Result } from '#domain/problem.ts';
import { type Firing, planFiring, type ScheduleError } from '#domain/schedule.ts';
import type { Logger } from '#log.ts';
import type { NewJob } from '#store/jobs.ts';
import type { DueSchedule, ScheduleAdvance } from '#store/schedules.ts';
import { parseCron } from './cron.ts';
import type { Obstacles } from './obstacles.ts';
import type { JobTypes } from '../type/job-types.ts';
import { toScheduledJob } from './scheduled-job.ts';

/** What becomes of a schedule whose time has come. */
export interface Fired {
  readonly schedule: DueSchedule;
  readonly jobs: readonly NewJob[];
  readonly advance: ScheduleAdvance;
  readonly leftOut: Firing['leftOut'];
}

interface DecisionDeps {
  readonly types: JobTypes;
  readonly log: Logger;
  readonly obstacles: Obstacles;
}

/** Decides about one schedule; writes nothing. Undefined when it is to stay due, for a process that can fire it. */
export async function decideFiring(schedule: DueSchedule, now: Date, deps: DecisionDeps): Promise<Fired | undefined> {
  if (deps.obstacles.refusalOf(schedule) !== undefined) return undefined;
  const { accountId, id, nextFireAt: due, overlap, hasUnended } = schedule;
  const advance = { accountId, id, nextFireAt: null, lastJobId: null, overlapSkips: 0, lastError: null };
  const cron = parseCron(schedule.cron, schedule.timeZone);
  if (!cron.ok) return undefined;

  const { fire: times, leftOut, next } = planFiring({ due, misfire: schedule.misfire }, now, cron.value.next);
  const wanted = overlap === 'skip' ? times.slice(0, hasUnended ? 0 : 1) : times;
  const moved = { ...advance, nextFireAt: next, overlapSkips: times.length - wanted.length };
  const last = wanted.at(-1);
  if (last === undefined) return { schedule, jobs: [], advance: moved, leftOut };
  const made = await makeJob(schedule, { now, scheduledFor: last }, deps);
  if (!made.ok && deps.obstacles.postpones(schedule, made, now)) return undefined;
  if (!made.ok) return { schedule, jobs: [], advance: { ...moved, lastError: errorOf(made, last) }, leftOut };
  const jobs = wanted.map((time) => againFor(made.value, time));
  return { schedule, jobs, advance: { ...moved, lastJobId: jobs.at(-1)!.id }, leftOut };
}

/** The same, but for a reason of ours without a job. */
export function withoutJobs({ schedule, advance, leftOut }: Fired, reason: string): Fired {
  const lastError = errorOf(refuse('internal_error', reason), schedule.nextFireAt);
  return { schedule, jobs: [], advance: { ...advance, lastJobId: null, lastError }, leftOut };
}

/** A job type's schema is its owner's code: what it throws must not keep other schedules from their times. */
async function makeJob(
  schedule: DueSchedule,
  occasion: { now: Date; scheduledFor: Date },
  { types, log }: DecisionDeps,
): Promise<Result<NewJob>> {
  // It was allowed when the schedule was made: the account's policy may have changed since, or the endpoint.
  const { callbackEndpointId, callbackEndpoint, callbackPolicy } = schedule;
  const refusal =
    callbackEndpointId === null
      ? undefined
      : refuseTarget(callbackPolicy, callbackEndpoint ?? undefined, '/job/callback/endpoint_id');
  if (refusal !== undefined) return refusal;
  try {
    return await toScheduledJob(types, schedule, occasion);
  } catch (error) {
    const { accountId: account_id, id: schedule_id, type } = schedule;
    log.error({ err: error, account_id, schedule_id, type }, 'the job of a schedule could not be made');
    return refuse('internal_error', 'The job could not be made; the log says why.');
  }
}

function againFor(job: NewJob, scheduledFor: Date): NewJob {
  const at = job.createdAt.getTime();
  return { ...job, id: newId('job', at), eventId: newId('evt', at), scheduledFor };
}

const MAX_MESSAGE = 1000;

export function errorOf({ code, detail, faults = [] }: Refusal, scheduledFor: Date): ScheduleError {
  const message = [detail, ...faults.map((fault) => `${fault.path} ${fault.message}`)].join(' ').slice(0, MAX_MESSAGE);
  return { code, message, scheduled_for: scheduledFor.toISOString() };
}
