import { defineConfig, defineJob } from 'ringback';
import { modeOf, profile, wayInput } from './ways-work.ts';

/** The same work in each of the four ways. */
const retry = { maxRuns: 3, minDelayMs: 50, jitter: 0 };

export default defineConfig({
  jobs: [
    defineJob({
      type: 'way.inline',
      input: wayInput,
      retry,
      run: ({ input, run, signal, progress, log }) => {
        const mode = modeOf(input, run.number);
        log('info', mode);
        progress(10, mode);
        if (mode === 'fail') throw new Error('on purpose');
        if (mode === 'profile') return profile(input.csv, progress);
        return new Promise((_, reject) => {
          signal.addEventListener('abort', () => reject(signal.reason as Error), { once: true });
        });
      },
    }),
    defineJob({
      type: 'way.thread',
      input: wayInput,
      retry,
      isolation: 'thread',
      run: ({ input, run, progress, log }) => {
        const mode = modeOf(input, run.number);
        log('info', mode);
        progress(10, mode);
        if (mode === 'fail') throw new Error('on purpose');
        // It listens to nothing: only its thread's end ends it.
        if (mode === 'hang') for (;;);
        return profile(input.csv, progress);
      },
    }),
    defineJob({
      type: 'way.backend',
      input: wayInput,
      retry,
      backend: { url: process.env['WAYS_BACKEND_URL'] ?? 'http://127.0.0.1:9/', headers: { 'x-api-key': 'secret' } },
    }),
    defineJob({ type: 'way.remote', input: wayInput, retry, remote: true }),
  ],
});
