import { setTimeout as sleep } from 'node:timers/promises';
import { z } from 'zod';
import { type AnyJobDefinition, defineJob } from './define.ts';

/** Job types for trying out and testing an installation. */
export const diagnosticJobs: readonly AnyJobDefinition[] = [
  defineJob({
    type: 'ringback.echo',
    description: 'Returns its input.',
    input: z.unknown(),
    run: ({ input }) => input,
  }),
  defineJob({
    type: 'ringback.sleep',
    description: 'Waits for so many milliseconds.',
    input: z.strictObject({ ms: z.int().min(0).max(3_600_000) }),
    timeoutMs: 3_660_000,
    run: async ({ input, signal }) => {
      await sleep(input.ms, undefined, { signal });
      return { slept_ms: input.ms };
    },
  }),
  defineJob({
    type: 'ringback.fail',
    description: 'Fails in its first runs, as many as asked, then succeeds.',
    input: z.strictObject({ times: z.int().min(0).max(100) }),
    run: ({ input, run }) => {
      if (run.number <= input.times) throw new Error(`run ${run.number} of ${input.times} that fail`);
      return { runs: run.number };
    },
  }),
];
