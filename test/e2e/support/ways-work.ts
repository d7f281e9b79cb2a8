import { z } from 'zod';
import { profileSteps } from '../../../examples/csv-profile/profile.ts';
import { profileInput } from '../../../examples/csv-profile/schema.ts';

/** The work that every way does in the tests: a CSV's profile, or something that goes wrong on purpose. */
export const wayInput = z.strictObject({
  csv: z.string(),
  /** `hang` never ends by itself; `hang_once` hangs in its first run; `flaky` fails in its first run. */
  mode: z.enum(['profile', 'hang', 'hang_once', 'flaky']).default('profile'),
});
export type WayInput = z.input<typeof wayInput>;

/** What this run is to do. */
export function modeOf({ mode = 'profile' }: WayInput, runNumber: number): 'profile' | 'hang' | 'fail' {
  if (mode === 'hang' || (mode === 'hang_once' && runNumber === 1)) return 'hang';
  return mode === 'flaky' && runNumber === 1 ? 'fail' : 'profile';
}

/** Rows and columns of the CSV, and how far it is in between. */
export function profile(csv: string, report: (percent: number) => void): { rows: number; columns: number } {
  const { csv: _csv, ...options } = profileInput.parse({ csv });
  const steps = profileSteps(csv, options);
  for (;;) {
    const step = steps.next();
    if (step.done) return { rows: step.value.rows, columns: step.value.columns.length };
    report(Math.round(step.value * 100));
  }
}
