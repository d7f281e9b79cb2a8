import { setImmediate } from 'node:timers/promises';
import { defineJob, NonRetryableError } from 'ringback';
import { profileSteps } from './csv-profile/profile.ts';
import { CsvError } from './csv-profile/reader.ts';
import { profileInput, profileOutput } from './csv-profile/schema.ts';

/** How long the profile may hold the event loop that it shares with the API and other jobs. */
const TURN_MS = 10;

/** Profiles the columns of an inline CSV: a job that is all CPU, and stays a good neighbour in one process. */
export const csvProfile = defineJob({
  type: 'csv.profile',
  description: 'Profiles the columns of a CSV: types, nulls, distinct values, range, mean, deviation, histogram.',
  input: profileInput,
  output: profileOutput,
  timeoutMs: 120_000,
  run: async ({ input, signal, progress }) => {
    const started = performance.now();
    const { csv, ...options } = input;
    const profile = await inTurns(profileSteps(csv, options), signal, (share) => {
      progress(Math.round(share * 100), share < 0.9 ? 'reading rows' : 'summing up columns');
    }).catch((error: unknown) => {
      // The same text fails the same way again: no run is worth repeating.
      if (error instanceof CsvError) throw new NonRetryableError(error.message, { cause: error });
      throw error;
    });
    return {
      ...profile,
      bytes: Buffer.byteLength(csv),
      duration_ms: Math.round((performance.now() - started) * 10) / 10,
    };
  },
});

/** Runs a stepwise computation to its end, letting timers and sockets in between; rejects with the signal's reason. */
async function inTurns<Result>(
  steps: Generator<number, Result>,
  signal: AbortSignal,
  report: (share: number) => void,
): Promise<Result> {
  let turnStarted = performance.now();
  for (;;) {
    signal.throwIfAborted();
    const step = steps.next();
    if (step.done) return step.value;
    if (performance.now() - turnStarted < TURN_MS) continue;
    report(step.value);
    await setImmediate();
    turnStarted = performance.now();
  }
}
