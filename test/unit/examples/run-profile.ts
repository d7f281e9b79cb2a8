import type { z } from 'zod';
import { csvProfile } from '../../../examples/csv-profile.ts';
import { profileInput, profileOutput } from '../../../examples/csv-profile/schema.ts';

type Input = z.input<typeof profileInput>;

/** As a runner would: input parsed, output checked. */
export async function profile(
  input: Input,
  signal = new AbortController().signal,
  progress: (percent: number) => void = () => {},
) {
  const job = { id: 'job_01', type: 'csv.profile', accountId: 'default' };
  const context = {
    input: profileInput.parse(input),
    signal,
    progress,
    log: () => {},
    job,
    run: { id: 'run_01', number: 1 },
  };
  return profileOutput.parse(await csvProfile.run?.(context));
}

/** The profile of one column of these cells, quoted where they must be. */
export async function profileColumn(cells: readonly (string | number)[], bins = 10) {
  const csv = ['x', ...cells.map((cell) => `"${cell}"`)].join('\n');
  const { columns } = await profile({ csv, histogram_bins: bins });
  const [column] = columns;
  if (!column) throw new Error('no column');
  return column;
}
