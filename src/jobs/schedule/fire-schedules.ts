import type { AccountId } from '#domain/ids.ts';
import type { Logger } from '#log.ts';
import { type Database, isUnavailable } from '#store/database.ts';
import { insertJobs, type NewJob } from '#store/jobs.ts';
import { advanceSchedules, findDueSchedules, lockDueSchedules, type ScheduleRef } from '#store/schedules.ts';
import { isContended } from '#store/transient.ts';
import { decideFiring, type Fired, withoutJobs } from './decide-firing.ts';
import type { Obstacles } from './obstacles.ts';
import { toStorableJob, viewSubmitted } from '../submit/submission.ts';
import type { JobTypes } from '../type/job-types.ts';

export interface FiringDeps {
  readonly db: Database;
  readonly types: JobTypes;
  /** The process's own, for as long as it lives. */
  readonly obstacles: Obstacles;
  readonly log: Logger;
  readonly publicUrl: string;
  /** Called after the commit of jobs that somebody is to be told of. */
  readonly announceDeliveries: () => void;
  /** Called after the commit of jobs that are ready in that pool. */
  readonly announceRuns: (pool: string) => void;
  /** Called after the commit of jobs, for who follows the events of these accounts. */
  readonly eventsWritten: (accountIds: readonly AccountId[]) => void;
}

/** Schedules of one transaction: each may bring an input of a megabyte. */
const BATCH = 20;
const MAX_STATEMENT_CHARACTERS = 8 * 1024 * 1024;

/**
 * Submits the jobs of the schedules whose time has come. Jobs and next time are written in one transaction, under the
 * schedule's lock: any number of keepers may do this at once, each time fires once, and one who dies leaves the time to the
 * others.
 */
export async function fireSchedules(deps: FiringDeps, now: Date): Promise<void> {
  try {
    while ((await fireBatch(deps, now, { limit: BATCH })) === BATCH);
  } catch (error) {
    if (isUnavailable(error)) throw error;
    // The database refused something: whatever it is must not keep the others from their times.
    deps.log.error({ err: error }, 'schedules could not be fired together');
    const except = deps.obstacles.at(now);
    for (const only of await findDueSchedules(deps.db, { now, limit: BATCH, except })) await fireAlone(deps, now, only);
  }
}

async function fireAlone(deps: FiringDeps, now: Date, only: ScheduleRef): Promise<void> {
  try {
    await fireBatch(deps, now, { limit: 1, only });
  } catch (error) {
    if (isUnavailable(error)) throw error;
    const { accountId: account_id, id: schedule_id } = only;
    // It stays due.
    if (isContended(error)) return deps.log.warn({ err: error, account_id, schedule_id }, 'schedule is fired later');
    deps.log.error({ err: error, account_id, schedule_id }, 'schedule could not be fired');
    await fireBatch(deps, now, { limit: 1, only, without: 'The job could not be stored; the log says why.' });
  }
}

interface Batch {
  readonly limit: number;
  readonly only?: ScheduleRef;
  /** Moves on without a job, for this reason. */
  readonly without?: string;
}

/** Returns how many schedules it has looked at: those it leaves to others are passed over by the next look. */
async function fireBatch(deps: FiringDeps, now: Date, { limit, only, without }: Batch): Promise<number> {
  const { fired, isToTell, looked } = await deps.db.transaction(async (tx) => {
    const due = await lockDueSchedules(tx, { now, limit, only, except: deps.obstacles.at(now) });
    const decisions = await Promise.all(due.map((schedule) => decideFiring(schedule, now, deps)));
    const decided = decisions.filter((decision) => decision !== undefined);
    if (decided.length === 0) return { fired: [], isToTell: false, looked: due.length };
    const all = without === undefined ? decided : decided.map((each) => withoutJobs(each, without));
    const [jobs, advances] = [all.flatMap((each) => each.jobs), all.map(({ advance }) => advance)];
    let anyToTell = false;
    for (const part of inParts(jobs)) {
      const submitted = part.map((job) => toStorableJob(job, viewSubmitted(job, deps.publicUrl)));
      anyToTell = (await insertJobs(tx, submitted)).isToTell || anyToTell;
    }
    await advanceSchedules(tx, advances, now);
    return { fired: all, isToTell: anyToTell, looked: due.length };
  });
  const submitted = fired.flatMap(({ jobs }) => jobs);
  for (const pool of new Set(submitted.map((job) => job.pool))) deps.announceRuns(pool);
  if (isToTell) deps.announceDeliveries();
  deps.eventsWritten(submitted.map(({ accountId }) => accountId));
  for (const each of fired) logFired(each, now, deps.log);
  return looked;
}

/** A hundred times that are made up for, each with a large input, are more than one statement should carry. */
function inParts(jobs: readonly NewJob[]): NewJob[][] {
  const parts: NewJob[][] = [];
  let characters = Number.POSITIVE_INFINITY;
  for (const job of jobs) {
    characters += job.inputText.length;
    if (characters > MAX_STATEMENT_CHARACTERS) {
      parts.push([]);
      characters = job.inputText.length;
    }
    parts.at(-1)!.push(job);
  }
  return parts;
}

function logFired({ schedule, jobs, advance, leftOut }: Fired, now: Date, log: Logger): void {
  const { lastError, overlapSkips } = advance;
  log[lastError === null && leftOut === null ? 'info' : 'warn'](
    {
      account_id: schedule.accountId,
      schedule_id: schedule.id,
      type: schedule.type,
      jobs: jobs.length,
      ...(jobs.length === 1 && { job_id: jobs[0]!.id }),
      ...(overlapSkips > 0 && { overlap_skips: overlapSkips }),
      ...(leftOut && { misfire: schedule.misfire, left_out_from: leftOut.first, left_out_until: leftOut.last }),
      ...(lastError && { error: lastError.code }),
      late_ms: now.getTime() - schedule.nextFireAt.getTime(),
      next_fire_at: advance.nextFireAt,
    },
    'schedule',
  );
}
