import type { Clock } from '#domain/clock.ts';
import type { Logger } from '#log.ts';
import type { Database } from '#store/database.ts';
import { type ComingSchedule, listComingSchedules, moveNextFire, type ScheduleRef } from '#store/schedules.ts';
import { parseCron } from './cron.ts';

interface CorrectionDeps {
  readonly db: Database;
  readonly clock: Clock & { readonly steps: number };
  readonly log: Logger;
}

const PAGE = 500;
const EVERY_MS = 3_600_000;
/** A time that another process has just fired, by a clock that is a little ahead of ours, must not come again. */
const TOLERANCE_MS = 60_000;

/**
 * Brings back schedules whose next time is not the next one: they fired, or were made, while the clock was ahead. Looks when the
 * process starts, when the clock has moved, and once an hour.
 */
export class ScheduleCorrection {
  readonly #deps: CorrectionDeps;
  #steps = -1;
  #againAt = 0;

  constructor(deps: CorrectionDeps) {
    this.#deps = deps;
  }

  async run(): Promise<void> {
    const { db, clock } = this.#deps;
    const { steps } = clock;
    if (steps === this.#steps && performance.now() < this.#againAt) return;
    let after: ScheduleRef | undefined;
    do {
      const now = clock.now();
      const page = await listComingSchedules(db, { now, after, limit: PAGE });
      for (const schedule of page) await this.#correct(schedule, now);
      after = page.length === PAGE ? page.at(-1) : undefined;
    } while (after !== undefined);
    this.#steps = steps;
    this.#againAt = performance.now() + EVERY_MS;
  }

  async #correct(schedule: ComingSchedule, now: Date): Promise<void> {
    const to = correctedTime(schedule, now);
    if (to === undefined || !(await moveNextFire(this.#deps.db, schedule, to))) return;
    const { accountId: account_id, id: schedule_id, nextFireAt: was } = schedule;
    this.#deps.log.warn({ account_id, schedule_id, was, next_fire_at: to }, 'schedule was ahead of its time');
  }
}

/** The next time, when the schedule waits for a later one; undefined when it is right. */
export function correctedTime(
  { cron: expression, timeZone, nextFireAt }: Pick<ComingSchedule, 'cron' | 'timeZone' | 'nextFireAt'>,
  now: Date,
): Date | undefined {
  const cron = parseCron(expression, timeZone);
  if (!cron.ok) return undefined;
  const latest = cron.value.next(new Date(now.getTime() + TOLERANCE_MS));
  return latest !== null && nextFireAt > latest ? (cron.value.next(now) ?? undefined) : undefined;
}
