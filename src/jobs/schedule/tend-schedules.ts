import { MISFIRE_GRACE_MS } from '#domain/schedule.ts';
import type { Logger } from '#log.ts';
import type { Database } from '#store/database.ts';
import { findEndedSchedules, findOverdueSchedules, noteOverdue, reviveSchedule } from '#store/schedules.ts';
import { parseCron } from './cron.ts';
import { errorOf } from './decide-firing.ts';
import type { Obstacles } from './obstacles.ts';

interface TendingDeps {
  readonly db: Database;
  readonly log: Logger;
  readonly obstacles: Obstacles;
}

const BATCH = 100;

/**
 * Says on record why schedules have not fired: nobody could for longer than a time may be late. They stay due, and their
 * times are missed ones for whoever can fire them one day.
 */
export async function noteOverdueSchedules({ db, log, obstacles }: TendingDeps, now: Date): Promise<void> {
  if (obstacles.areNone) return;
  const before = new Date(now.getTime() - MISFIRE_GRACE_MS);
  for (const schedule of await findOverdueSchedules(db, { before, among: obstacles.at(now), limit: BATCH })) {
    const refusal = obstacles.refusalOf(schedule);
    if (refusal === undefined) continue;
    const { code, message, scheduled_for } = errorOf(refusal, schedule.nextFireAt);
    const waits = `${message} The schedule waits for a process that can fire it; its times are missed until then.`;
    if (!(await noteOverdue(db, schedule, { code, message: waits, scheduled_for }))) continue;
    const { accountId: account_id, id: schedule_id, type } = schedule;
    log.warn(
      { account_id, schedule_id, type, error: code, scheduled_for },
      'schedule could not be fired by any process',
    );
  }
}

/** Takes schedules up again that are not paused and have no next time: earlier versions ended those whose time zone they lacked. */
export async function reviveSchedules({ db, log }: Pick<TendingDeps, 'db' | 'log'>, now: Date): Promise<void> {
  for (const schedule of await findEndedSchedules(db, BATCH)) {
    const cron = parseCron(schedule.cron, schedule.timeZone);
    const next = cron.ok ? cron.value.next(now) : null;
    if (next === null || !(await reviveSchedule(db, schedule, next))) continue;
    const { accountId: account_id, id: schedule_id } = schedule;
    log.warn({ account_id, schedule_id, next_fire_at: next }, 'schedule goes on');
  }
}
