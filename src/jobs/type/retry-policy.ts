import { DEFAULT_RETRY_POLICY, type RetryPolicy } from '#domain/retry.ts';
import type { JobRecord } from '#store/jobs.ts';
import type { JobTypes } from './job-types.ts';

/** A type that this process does not know may be known to the next one, in the middle of a roll-out. */
const UNKNOWN_TYPE: RetryPolicy = { ...DEFAULT_RETRY_POLICY, maxRuns: 10 };

/** How often a job's runs are tried again, and when: what its submission asked for, else its type, else the default. */
export function retryPolicyOf(types: JobTypes, job: Pick<JobRecord, 'type' | 'retry'>): RetryPolicy {
  return { ...(types.get(job.type)?.retryPolicy ?? UNKNOWN_TYPE), ...job.retry };
}
