/**
 * The cron syntax that a schedule may use, and no more of it than is documented and tested: every field is read here, and
 * passed on spelled out, so that nothing hangs on what a library happens to accept.
 */

interface Field {
  readonly name: string;
  readonly min: number;
  readonly max: number;
  /** Other words for `min`, `min + 1`, ... */
  readonly words?: readonly string[];
}

const MONTHS = ['JAN', 'FEB', 'MAR', 'APR', 'MAY', 'JUN', 'JUL', 'AUG', 'SEP', 'OCT', 'NOV', 'DEC'];
const DAYS = ['SUN', 'MON', 'TUE', 'WED', 'THU', 'FRI', 'SAT', 'SUN'];
const HOUR: Field = { name: 'hour', min: 0, max: 23 };
const DAY_OF_MONTH: Field = { name: 'day of month', min: 1, max: 31 };
const DAY_OF_WEEK: Field = { name: 'day of week', min: 0, max: 7, words: DAYS };
const FIELDS: readonly Field[] = [
  { name: 'minute', min: 0, max: 59 },
  HOUR,
  DAY_OF_MONTH,
  { name: 'month', min: 1, max: 12, words: MONTHS },
  DAY_OF_WEEK,
];

const NICKNAMES: ReadonlyMap<string, string> = new Map([
  ['@hourly', '0 * * * *'],
  ['@daily', '0 0 * * *'],
  ['@midnight', '0 0 * * *'],
  ['@weekly', '0 0 * * 0'],
  ['@monthly', '0 0 1 * *'],
  ['@yearly', '0 0 1 1 *'],
  ['@annually', '0 0 1 1 *'],
]);

export interface CronFields {
  /** The five fields, spelled out. */
  readonly pattern: string;
  /** True when the hours are named one by one or as a range; false for `*` and for every so many hours. */
  readonly namesHours: boolean;
}

const MAX_LENGTH = 200;

/** Reads an expression; or says what is wrong with each bad field. */
export function readCronFields(expression: string): CronFields | { readonly faults: readonly string[] } {
  if (expression.length > MAX_LENGTH) return { faults: [`may have ${MAX_LENGTH} characters at most`] };
  const text = expression.trim();
  const nickname = NICKNAMES.get(text.toLowerCase());
  if (text.startsWith('@') && nickname === undefined)
    return { faults: [`${shown(text)} is none of ${[...NICKNAMES.keys()].join(', ')}`] };
  const given = (nickname ?? text).split(/\s+/);
  if (text === '' || given.length !== FIELDS.length) {
    const names = FIELDS.map(({ name }) => name).join(', ');
    return { faults: [`must have five fields (${names}), not ${text === '' ? 0 : given.length}`] };
  }
  const read = FIELDS.map((field, index) => ({ field, ...readField(field, given[index]!) }));
  const faults = read.flatMap(({ field, fault }) => (fault === undefined ? [] : [`${field.name}: ${fault}`]));
  if (faults.length > 0) return { faults };
  return { pattern: read.map(({ out }) => out).join(' '), namesHours: !/[*/]/.test(given[1]!) };
}

interface FieldText {
  readonly out?: string;
  readonly fault?: string;
}

function readField(field: Field, text: string): FieldText {
  if (text === '*') return { out: '*' };
  const items = text.toUpperCase().split(',');
  if (items.includes('*')) return { fault: '* stands alone' };
  const values: Array<number | string> = [];
  for (const item of items) {
    const read = readSpecial(field, item) ?? readRange(field, item);
    if (typeof read === 'string') return { fault: read };
    values.push(...read);
  }
  // A step over the hours says "every so many hours": that it is a step must stay visible, see cron.ts.
  if (field === HOUR && text.includes('/')) return { out: text };
  return { out: [...new Set(values)].join(',') };
}

/** `L` the last day of the month, `5L` the last Friday of it, `5#2` the second. */
function readSpecial(field: Field, item: string): string[] | string | undefined {
  if (field === DAY_OF_MONTH && item === 'L') return ['L'];
  if (field !== DAY_OF_WEEK) return undefined;
  const [, day, nth] = /^([A-Z0-9]+?)(L|#.*)$/.exec(item) ?? [];
  if (day === undefined || nth === undefined) return undefined;
  const value = readValue(field, day);
  if (typeof value === 'string') return value;
  if (nth !== 'L' && !/^#[1-5]$/.test(nth)) return `${shown(item)}: # is followed by 1 to 5`;
  return [`${value % 7}${nth}`];
}

/** `5`, `1-5`, and `1-5/2` or `*` with a step. */
function readRange(field: Field, item: string): number[] | string {
  const [, range, step] = /^([^/]*)(?:\/(.*))?$/s.exec(item)!;
  const { min, max } = field;
  const every = step === undefined ? 1 : Number(/^\d{1,2}$/.exec(step)?.[0] ?? 0);
  if (every < 1 || every > max) return `${shown(item)}: a step is a number from 1 to ${max}`;
  // 7 is Sunday once more: every second day of the week is four days, not five.
  const last = field === DAY_OF_WEEK ? 6 : max;
  if (range === '*') return valuesOf(field, min, last, every);
  const [from = '', to, ...rest] = range!.split('-');
  const first = readValue(field, from);
  if (typeof first === 'string') return first;
  if (to === undefined)
    return step === undefined
      ? valuesOf(field, first, first, 1)
      : `${shown(item)}: a step follows * or a range, such as ${first}-${last}/${every}`;
  const end = field === DAY_OF_WEEK && to === 'SUN' && first > 0 ? 7 : readValue(field, to);
  if (typeof end === 'string') return end;
  if (rest.length > 0) return `${shown(item)} is not understood`;
  if (end < first) return `${shown(item)} runs backwards; write it as two ranges`;
  return valuesOf(field, first, end, every);
}

function valuesOf(field: Field, first: number, last: number, every: number): number[] {
  const values = Array.from({ length: Math.floor((last - first) / every) + 1 }, (_, index) => first + index * every);
  return field === DAY_OF_WEEK ? values.map((day) => day % 7) : values;
}

/** A number or a word of the field; or what is wrong. */
function readValue({ min, max, words = [] }: Field, text: string): number | string {
  const word = words.indexOf(text);
  if (word >= 0) return min + word;
  if (!/^\d{1,4}$/.test(text)) return text === '' ? 'a value is missing' : `${shown(text)} is not understood`;
  const value = Number(text);
  return value < min || value > max ? `${value} is not within ${min} to ${max}` : value;
}

function shown(text: string): string {
  return JSON.stringify(text.slice(0, 20));
}
