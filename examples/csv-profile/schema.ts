import { z } from 'zod';

/** What `csv.profile` takes and returns: field names as clients see them. */

export const DELIMITERS = [',', ';', '\t', '|'] as const;

export const CELL_KINDS = ['integer', 'number', 'boolean', 'date', 'datetime', 'text'] as const;

/** At their largest (50 bins of dates, names and values all escapes) so many columns fit the 1 MiB of an output. */
export const MAX_COLUMNS = 128;
const MAX_CSV_CHARS = 8 * 1024 * 1024;
export const MAX_WARNINGS = 20;

const count = z.int().nonnegative();

export const profileInput = z.strictObject({
  /** The file itself. NUL is refused here, before the 202: it means a binary or UTF-16 file, never CSV. */
  csv: z
    .string()
    .min(1)
    .max(MAX_CSV_CHARS)
    .refine((csv) => !csv.includes('\0'), 'contains NUL characters: send the CSV as text'),
  /** Found from the first 64 Ki characters when absent. */
  delimiter: z.enum(DELIMITERS).optional(),
  /** Whether the first record names the columns. */
  header: z.boolean().default(true),
  histogram_bins: z.int().min(2).max(50).default(10),
});

const columnProfile = z.object({
  position: z.int().positive(),
  name: z.string(),
  /** The narrowest type that every cell fits; `text` when they disagree, `empty` when there are none. */
  type: z.enum([...CELL_KINDS, 'empty']),
  /** How many cells look like what: shows the three `n/a` that turned a column of numbers into text. */
  kinds: z.partialRecord(z.enum(CELL_KINDS), count),
  /** Cells that are missing, empty or blank. Words such as NA are text: NA is also Namibia. */
  nulls: count,
  /** Different spellings; a lower bound when `distinct_capped`. */
  distinct: count,
  distinct_capped: z.boolean(),
  /** Numbers as numbers; dates as ISO 8601, in UTC; null for other types. */
  min: z.union([z.number(), z.string()]).nullable(),
  max: z.union([z.number(), z.string()]).nullable(),
  mean: z.number().nullable(),
  /** Of a sample (n - 1), as PostgreSQL's `stddev`. */
  stddev: z.number().nullable(),
  /** Text only, in code points. */
  min_length: count.nullable(),
  max_length: count.nullable(),
  /** The most frequent values, clipped to 60 characters; first come first on a tie. */
  top: z.array(z.object({ value: z.string(), count: count.positive() })).max(5),
  /** Equal widths from min to max; `to` belongs to the next bin, except in the last. */
  histogram: z
    .array(
      z.object({
        from: z.union([z.number(), z.string()]),
        to: z.union([z.number(), z.string()]),
        count,
      }),
    )
    .nullable(),
});

const csvProfileResult = z.object({
  delimiter: z.enum(DELIMITERS),
  header: z.boolean(),
  rows: count,
  blank_lines: count,
  /** Rows with more or fewer fields than there are columns: missing ones count as null, others are ignored. */
  ragged_rows: count,
  /** The first of them. */
  warnings: z.array(z.object({ line: z.int().positive(), message: z.string() })).max(MAX_WARNINGS),
  /** Different values are counted exactly up to here, per column. */
  distinct_limit: count,
  columns: z.array(columnProfile).max(MAX_COLUMNS),
});

export const profileOutput = csvProfileResult.extend({
  /** Of the CSV in UTF-8. */
  bytes: count,
  duration_ms: z.number().nonnegative(),
});

export type Delimiter = (typeof DELIMITERS)[number];
export type CellKind = (typeof CELL_KINDS)[number];
export type ColumnProfile = z.output<typeof columnProfile>;
export type CsvProfile = z.output<typeof csvProfileResult>;
export type ProfileOptions = Omit<z.output<typeof profileInput>, 'csv'>;
