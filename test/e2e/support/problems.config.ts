import { z } from 'zod';
import { defineConfig, defineJob } from '#jobs/define.ts';

/** Job types that some problems need. */
export default defineConfig({
  jobs: [
    defineJob({ type: 'small.input', input: z.unknown(), maxInputBytes: 100, run: () => null }),
    defineJob({
      type: 'remote.number',
      input: z.unknown(),
      output: z.number(),
      retry: { minDelayMs: 0, jitter: 0 },
      remote: true,
    }),
  ],
});
