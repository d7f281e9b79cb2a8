import { type AccountId, type JobId, parseId, type RunId } from './ids.ts';

/** All that a run's row in the queue is found by, and its fence. */
export interface RunIds {
  readonly accountId: AccountId;
  readonly jobId: JobId;
  readonly runId: RunId;
}

/**
 * A run as one word, which a worker is given and names in the path of every call about it. The queue is keyed by account
 * and job, so that it can be distributed by account: a run's id alone would have to be searched for. It is no secret: what
 * it names may only be touched with the scope `worker`.
 */
export function runHandle({ accountId, jobId, runId }: RunIds): string {
  return `${accountId}.${jobId}.${runId}`;
}

/** Undefined for anything that is not such a word. */
export function parseRunHandle(text: string): RunIds | undefined {
  const [account = '', job = '', run = '', ...more] = text.split('.');
  const accountId = parseId('acc', account);
  const jobId = parseId('job', job);
  const runId = parseId('run', run);
  if (accountId === undefined || jobId === undefined || runId === undefined || more.length > 0) return undefined;
  return { accountId, jobId, runId };
}
