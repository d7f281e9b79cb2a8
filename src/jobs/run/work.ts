import { unheldNumbers } from '#domain/json-number.ts';
import { callHandler, failed, type HandlerFailure, misfit } from './handler.ts';
import type { Work } from './run-work.ts';

/** The same, with the input as JavaScript has it. */
export type HandlerWork = (
  call: Parameters<Work>[0] & { readonly input: unknown },
  signal: AbortSignal,
) => ReturnType<Work>;

/** Who does the work of each kind of job type; never asked for what this process does not do. */
export interface Workplaces {
  readonly thread: HandlerWork;
  readonly backend: Work;
}

const callInline: HandlerWork = ({ jobType, input, context }, signal) => callHandler(jobType, input, context, signal);

/** Sends each run to where its type's work is done. */
export function dispatchWork({ thread, backend }: Workplaces): Work {
  return async (call, signal) => {
    const { way, type } = call.jobType;
    switch (way) {
      case 'inline':
        return withInput(callInline, call, signal);
      case 'thread':
        return withInput(thread, call, signal);
      case 'backend':
        return backend(call, signal);
      case 'remote':
        // Queued before the type was given to remote workers; they find it there again.
        return failed('unknown_job_type', `The job type ${type} is run by remote workers.`, true);
      default:
        return way satisfies never;
    }
  };
}

async function withInput(work: HandlerWork, call: Parameters<Work>[0], signal: AbortSignal): ReturnType<Work> {
  const { inputText } = call.job;
  const refused = refuseUnheld(inputText);
  return refused ?? work({ ...call, input: JSON.parse(inputText) }, signal);
}

/** A job that was queued when its type was done elsewhere, by who could take any number. */
function refuseUnheld(inputText: string): HandlerFailure | undefined {
  const [fault] = unheldNumbers(inputText);
  return fault && misfit(fault);
}
