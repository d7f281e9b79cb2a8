import type { ApiKeyRecord } from '#accounts/api-keys.ts';
import type { ProblemCode } from '#domain/problem.ts';

/** What middleware leaves for the routes and for the log line. */
export interface Env {
  Variables: {
    requestId: string;
    apiKey: ApiKeyRecord;
    problem: ProblemCode;
  };
}
