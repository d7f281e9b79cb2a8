import { defineConfig, defineJob } from 'ringback';
import { z } from 'zod';

/** Where the test's own back end listens. */
// oxlint-disable-next-line node/no-process-env -- a ringback.config.ts may
const url = process.env['TEST_BACKEND_URL'] ?? '';

/** One job type for each way of doing the work. */
export default defineConfig({
  jobs: [
    defineJob({ type: 'test.backend', input: z.unknown(), backend: { url } }),
    defineJob({ type: 'test.query', input: z.unknown(), backend: { url, method: 'GET' } }),
    defineJob({
      type: 'test.typed',
      input: z.unknown(),
      output: z.object({ order: z.number(), note: z.string().default('none') }),
      backend: { url },
    }),
    defineJob({ type: 'test.remote', remote: true, input: z.unknown() }),
    defineJob({ type: 'test.inline', input: z.unknown(), run: ({ input }) => input }),
    defineJob({ type: 'test.thread', isolation: 'thread', input: z.unknown(), run: ({ input }) => input }),
  ],
});
