import { Cron as Croner } from 'croner';
import { type Result, refuse } from '#domain/problem.ts';
import { findTimeZone, ZoneClock } from '#domain/time-zone.ts';
import { type CronFields, readCronFields } from './cron-fields.ts';

/** A cron expression in a time zone. */
export interface Cron {
  /** As it was given, but for the blanks. */
  readonly expression: string;
  /** IANA name. */
  readonly timeZone: string;
  /** The first time after a moment, or null when there is none any more. Whole minutes. */
  readonly next: (after: Date) => Date | null;
}

const MAX_KNOWN = 1000;

/** Those read lately: reading one takes 0.3 ms, most of it for the platform's time zone data. */
const known = new Map<string, Cron>();

/**
 * Reads a cron expression: five fields, or a nickname such as `@daily`. Refuses with `invalid_schedule`, naming the field
 * or the time zone that is wrong, and what never comes due (30 February).
 */
export function parseCron(expression: string, timeZone: string): Result<Cron> {
  const key = JSON.stringify([expression, timeZone]);
  const found = known.get(key);
  if (found !== undefined) return { ok: true, value: found };
  const read = readCron(expression, timeZone);
  if (!read.ok) return read;
  if (known.size >= MAX_KNOWN) known.clear();
  known.set(key, read.value);
  return read;
}

function readCron(expression: string, timeZone: string): Result<Cron> {
  const fields = readCronFields(expression);
  const zone = findTimeZone(timeZone);
  const messages = 'faults' in fields ? fields.faults : neverDue(fields);
  if ('faults' in fields || messages.length > 0 || !zone.ok) {
    const faults = messages.map((message) => ({ path: '/cron', message }));
    const details = faults.map(({ message }) => `The cron expression cannot be used: ${message}.`);
    const ofZone = zone.ok ? { faults: [], detail: '' } : zone;
    const detail = [...details, ofZone.detail].filter(Boolean).join(' ');
    return refuse('invalid_schedule', detail, { faults: [...faults, ...(ofZone.faults ?? [])] });
  }
  const next = fields.namesHours ? byCalendar(fields.pattern, zone.value) : byClock(fields.pattern, zone.value);
  return { ok: true, value: { expression: expression.trim().split(/\s+/).join(' '), timeZone: zone.value, next } };
}

/** The first `count` times after a moment; fewer when there are no more. */
export function nextTimes(cron: Cron, after: Date, count: number): Date[] {
  const times: Date[] = [];
  for (let time = cron.next(after); time !== null && times.length < count; time = cron.next(time)) times.push(time);
  return times;
}

/** Any year will do: the calendar repeats itself. Fifth Fridays of a February are 28 years apart, so look far. */
function neverDue({ pattern }: CronFields): string[] {
  return croner(pattern, 'UTC').nextRun(new Date(0)) === null ? ['it never comes due: there is no such day'] : [];
}

function croner(pattern: string, timezone: string): Croner {
  return new Croner(pattern, { timezone, mode: '5-part' });
}

/**
 * Where hours are named, the calendar counts: each of its times comes once. One that the clocks skip comes as soon as they
 * have jumped past it, one that they show twice comes the first time. croner reads the calendar, in UTC, where there are no
 * jumps; its own rule would leave out a skipped time when the jump leads into the next day, as in Greenland.
 */
function byCalendar(pattern: string, timeZone: string): Cron['next'] {
  const calendar = croner(pattern, 'UTC');
  const clock = new ZoneClock(timeZone);
  return (after) => {
    let wall = calendar.nextRun(new Date(clock.wallAt(after.getTime())));
    while (wall !== null) {
      const instant = clock.firstInstantOf(wall.getTime());
      if (instant > after.getTime()) return new Date(instant);
      wall = calendar.nextRun(wall);
    }
    return null;
  };
}

/** Every hour, or every so many: the clocks count, whatever they show. What they show twice comes twice, what they skip not at all. */
function byClock(pattern: string, timeZone: string): Cron['next'] {
  const clock = croner(pattern, timeZone);
  return (after) => clock.nextRun(after);
}
