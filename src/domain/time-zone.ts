import { nearestNames } from './nearest.ts';
import { type Result, refuse } from './problem.ts';

/**
 * Names of three letters that IANA has. The platform knows others, which are not what people take them for: BST is
 * Bangladesh there, IST India.
 */
const SHORT_NAMES = new Set([
  'CET',
  'EET',
  'EST',
  'GMT',
  'HST',
  'MET',
  'MST',
  'PRC',
  'ROC',
  'ROK',
  'UCT',
  'UTC',
  'WET',
]);

/** The zone's name as IANA spells it; or a refusal that names those it may have been meant for. */
export function findTimeZone(name: string): Result<string> {
  const known = spellingOf(name);
  if (known !== undefined) return { ok: true, value: known };
  const near = zonesNear(name);
  const hint = near.length > 0 ? `did you mean ${near.join(' or ')}?` : 'write UTC or a name such as Europe/Berlin';
  const message = `${JSON.stringify(name.slice(0, 100))} is not the name of a time zone; ${hint}`;
  return refuse('invalid_schedule', `The time zone ${message}`, { faults: [{ path: '/time_zone', message }] });
}

function spellingOf(name: string): string | undefined {
  // An offset is no zone: it knows nothing of summer time.
  if (/^[+-]/.test(name) || (/^[a-z]{3}$/i.test(name) && !SHORT_NAMES.has(name.toUpperCase()))) return undefined;
  try {
    const { timeZone } = new Intl.DateTimeFormat('en', { timeZone: name }).resolvedOptions();
    // Another spelling is only put right; another name of the zone stays the one that was chosen.
    return timeZone.toLowerCase() === name.toLowerCase() ? timeZone : name;
  } catch {
    return undefined;
  }
}

/** By the whole name, or by its city alone: people write "New York". */
function zonesNear(name: string): string[] {
  const zones = Intl.supportedValuesOf('timeZone');
  const wanted = name.trim().replaceAll(' ', '_');
  const byCity = new Map(zones.map((zone) => [zone.slice(zone.lastIndexOf('/') + 1), zone]));
  const ofCity = wanted.includes('/') ? [] : nearestNames(wanted, [...byCity.keys()]).map((city) => byCity.get(city)!);
  return [...new Set([...ofCity, ...nearestNames(wanted, zones)])].slice(0, 3);
}

const DAY_MS = 86_400_000;

/**
 * The clocks of a time zone. A wall time is what they show, as the Unix milliseconds at which a clock in UTC shows it.
 * The zone's rules are the platform's.
 */
export class ZoneClock {
  readonly #format: Intl.DateTimeFormat;

  constructor(timeZone: string) {
    const numeric = 'numeric';
    this.#format = new Intl.DateTimeFormat('en-US', {
      timeZone,
      hourCycle: 'h23',
      year: numeric,
      month: numeric,
      day: numeric,
      hour: numeric,
      minute: numeric,
      second: numeric,
    });
  }

  /** @param instant Unix milliseconds, as everywhere here */
  wallAt(instant: number): number {
    // "3/29/2026, 03:00:00", read as it is: `formatToParts` takes four times as long.
    const numbers = this.#format.format(instant).match(/\d+/g) ?? [];
    const [month = 0, day = 0, year = 0, hour, minute, second] = numbers.map(Number);
    const seconds = Date.UTC(year, month - 1, day, hour, minute, second);
    return seconds + (instant - Math.floor(instant / 1000) * 1000);
  }

  /** When the clocks show a time first. One that they skip is shown, as it were, at the moment they jump past it. */
  firstInstantOf(wall: number): number {
    // No zone is a whole day off UTC, and none has changed its clocks twice in two days: one offset before, one after.
    const [before, after] = [this.#offsetAt(wall - DAY_MS), this.#offsetAt(wall + DAY_MS)];
    const candidates = [wall - Math.max(before, after), wall - Math.min(before, after)] as const;
    const shown = candidates.find((instant) => this.wallAt(instant) === wall);
    return shown ?? this.#changeBetween(...candidates);
  }

  #offsetAt(instant: number): number {
    return this.wallAt(instant) - instant;
  }

  /** The first second of the new offset: after `early`, and no later than `late`. */
  #changeBetween(early: number, late: number): number {
    const offset = this.#offsetAt(late);
    let [before, from] = [Math.floor(early / 1000), Math.ceil(late / 1000)];
    while (from - before > 1) {
      const middle = Math.floor((before + from) / 2);
      if (this.#offsetAt(middle * 1000) === offset) from = middle;
      else before = middle;
    }
    return from * 1000;
  }
}
