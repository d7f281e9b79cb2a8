import { expect } from 'vitest';
import { z } from 'zod';
import type { AccountId, JobId } from '#domain/ids.ts';
import { findJob, listRuns } from '#store/job-reads.ts';
import type { JobRecord, StorableJob } from '#store/jobs.ts';
import { type AnyJobDefinition, defineJob, type JobContext } from '../../src/jobs/type/define.ts';
import { SHARED_POOLS } from '../../src/jobs/type/job-types.ts';
import type { TestDatabase } from './database.ts';
import { eventually } from './eventually.ts';
import { insertJob, type MadeEndpoint, makeAccount, makeEndpoint } from './fixtures.ts';

/** For tests that watch a job from its submission to its end. */

export type Handler = (context: JobContext<unknown>) => unknown;

/** The job type `test.job`, which takes any input. */
export function jobType(run: Handler, more: Partial<AnyJobDefinition> = {}): AnyJobDefinition {
  return { ...defineJob({ type: 'test.job', input: z.unknown(), run }), ...more };
}

export interface SubmittedJob {
  readonly accountId: AccountId;
  readonly id: JobId;
  readonly endpoint: MadeEndpoint | undefined;
}

/** Stores and queues a job of the type `test.job` for the runners that share the event loop, as a submission does. */
export async function submitJob(
  { db }: TestDatabase,
  { withCallback = false, ...changes }: Partial<StorableJob> & { readonly withCallback?: boolean } = {},
): Promise<SubmittedJob> {
  const accountId = changes.accountId ?? (await makeAccount(db)).accountId;
  const endpoint = withCallback ? await makeEndpoint(db, accountId) : undefined;
  const { id } = await insertJob(db, accountId, { pool: SHARED_POOLS.inline, ...changes }, endpoint);
  return { accountId, id, endpoint };
}

export async function readJob({ db }: TestDatabase, { accountId, id }: SubmittedJob): Promise<JobRecord> {
  const job = await findJob(db, accountId, id);
  if (job === undefined) throw new Error(`${id} is gone`);
  return job;
}

/** The job, once it is over. */
export function endOfJob(database: TestDatabase, job: SubmittedJob): Promise<JobRecord> {
  return eventually(async () => {
    const found = await readJob(database, job);
    expect(found.finishedAt).not.toBeNull();
    return found;
  });
}

/** Number, status and error code of each run on record. */
export async function runsOfJob({ db }: TestDatabase, { accountId, id }: SubmittedJob) {
  const runs = await listRuns(db, accountId, id);
  return runs.map(({ number, status, error }) => [number, status, error?.code ?? null] as const);
}

/** The callback's body, as it was rendered when the job ended. */
export async function callbackBody({ sql }: TestDatabase, { id }: SubmittedJob) {
  const [row] = await sql<{ body: Buffer }[]>`
    SELECT body FROM ringback.events WHERE job_id = ${id} AND body IS NOT NULL`;
  if (row === undefined) throw new Error(`${id} has no callback`);
  return JSON.parse(row.body.toString()) as { type: string; sequence: number; data: { job: unknown } };
}
