import { defineJob } from 'ringback';
import { z } from 'zod';

const common = { name: z.string(), count: z.int(), empty: z.int() };
const column = z.discriminatedUnion('type', [
  z.strictObject({ ...common, type: z.literal('number'), min: z.number(), max: z.number(), mean: z.number() }),
  z.strictObject({ ...common, type: z.literal('text'), min: z.string().nullable(), max: z.string().nullable() }),
]);

/** Sums up the columns of a CSV, in a worker that need not know this language: `examples/worker.py` does it in Python. */
export const csvColumns = defineJob({
  type: 'csv.columns',
  description: 'Sums up the columns of a CSV: numbers or text, empty cells, range, mean.',
  remote: true,
  input: z.strictObject({ csv: z.string().min(1), delimiter: z.string().length(1).default(',') }),
  output: z.strictObject({ rows: z.int(), columns: z.array(column) }),
  timeoutMs: 120_000,
});
