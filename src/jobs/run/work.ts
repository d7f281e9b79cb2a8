import { callHandler, failed } from './handler.ts';
import type { Work } from './run-work.ts';

/** Who does the work of each kind of job type; never asked for what this process does not do. */
export interface Workplaces {
  readonly thread: Work;
  readonly backend: Work;
}

const callInline: Work = ({ jobType, job, context }, signal) => callHandler(jobType, job.input, context, signal);

/** Sends each run to where its type's work is done. */
export function dispatchWork({ thread, backend }: Workplaces): Work {
  return async (call, signal) => {
    const { way, type } = call.jobType;
    switch (way) {
      case 'inline':
        return callInline(call, signal);
      case 'thread':
        return thread(call, signal);
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
