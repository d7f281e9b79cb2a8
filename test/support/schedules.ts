import { z } from 'zod';
import type { AccountId, ScheduleId } from '#domain/ids.ts';
import { createGuard } from '#egress/guard.ts';
import type { ScheduleRecord } from '#store/schedules.ts';
import { CallbackTargets } from '../../src/jobs/submit/callback-targets.ts';
import { type AnyJobDefinition, defineJob } from '../../src/jobs/type/define.ts';
import { fireSchedules, type FiringDeps } from '../../src/jobs/schedule/fire-schedules.ts';
import { JobTypes } from '../../src/jobs/type/job-types.ts';
import { Obstacles } from '../../src/jobs/schedule/obstacles.ts';
import { noteOverdueSchedules, reviveSchedules } from '../../src/jobs/schedule/tend-schedules.ts';
import type { NewSchedule } from '../../src/jobs/schedule/schedule-request.ts';
import { Schedules, type SchedulesDeps } from '../../src/jobs/schedule/schedules.ts';
import type { TestDatabase } from './database.ts';
import { accepted, SECRET_KEYS } from './fixtures.ts';
import { type LogLine, memoryLog } from './log.ts';
import { ALLOW_LOOPBACK } from './workers.ts';

/** For tests of schedules: the clock is theirs, and nothing fires but when they say so. */

/** Takes an object with a whole number `n`, or null. */
export const numbered = defineJob({
  type: 'test.numbered',
  input: z.strictObject({ n: z.int() }).nullable(),
  timeoutMs: 10_000,
  run: () => null,
});

export function makeSchedules(
  { db }: Pick<TestDatabase, 'db'>,
  jobs: readonly AnyJobDefinition[] = [numbered],
  changes: Partial<SchedulesDeps> = {},
): Schedules {
  const targets = new CallbackTargets({ db, guard: createGuard({ policy: ALLOW_LOOPBACK }) });
  return new Schedules({
    db,
    types: new JobTypes(jobs),
    targets,
    keys: SECRET_KEYS,
    admission: { admit: () => Promise.resolve(undefined) },
    publicUrl: 'https://ringback.test',
    announceRuns: () => undefined,
    announceDeliveries: () => undefined,
    eventsWritten: () => undefined,
    ...changes,
  });
}

/** A schedule of every hour, made at that time, unless changed. */
export async function makeSchedule(
  database: Pick<TestDatabase, 'db'>,
  accountId: AccountId,
  now: Date,
  changes: Partial<NewSchedule> = {},
): Promise<ScheduleRecord> {
  const request = { name: 'every hour', cron: '@hourly', job: { type: 'test.numbered', input: { n: 1 } }, ...changes };
  return accepted(await makeSchedules(database).create(accountId, request, now)).schedule;
}

export interface Keeper {
  readonly fire: (now: Date) => Promise<void>;
  /** Says on record what is overdue, and takes up what was ended. */
  readonly tend: (now: Date) => Promise<void>;
  readonly lines: readonly LogLine[];
  readonly woken: string[];
}

/** A keeper that knows these job types. */
export function makeKeeper(
  { db }: Pick<TestDatabase, 'db'>,
  jobs: readonly AnyJobDefinition[] = [numbered],
  changes: Partial<FiringDeps> = {},
): Keeper {
  const { log, lines } = memoryLog();
  const woken: string[] = [];
  const types = new JobTypes(jobs);
  const announceRuns = (pool: string) => void woken.push(pool);
  const nobody = { announceDeliveries: () => undefined, eventsWritten: () => undefined };
  const obstacles = new Obstacles(types, log);
  const deps = { db, types, log, obstacles, publicUrl: 'https://ringback.test', announceRuns, ...nobody, ...changes };
  const tend = async (now: Date) => {
    await noteOverdueSchedules(deps, now);
    await reviveSchedules(deps, now);
  };
  return { fire: (now) => fireSchedules(deps, now), tend, lines, woken };
}

/** The jobs of a schedule, by the time they are for. */
export async function jobsOf({ sql }: TestDatabase, { id }: { readonly id: ScheduleId }) {
  return sql<Array<{ id: string; status: string; scheduledFor: Date | null; createdAt: Date; queued: boolean }>>`
    SELECT job.id, status, scheduled_for AS "scheduledFor", job.created_at AS "createdAt",
      EXISTS (SELECT FROM ringback.run_queue AS item WHERE item.account_id = job.account_id AND item.job_id = job.id)
        AS queued
    FROM ringback.jobs AS job WHERE job.schedule_id = ${id} ORDER BY scheduled_for, job.id`;
}

/** The times that a schedule's jobs are for, as ISO 8601 to the minute. */
export async function timesOf(database: TestDatabase, schedule: { readonly id: ScheduleId }): Promise<string[]> {
  const jobs = await jobsOf(database, schedule);
  return jobs.map(({ scheduledFor }) => scheduledFor?.toISOString().slice(0, 16) ?? 'by hand');
}
