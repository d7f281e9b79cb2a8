import type { BackendClient } from '#egress/backend-client.ts';
import { persist } from '#store/group-commit.ts';
import { isTransient } from '#store/transient.ts';
import { callBackend } from './backend.ts';
import type { Completions } from './completions.ts';
import { failed, failureOf } from '../run/handler.ts';
import type { Work } from '../run/run-work.ts';

export interface BackendWorkDeps {
  readonly client: BackendClient;
  readonly completions: Completions;
  readonly inlineMaxBytes: number;
  readonly maxResultBytes: number;
  readonly now: () => Date;
}

/**
 * Has back ends do the work. Each is told, with the call, where it may tell the end later: that is on record before the
 * call is made, for the back end may be done before its 202 has been read.
 */
export function backendWork({ completions, ...rest }: BackendWorkDeps): Work {
  return async ({ jobType, job, context }, signal) => {
    const { accountId, id: jobId, runId } = job;
    try {
      const offer = () => completions.offer({ accountId, jobId, runId });
      const completionUrl = await persist(offer, isTransient, signal);
      // Whatever is answered now is refused by the run's fence.
      if (completionUrl === undefined) return failed('worker_lost', 'The run was lost before its call.', true);
      const call = { jobType, inputText: job.inputText, job: context.job, run: context.run, completionUrl, ...rest };
      return await callBackend(call, signal);
    } catch (error) {
      return failureOf(error);
    }
  };
}
