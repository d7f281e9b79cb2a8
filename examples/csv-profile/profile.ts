import { Column } from './column.ts';
import { CsvError, CsvReader, detectDelimiter, type CsvRecord } from './reader.ts';
import { MAX_COLUMNS, MAX_WARNINGS, type CsvProfile, type ProfileOptions } from './schema.ts';

/** About a millisecond of work. Counted in characters, since a row may be 2 or 200,000 of them. */
const STEP_CHARS = 32_768;
/** Distinct values held at once, over all columns: 23 MB, measured at worst. */
const MAX_DISTINCT_HELD = 200_000;
const MAX_DISTINCT = 10_000;
/** Finishing the columns takes about a tenth of the time. */
const READING_SHARE = 0.9;

/**
 * Profiles the columns of a CSV. Pure, and in steps: each yields the share done (0 to 1), so that the caller decides when
 * to let others run and when to stop. Throws CsvError for what cannot be read.
 */
export function* profileSteps(csv: string, options: ProfileOptions): Generator<number, CsvProfile> {
  const delimiter = options.delimiter ?? detectDelimiter(csv);
  const reader = new CsvReader(csv, delimiter, MAX_COLUMNS);
  const rows = new RowCounter();
  const first = nextRow(reader, rows);
  if (!first) throw new CsvError(1, 'there are no records');
  const distinctLimit = Math.min(MAX_DISTINCT, Math.floor(MAX_DISTINCT_HELD / first.fields.length));
  const names = options.header ? first.fields : first.fields.map(() => '');
  const columns = names.map((name, index) => new Column(name, index + 1, distinctLimit));

  let stepEnd = reader.position + STEP_CHARS;
  for (let row = options.header ? nextRow(reader, rows) : first; row; row = nextRow(reader, rows)) {
    rows.add(row, columns.length);
    for (let index = 0; index < columns.length; index++) columns[index]?.add(row.fields[index]);
    if (reader.position < stepEnd) continue;
    yield READING_SHARE * (reader.position / csv.length);
    stepEnd = reader.position + STEP_CHARS;
  }
  return {
    delimiter,
    header: options.header,
    ...rows.result(),
    distinct_limit: distinctLimit,
    columns: yield* finishColumns(columns, options.histogram_bins),
  };
}

/** Blank lines are no rows, even in a file of one column: writers put `""` there, and nearly every file ends in one. */
function nextRow(reader: CsvReader, rows: RowCounter): CsvRecord | undefined {
  let record = reader.next();
  for (; record?.blank; record = reader.next()) rows.blankLines++;
  return record;
}

class RowCounter {
  blankLines = 0;
  #rows = 0;
  #ragged = 0;
  readonly #warnings: CsvProfile['warnings'] = [];

  add(row: CsvRecord, expected: number): void {
    this.#rows++;
    const found = row.fields.length;
    if (found === expected) return;
    this.#ragged++;
    if (this.#warnings.length === MAX_WARNINGS) return;
    this.#warnings.push({ line: row.line, message: `${plural(found, 'field')} where ${expected} are expected` });
  }

  result(): Pick<CsvProfile, 'rows' | 'blank_lines' | 'ragged_rows' | 'warnings'> {
    return { rows: this.#rows, blank_lines: this.blankLines, ragged_rows: this.#ragged, warnings: this.#warnings };
  }
}

function* finishColumns(columns: readonly Column[], bins: number): Generator<number, CsvProfile['columns']> {
  const profiles: CsvProfile['columns'] = [];
  for (const column of columns) {
    const steps = column.finish(bins);
    for (let step = steps.next(); ; step = steps.next()) {
      if (step.done) {
        profiles.push(step.value);
        break;
      }
      yield READING_SHARE + (1 - READING_SHARE) * (profiles.length / columns.length);
    }
  }
  return profiles;
}

function plural(count: number, noun: string): string {
  return `${count} ${noun}${count === 1 ? '' : 's'}`;
}
