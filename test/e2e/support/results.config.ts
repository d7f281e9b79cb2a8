import { z } from 'zod';
import { defineConfig, defineJob, FileResult } from '#jobs/type/define.ts';
import { pseudoRandom } from './pseudo-random.ts';

const bytes = z.int().min(0);

/** Job types whose results are not inline, and one that says what it is told to. */
export default defineConfig({
  jobs: [
    defineJob({
      type: 'files.random',
      input: z.strictObject({
        bytes,
        piece_bytes: z
          .int()
          .min(1)
          .default(64 * 1024),
      }),
      run: ({ input }) => new FileResult(pseudoRandom(input.bytes, input.piece_bytes), 'application/octet-stream'),
    }),
    defineJob({
      type: 'files.text',
      input: z.strictObject({ text: z.string(), content_type: z.string() }),
      run: ({ input }) => new FileResult(Buffer.from(input.text), input.content_type),
    }),
    defineJob({
      type: 'files.broken',
      description: 'Its first run breaks off in the middle of the result.',
      input: z.strictObject({ bytes }),
      retry: { minDelayMs: 0 },
      run: ({ input, run }) => new FileResult(broken(input.bytes, run.number === 1), 'application/octet-stream'),
    }),
    defineJob({
      type: 'files.stuck',
      description: 'Its first run yields so many bytes, then nothing more, and does not listen to its signal.',
      input: z.strictObject({ bytes }),
      timeoutMs: 600_000,
      retry: { minDelayMs: 0 },
      run: ({ input, run }) => new FileResult(stuck(input.bytes, run.number === 1), 'application/octet-stream'),
    }),
    defineJob({
      type: 'values.large',
      input: z.strictObject({ items: z.int() }),
      run: ({ input }) => largeValue(input.items),
    }),
    defineJob({
      type: 'logs.linger',
      input: z.strictObject({}),
      run: ({ log, signal }) => {
        log('info', 'still at it');
        return new Promise((_, reject) => signal.addEventListener('abort', () => reject(signal.reason as Error)));
      },
    }),
    defineJob({
      type: 'logs.say',
      input: z.strictObject({ lines: z.array(z.unknown()), then_fail: z.boolean().default(false) }),
      retry: { minDelayMs: 0 },
      run: ({ input, log, run }) => {
        for (const line of input.lines) log('info', line as string, { run: run.number });
        log('error', 'the end');
        if (input.then_fail && run.number === 1) throw new Error('as told');
      },
    }),
  ],
});

async function* broken(length: number, breaks: boolean): AsyncGenerator<Buffer, void, void> {
  yield* pseudoRandom(length);
  if (breaks) throw new Error('the disk went away');
}

async function* stuck(length: number, hangs: boolean): AsyncGenerator<Buffer, void, void> {
  yield* pseudoRandom(length);
  if (hangs) await new Promise(() => undefined);
}

/** Odd keys and numbers, in an order that no parser would choose. */
export function largeValue(items: number): object {
  return Array.from({ length: items }, (_, n) => ({ z: n, '10': -0.1e-7 * n, a: `ä€😀\u2028"\\ ${n}`, '9': null }));
}
