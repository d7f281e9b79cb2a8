import type { BackendRequest } from '#egress/backend-client.ts';
import type { JobContext } from '../type/define.ts';
import type { JobType } from '../type/job-types.ts';

/** The run that a back end is called for. */
export interface BackendRun extends Pick<JobContext<unknown>, 'job' | 'run'> {
  readonly jobType: Pick<JobType, 'input' | 'output' | 'backend' | 'timeoutMs'>;
  /** As it was submitted. */
  readonly input: unknown;
  /** Where the back end may tell the end later; null when it may not. Holds a secret. */
  readonly completionUrl: string | null;
}

/**
 * What is asked of a back end. It gets the input as it was submitted, not as the schema parsed it: that is what its
 * own documentation tells clients to send.
 */
export function requestOf(call: BackendRun): Omit<BackendRequest, 'maxBodyBytes'> {
  const { input, job, run, completionUrl, jobType } = call;
  const { url = '', method = 'POST', headers = {}, timeoutMs = jobType.timeoutMs } = jobType.backend ?? {};
  const hasBody = method !== 'GET';
  const own = Object.entries(headers).map(([name, value]) => [name.toLowerCase(), value] as const);
  return {
    url,
    query: hasBody ? '' : queryOf(input, url),
    method,
    headers: {
      accept: '*/*',
      ...(hasBody && { 'content-type': 'application/json' }),
      ...Object.fromEntries(own),
      // The same for every run of the job: a back end that did the work before its answer was lost can tell.
      'idempotency-key': job.id,
      'ringback-job-id': job.id,
      'ringback-job-type': job.type,
      'ringback-run-id': run.id,
      'ringback-run-number': `${run.number}`,
      ...(completionUrl !== null && { 'ringback-completion-url': completionUrl }),
    },
    body: hasBody ? (JSON.stringify(input) ?? 'null') : null,
    timeoutMs,
  };
}

/**
 * Text, numbers and booleans of an input object, encoded as in a form. A parameter that the platform owner has put
 * into the URL stands: a client must not be able to say it a second time.
 */
function queryOf(input: unknown, url: string): string {
  if (typeof input !== 'object' || input === null || Array.isArray(input)) return '';
  const owned = new URL(url).searchParams;
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(input)) {
    const isScalar = ['string', 'number', 'boolean'].includes(typeof value);
    if (isScalar && !owned.has(name)) query.append(name, String(value));
  }
  return query.toString();
}
