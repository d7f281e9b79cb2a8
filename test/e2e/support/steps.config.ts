import { setTimeout as pause } from 'node:timers/promises';
import { z } from 'zod';
import { defineConfig, defineJob } from '#jobs/type/define.ts';

/** A job type that says how far it is, step by step, and fails in its first runs if told so; and one that nobody does. */
export default defineConfig({
  jobs: [
    defineJob({
      type: 'test.steps',
      input: z.strictObject({ steps: z.int(), every_ms: z.int(), failures: z.int().default(0) }),
      retry: { minDelayMs: 10, jitter: 0 },
      run: async ({ input, progress, run, signal }) => {
        if (run.number <= input.failures) throw new Error('as told');
        for (let step = 1; step <= input.steps; step++) {
          progress((100 * step) / input.steps, `step ${step}`);
          await pause(input.every_ms, undefined, { signal });
        }
        return { steps: input.steps };
      },
    }),
    // There is no worker that does it.
    defineJob({ type: 'test.undone', remote: true, input: z.unknown() }),
  ],
});
