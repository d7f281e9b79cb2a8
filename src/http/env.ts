import type { ApiKeyRecord } from '#accounts/api-keys.ts';
import type { ProblemCode } from '#domain/problem.ts';
import type { RunRef } from '#jobs/backend/completions.ts';

/** What middleware leaves for the routes and for the log line. */
export interface Env {
  Variables: {
    requestId: string;
    apiKey: ApiKeyRecord;
    problem: ProblemCode;
    /** The run that the token of a completion URL stands for. */
    completion: RunRef;
  };
}
