/**
 * Prints utc-offset-transitions.csv: every change of the UTC offset from 1970 to 2037 in a choice of IANA time zones, as
 * Node's own time zone data has them.
 *
 *     node examples/data/make-utc-offset-transitions.ts > examples/data/utc-offset-transitions.csv
 */

const ZONES = [
  'Africa/Cairo',
  'Africa/Johannesburg',
  'Africa/Monrovia',
  'Africa/Tunis',
  'America/Anchorage',
  'America/Argentina/Buenos_Aires',
  'America/Caracas',
  'America/Havana',
  'America/Mexico_City',
  'America/New_York',
  'America/Santiago',
  'America/Sao_Paulo',
  'America/St_Johns',
  'Antarctica/Troll',
  'Asia/Amman',
  'Asia/Dhaka',
  'Asia/Hong_Kong',
  'Asia/Kathmandu',
  'Asia/Pyongyang',
  'Asia/Singapore',
  'Asia/Tehran',
  'Asia/Tokyo',
  'Atlantic/Azores',
  'Australia/Lord_Howe',
  'Australia/Sydney',
  'Europe/Berlin',
  'Europe/Dublin',
  'Europe/Istanbul',
  'Europe/London',
  'Europe/Moscow',
  'Pacific/Apia',
  'Pacific/Auckland',
  'Pacific/Chatham',
  'Pacific/Kiritimati',
];
const FIRST = Date.UTC(1970, 0, 1);
const LAST = Date.UTC(2038, 0, 1);
const SECOND = 1000;
const MINUTE = 60 * SECOND;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;

interface Transition {
  readonly at: number;
  readonly before: number;
  readonly after: number;
}

/** Milliseconds to add to UTC, to the second: Monrovia was 44 min 30 s behind until 1972. */
function offsetReader(timeZone: string): (instant: number) => number {
  const format = new Intl.DateTimeFormat('en-US-u-ca-iso8601-nu-latn', {
    timeZone,
    hourCycle: 'h23',
    year: 'numeric',
    month: 'numeric',
    day: 'numeric',
    hour: 'numeric',
    minute: 'numeric',
    second: 'numeric',
  });
  return (instant) => {
    const part: Record<string, number> = {};
    for (const { type, value } of format.formatToParts(instant)) part[type] = Number(value);
    const { year = 0, month = 0, day = 0, hour = 0, minute = 0, second = 0 } = part;
    return Date.UTC(year, month - 1, day, hour, minute, second) - instant;
  };
}

/** No zone changed its offset and back within a day, so a daily look misses nothing; halving finds the second. */
function transitions(zone: string): Transition[] {
  const offsetAt = offsetReader(zone);
  const found: Transition[] = [];
  for (let start = FIRST; start < LAST; start += DAY) {
    const [before, after] = [offsetAt(start), offsetAt(start + DAY)];
    if (before === after) continue;
    let [low, high] = [start, start + DAY];
    while (high - low > SECOND) {
      const middle = low + Math.floor((high - low) / 2 / SECOND) * SECOND;
      if (offsetAt(middle) === before) low = middle;
      else high = middle;
    }
    found.push({ at: high, before, after });
  }
  return found;
}

function row(zone: string, { at, before, after }: Transition, next: Transition | undefined): string {
  const [from, to] = [new Date(at + before).toISOString(), new Date(at + after).toISOString()];
  const change = (after - before) / MINUTE;
  const direction = change > 0 ? 'forward' : 'back';
  return [
    zone,
    `${new Date(at).toISOString().slice(0, 19)}Z`,
    from.slice(0, 10),
    before / MINUTE,
    after / MINUTE,
    change,
    change > 0,
    next ? (next.at - at) / HOUR : '',
    `"${direction}, from ${from.slice(11, 19)} to ${to.slice(11, 19)}"`,
  ].join(',');
}

function main(): void {
  const columns = 'zone,at_utc,local_date,offset_before_min,offset_after_min,change_min,forward,hours_to_next,clock';
  const rows = ZONES.flatMap((zone) => {
    const all = transitions(zone);
    return all.map((transition, index) => row(zone, transition, all[index + 1]));
  });
  process.stdout.write(`${[columns, ...rows].join('\n')}\n`);
}

main();
