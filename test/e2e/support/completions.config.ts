import { defineConfig, defineJob } from 'ringback';
import { z } from 'zod';

/** Where the test's own back end listens. */
// oxlint-disable-next-line node/no-process-env -- a ringback.config.ts may
const url = process.env['TEST_BACKEND_URL'] ?? '';
const retry = { maxRuns: 2, minDelayMs: 50, jitter: 0 };

export default defineConfig({
  jobs: [
    defineJob({ type: 'test.later', input: z.unknown(), backend: { url }, retry }),
    defineJob({ type: 'test.sum', input: z.unknown(), output: z.strictObject({ sum: z.number() }), backend: { url } }),
  ],
});
