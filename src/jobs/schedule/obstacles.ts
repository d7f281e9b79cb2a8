import type { ScheduleId } from '#domain/ids.ts';
import type { Refusal } from '#domain/problem.ts';
import { MISFIRE_GRACE_MS } from '#domain/schedule.ts';
import type { Logger } from '#log.ts';
import type { DueSchedule, Unfireable } from '#store/schedules.ts';
import type { JobTypes } from '../type/job-types.ts';
import { parseCron } from './cron.ts';

/** Refusals that another version of a job type need not share. */
const OF_THE_TYPE: ReadonlySet<string> = new Set(['invalid_input', 'input_too_large']);

/**
 * What this process cannot fire, and another one may: job types that it does not know, time zones that its platform lacks,
 * expressions that its version does not read. Learned when such a schedule comes due, and passed over from then on, so that it
 * neither stands before the others nor is looked at every second. It stays due: a roll-out must not cost a schedule its times.
 */
export class Obstacles {
  readonly #types: JobTypes;
  readonly #log: Logger;
  readonly #unknown = { types: new Set<string>(), timeZones: new Set<string>(), crons: new Set<string>() };
  /** Until when schedules are left to others whose input this process refuses; Unix milliseconds. */
  readonly #postponed = new Map<ScheduleId, number>();

  constructor(types: JobTypes, log: Logger) {
    this.#types = types;
    this.#log = log;
  }

  get areNone(): boolean {
    const { types, timeZones, crons } = this.#unknown;
    return types.size + timeZones.size + crons.size === 0;
  }

  /** What claims are to pass over. */
  at(now: Date): Unfireable {
    for (const [id, until] of this.#postponed) if (until <= now.getTime()) this.#postponed.delete(id);
    const { types, timeZones, crons } = this.#unknown;
    return { types: [...types], timeZones: [...timeZones], crons: [...crons], ids: [...this.#postponed.keys()] };
  }

  /** Why this process cannot fire the schedule, ever; undefined when it can try. */
  refusalOf({ type, cron, timeZone }: Pick<DueSchedule, 'type' | 'cron' | 'timeZone'>): Refusal | undefined {
    const known = this.#types.find(type);
    if (!known.ok) {
      this.#learn('types', type, known);
      return known;
    }
    const read = parseCron(cron, timeZone);
    if (read.ok) return undefined;
    if (read.faults?.some(({ path }) => path === '/time_zone')) this.#learn('timeZones', timeZone, read);
    else this.#learn('crons', cron, read);
    return read;
  }

  /** True when the schedule is to be left to others for now, who may know another version of its type. */
  postpones({ id, nextFireAt }: DueSchedule, { code }: Refusal, now: Date): boolean {
    const until = nextFireAt.getTime() + MISFIRE_GRACE_MS;
    if (!OF_THE_TYPE.has(code) || until <= now.getTime()) return false;
    this.#postponed.set(id, until);
    return true;
  }

  #learn(kind: 'types' | 'timeZones' | 'crons', name: string, { code, detail }: Refusal): void {
    if (this.#unknown[kind].has(name)) return;
    this.#unknown[kind].add(name);
    this.#log.warn({ error: code, detail }, 'schedules are left to processes that can fire them');
  }
}
