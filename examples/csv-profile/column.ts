import { classify, type Cell } from './cell.ts';
import { NumberSeries } from './numbers.ts';
import { CELL_KINDS, type CellKind, type ColumnProfile } from './schema.ts';

const TOP_VALUES = 5;
const SHOWN_CHARS = 60;

type Family = 'numeric' | 'temporal' | 'boolean' | 'text';

const FAMILY: Record<CellKind, Family> = {
  integer: 'numeric',
  number: 'numeric',
  date: 'temporal',
  datetime: 'temporal',
  boolean: 'boolean',
  text: 'text',
};

interface Seen {
  readonly value: string;
  readonly cell: Cell;
  count: number;
}

/** One column while its cells arrive. */
export class Column {
  readonly #name: string;
  readonly #position: number;
  readonly #distinctLimit: number;
  readonly #seen = new Map<string, Seen>();
  readonly #kinds: Record<CellKind, number> = { integer: 0, number: 0, boolean: 0, date: 0, datetime: 0, text: 0 };
  #capped = false;
  #nulls = 0;
  #family: Family | undefined;
  #series: NumberSeries | undefined = new NumberSeries();
  #minLength = Infinity;
  #maxLength = 0;

  constructor(name: string, position: number, distinctLimit: number) {
    this.#name = name.trim() === '' ? `column_${position}` : name;
    this.#position = position;
    this.#distinctLimit = distinctLimit;
  }

  add(value: string | undefined): void {
    const seen = value === undefined ? undefined : this.#seen.get(value);
    if (seen) {
      seen.count++;
      return this.#count(seen.value, seen.cell);
    }
    const text = value?.trim();
    if (value === undefined || !text) {
      this.#nulls++;
      return;
    }
    const cell = classify(text);
    if (this.#seen.size < this.#distinctLimit) this.#seen.set(value, { value, cell, count: 1 });
    else this.#capped = true;
    this.#count(value, cell);
  }

  #count(value: string, cell: Cell): void {
    this.#kinds[cell.kind]++;
    const family = FAMILY[cell.kind];
    this.#family ??= family;
    if (family !== this.#family) this.#family = 'text';
    if (this.#family === 'numeric' || this.#family === 'temporal') this.#series?.add(cell.value);
    // Numbers of a column that has proved to be text would be kept for nothing.
    else this.#series = undefined;
    const length = codePoints(value);
    if (length < this.#minLength) this.#minLength = length;
    if (length > this.#maxLength) this.#maxLength = length;
  }

  get #type(): ColumnProfile['type'] {
    if (this.#family === 'numeric') return this.#kinds.number > 0 ? 'number' : 'integer';
    if (this.#family === 'temporal') return this.#kinds.datetime > 0 ? 'datetime' : 'date';
    return this.#family ?? 'empty';
  }

  /** Yields while the histogram is counted. */
  *finish(bins: number): Generator<void, ColumnProfile> {
    const type = this.#type;
    const series = this.#family === undefined ? undefined : this.#series;
    const numeric = this.#family === 'numeric' ? series : undefined;
    const show = (value: number): number | string => (numeric ? value : isoText(value, type));
    const histogram = series ? yield* series.histogram(bins) : null;
    return {
      position: this.#position,
      name: clip(this.#name),
      type,
      kinds: Object.fromEntries(
        CELL_KINDS.filter((kind) => this.#kinds[kind] > 0).map((kind) => [kind, this.#kinds[kind]]),
      ),
      nulls: this.#nulls,
      distinct: this.#seen.size,
      distinct_capped: this.#capped,
      min: series ? show(series.min) : null,
      max: series ? show(series.max) : null,
      mean: numeric ? numeric.mean : null,
      stddev: numeric ? numeric.stddev : null,
      min_length: type === 'text' ? this.#minLength : null,
      max_length: type === 'text' ? this.#maxLength : null,
      top: this.#top(),
      histogram: histogram?.map(({ from, to, count }) => ({ from: show(from), to: show(to), count })) ?? null,
    };
  }

  /** Counts are exact even when capped; what is first met past the cap is not among them. */
  #top(): ColumnProfile['top'] {
    const top: Seen[] = [];
    for (const seen of this.#seen.values()) {
      if (top.length === TOP_VALUES && seen.count <= (top.at(-1)?.count ?? 0)) continue;
      const place = top.findIndex((other) => other.count < seen.count);
      top.splice(place === -1 ? top.length : place, 0, seen);
      top.length = Math.min(top.length, TOP_VALUES);
    }
    return top.map(({ value, count }) => ({ value: clip(value), count }));
  }
}

function isoText(ms: number, type: ColumnProfile['type']): string {
  const text = new Date(ms).toISOString();
  // A bin of dates may begin within a day; only whole days are shown as such.
  return type === 'date' && text.endsWith('T00:00:00.000Z') ? text.slice(0, 10) : text;
}

function codePoints(text: string): number {
  let count = text.length;
  for (let at = 0; at < text.length; at++) {
    const code = text.charCodeAt(at);
    if (code >= 0xd800 && code < 0xdc00) count--;
  }
  return count;
}

/** Half a surrogate pair, from the input or from clipping, is text that PostgreSQL's jsonb refuses. */
function clip(text: string): string {
  return (text.length <= SHOWN_CHARS ? text : `${text.slice(0, SHOWN_CHARS - 1)}…`).toWellFormed();
}
