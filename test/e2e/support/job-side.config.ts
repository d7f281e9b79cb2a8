import { setTimeout as sleep } from 'node:timers/promises';
import { z } from 'zod';
import { defineConfig, defineJob } from '#jobs/type/define.ts';

/** Job types that behave as the diagnostic ones do not. */
export default defineConfig({
  jobs: [
    defineJob({
      type: 'stubborn.wait',
      description: 'Does not listen when it is told to stop.',
      input: z.strictObject({ ms: z.int() }),
      run: ({ input }) => new Promise((resolve) => void setTimeout(() => resolve(input.ms), input.ms)),
    }),
    defineJob({
      type: 'limited.sleep',
      description: 'Two at once, wherever they run.',
      input: z.strictObject({ ms: z.int() }),
      concurrency: 2,
      run: ({ input, signal }) => sleep(input.ms, null, { signal }),
    }),
    defineJob({
      type: 'small.input',
      description: 'Takes no more than 100 bytes.',
      input: z.unknown(),
      maxInputBytes: 100,
      run: () => null,
    }),
    defineJob({
      type: 'remote.number',
      description: 'Done by whoever claims it; a number comes of it.',
      input: z.unknown(),
      output: z.number(),
      retry: { minDelayMs: 0, jitter: 0 },
      remote: true,
    }),
    defineJob({ type: 'remote.file', description: 'Whatever comes of it.', input: z.unknown(), remote: true }),
  ],
});
