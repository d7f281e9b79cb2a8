import type { CellKind } from './schema.ts';

/**
 * What one cell looks like. Only spellings with one meaning are typed: 01/02/2024, 1,5 and 007 stay text, for nobody can
 * say which month, whether one and a half, or whether the zeros matter.
 */
export interface Cell {
  readonly kind: CellKind;
  /** The number, or milliseconds since 1970 for dates; 0 for the others. */
  readonly value: number;
}

const INTEGER = /^[+-]?(?:0|[1-9]\d*)$/;
const NUMBER = /^[+-]?(?:(?:0|[1-9]\d*)(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d{1,4})?$/;
const DATE = /^(\d{4})-(\d\d)-(\d\d)$/;
const DATETIME = /^(\d{4})-(\d\d)-(\d\d)[T ](\d\d):(\d\d)(?::(\d\d)(\.\d{1,9})?)?(Z|[+-]\d\d:?\d\d)?$/;

/** No typed spelling is longer: saves matching a megabyte of digits. */
const MAX_TYPED_CHARS = 64;
/** Squares and sums of numbers up to here stay finite, so that no statistic can become Infinity, which JSON lacks. */
const MAX_MAGNITUDE = 1e150;
const FOUR_CENTURIES_MS = 146_097 * 86_400_000;
const DAYS_IN_MONTH = [31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] as const;

const TEXT: Cell = { kind: 'text', value: 0 };
const BOOLEAN: Cell = { kind: 'boolean', value: 0 };

/** `text` is trimmed and not empty. */
export function classify(text: string): Cell {
  if (text.length > MAX_TYPED_CHARS) return TEXT;
  if (!startsLikeNumber(text.charCodeAt(0))) return isBoolean(text) ? BOOLEAN : TEXT;
  return asNumber(text) ?? asDate(text) ?? TEXT;
}

function startsLikeNumber(code: number): boolean {
  return (code >= 0x30 && code <= 0x39) || code === 0x2b || code === 0x2d || code === 0x2e;
}

function isBoolean(text: string): boolean {
  if (text.length > 5) return false;
  const word = text.toLowerCase();
  return word === 'true' || word === 'false' || word === 'yes' || word === 'no';
}

function asNumber(text: string): Cell | undefined {
  if (!NUMBER.test(text)) return undefined;
  const value = Number(text);
  if (Math.abs(value) > MAX_MAGNITUDE) return undefined;
  // Past 2^53 a double no longer tells neighbours apart, so such a value is a number but not a trustworthy integer.
  const kind = INTEGER.test(text) && Number.isSafeInteger(value) ? 'integer' : 'number';
  return { kind, value };
}

function asDate(text: string): Cell | undefined {
  const date = DATE.exec(text);
  if (date) return temporal('date', dayStart(Number(date[1]), Number(date[2]), Number(date[3])), 0);
  const match = DATETIME.exec(text);
  if (!match) return undefined;
  const [, year, month, day, hour, minute, second = '0', fraction = '0', zone] = match;
  if (Number(hour) > 23 || Number(minute) > 59 || Number(second) > 59) return undefined;
  const seconds = Number(hour) * 3600 + Number(minute) * 60 + Number(second) + Number(fraction);
  const offset = offsetSeconds(zone);
  if (offset === undefined) return undefined;
  return temporal('datetime', dayStart(Number(year), Number(month), Number(day)), (seconds - offset) * 1000);
}

function temporal(kind: 'date' | 'datetime', day: number | undefined, ms: number): Cell | undefined {
  return day === undefined ? undefined : { kind, value: day + Math.round(ms) };
}

/** Undefined for a day that the calendar lacks. */
function dayStart(year: number, month: number, day: number): number | undefined {
  const leap = year % 4 === 0 && (year % 100 !== 0 || year % 400 === 0);
  const days = month === 2 && leap ? 29 : (DAYS_IN_MONTH[month - 1] ?? 0);
  if (day < 1 || day > days) return undefined;
  // Date.UTC takes the years 0 to 99 for 1900 to 1999; four centuries later the calendar is the same.
  return Date.UTC(year + 400, month - 1, day) - FOUR_CENTURIES_MS;
}

/** A time without a zone is taken as UTC. Undefined when the offset is none that a clock can have. */
function offsetSeconds(zone: string | undefined): number | undefined {
  if (zone === undefined || zone === 'Z') return 0;
  const hours = Number(zone.slice(1, 3));
  const minutes = Number(zone.slice(-2));
  if (hours > 18 || minutes > 59) return undefined;
  return (zone[0] === '-' ? -1 : 1) * (hours * 3600 + minutes * 60);
}
