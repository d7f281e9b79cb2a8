import type { Hook, z } from '@hono/zod-openapi';
import { type Fault, type ProblemCode, type Refusal, refuse, toPointer } from '#domain/problem.ts';
import type { Env } from './env.ts';
import { problem } from './problem.ts';

const CODES: Partial<Record<string, ProblemCode>> = { param: 'invalid_id', query: 'invalid_query' };

/** Every fault of a request at once, each with its place. */
// oxlint-disable-next-line typescript/no-explicit-any -- the library's hook type is invariant in what the route parses
export const onInvalid: Hook<any, Env, any, any> = (result, c) => {
  if (result.success) return undefined;
  return problem(c, refusalOfIssues(result.error.issues, CODES[result.target] ?? 'invalid_body'));
};

export function refusalOfIssues(issues: readonly z.core.$ZodIssue[], code: ProblemCode): Refusal {
  const faults = issues.flatMap((issue) => faultsOf(issue));
  const listed = faults.map((fault) => `${fault.path || '/'}: ${fault.message}`).slice(0, 5);
  return refuse(code, listed.join('; '), { faults });
}

/** Of a union the branch that nearly fitted: "no branch fits" helps nobody. */
function faultsOf(issue: z.core.$ZodIssue, above: readonly PropertyKey[] = []): Fault[] {
  const path = [...above, ...issue.path];
  if (issue.code !== 'invalid_union' || issue.errors.length === 0)
    return [{ path: toPointer(path), message: issue.message }];
  const [nearest] = issue.errors.toSorted((a, b) => a.length - b.length);
  return (nearest ?? []).flatMap((inner) => faultsOf(inner, path));
}
