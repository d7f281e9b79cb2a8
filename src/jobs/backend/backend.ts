import type { BackendClient } from '#egress/backend-client.ts';
import { outcomeOf } from './backend-answer.ts';
import { failedRequest } from './backend-body.ts';
import { type BackendRun, requestOf } from './backend-request.ts';
import { checkInput, failureOf, type HandlerOutcome } from '../run/handler.ts';

export interface BackendCall extends BackendRun {
  readonly client: BackendClient;
  readonly maxResultBytes: number;
  /** JSON up to here becomes a value, longer JSON a file, when the type has no schema for its output. Default 64 KiB. */
  readonly inlineMaxBytes?: number;
  /** For a Retry-After that is a date. */
  readonly now: () => Date;
}

/**
 * Calls a job type's back end once and takes its response as the outcome. Never rejects. The signal ends it at any
 * stage: the body of a file, too, which therefore has to be read within the run's time. Reading it throws a
 * RunFailedError, which `failureOf` understands.
 */
export async function callBackend(call: BackendCall, signal: AbortSignal): Promise<HandlerOutcome> {
  const { jobType, inputText, client, completionUrl, maxResultBytes, inlineMaxBytes = 65_536, now } = call;
  try {
    const checked = await checkInput(jobType, JSON.parse(inputText));
    if (checked.kind === 'failed') return checked;
    const answer = await client.send({ ...requestOf(call), maxBodyBytes: maxResultBytes }, signal);
    if (!answer.ok) return failedRequest(answer.failure);
    const mayDefer = completionUrl !== null;
    return await outcomeOf(answer.response, { jobType, mayDefer, maxResultBytes, inlineMaxBytes, now });
  } catch (error) {
    return failureOf(error);
  }
}
