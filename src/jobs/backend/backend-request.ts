import { memberTexts, stringValue } from '#domain/json-text.ts';
import type { BackendRequest } from '#egress/backend-client.ts';
import type { JobContext } from '../type/define.ts';
import type { JobType } from '../type/job-types.ts';

/** The run that a back end is called for. */
export interface BackendRun extends Pick<JobContext<unknown>, 'job' | 'run'> {
  readonly jobType: Pick<JobType, 'input' | 'output' | 'backend' | 'timeoutMs'>;
  /** JSON as it was submitted. */
  readonly inputText: string;
  /** Where the back end may tell the end later; null when it may not. Holds a secret. */
  readonly completionUrl: string | null;
}

/**
 * What is asked of a back end. It gets the input as it was submitted, not as the schema parsed it: that is what its
 * own documentation tells clients to send.
 */
export function requestOf(call: BackendRun): Omit<BackendRequest, 'maxBodyBytes'> {
  const { inputText, job, run, completionUrl, jobType } = call;
  const { url = '', method = 'POST', headers = {}, timeoutMs = jobType.timeoutMs } = jobType.backend ?? {};
  const hasBody = method !== 'GET';
  const own = Object.entries(headers).map(([name, value]) => [name.toLowerCase(), value] as const);
  return {
    url,
    query: hasBody ? '' : queryOf(inputText, url),
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
    body: hasBody ? inputText : null,
    timeoutMs,
  };
}

/**
 * Text, numbers as they are written, and booleans of an input object, encoded as in a form, in their order. A parameter that the platform owner has put
 * into the URL stands: a client must not be able to say it a second time.
 */
function queryOf(inputText: string, url: string): string {
  const owned = new URL(url).searchParams;
  const query = new URLSearchParams();
  for (const [name, text] of memberTexts(inputText)) {
    if (/^[[{n]/.test(text) || owned.has(name)) continue; // a list, an object, null
    query.append(name, text.startsWith('"') ? stringValue(text) : text);
  }
  return query.toString();
}
