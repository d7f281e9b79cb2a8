import { defineConfig, defineJob } from 'ringback';
import { z } from 'zod';
import { csvColumns } from '../../../examples/csv-columns.ts';

const quick = { maxRuns: 3, minDelayMs: 50, jitter: 0 };

/** Job types of remote workers; `remote_worker.py` does most of them. */
export default defineConfig({
  jobs: [
    csvColumns,
    defineJob({
      type: 'test.steps',
      remote: true,
      input: z.strictObject({ steps: z.int(), step_ms: z.int() }),
      retry: quick,
    }),
    defineJob({
      type: 'test.flaky',
      remote: true,
      input: z.strictObject({ times: z.int(), how: z.enum(['throw', 'retry', 'never']) }),
      retry: quick,
    }),
    defineJob({
      type: 'test.blob',
      remote: true,
      input: z.strictObject({ bytes: z.int(), content_type: z.string() }),
    }),
    defineJob({
      type: 'test.typed',
      remote: true,
      input: z.unknown(),
      output: z.strictObject({ sum: z.number() }),
      retry: quick,
    }),
    // Nobody but the test itself does these.
    defineJob({ type: 'test.raw', remote: true, input: z.unknown(), timeoutMs: 600_000, retry: quick }),
    defineJob({ type: 'test.other', remote: true, input: z.unknown(), timeoutMs: 600_000, retry: quick }),
    defineJob({ type: 'test.few', remote: true, input: z.unknown(), timeoutMs: 600_000, concurrency: 2 }),
    defineJob({ type: 'test.inline', input: z.unknown(), run: () => null }),
  ],
});
