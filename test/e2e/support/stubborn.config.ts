import { z } from 'zod';
import { defineConfig, defineJob } from '#jobs/define.ts';

/** A job type whose handler does not listen when it is told to stop. */
export default defineConfig({
  jobs: [
    defineJob({
      type: 'stubborn.wait',
      input: z.strictObject({ ms: z.int() }),
      run: ({ input }) => new Promise((resolve) => void setTimeout(() => resolve(input.ms), input.ms)),
    }),
  ],
});
