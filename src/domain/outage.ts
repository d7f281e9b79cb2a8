import type { JobId } from './ids.ts';
import { type Refusal, refuse } from './problem.ts';

/** Seconds. */
const RETRY_AFTER = 2;

/** Only where it is certain that nothing was committed. */
export function databaseUnavailable(): Refusal {
  const detail = 'The database cannot be reached just now, and the request was not carried out. Send it again.';
  return refuse('database_unavailable', detail, { retryAfter: RETRY_AFTER });
}

/**
 * Where a commit was sent and its answer never came.
 * @param jobId of the job that may have been stored
 */
export function outcomeUnknown(jobId?: JobId): Refusal {
  const look = jobId === undefined ? 'look first whether it was' : `look first whether there is a job ${jobId}`;
  const detail =
    'The connection to the database broke before it confirmed: this may or may not have been carried out. ' +
    `Under an idempotency key, send it again with the same key, and nothing is done twice; without one, ${look}.`;
  return refuse('outcome_unknown', detail, {
    retryAfter: RETRY_AFTER,
    ...(jobId !== undefined && { extra: { job_id: jobId } }),
  });
}
