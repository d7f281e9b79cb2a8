import type { Context } from 'hono';
import type { RateLimit } from '#jobs/submit/admission.ts';

/** What an account with limits has left of them (draft-ietf-httpapi-ratelimit-headers). */
export function tellLimits(c: Context, limit: RateLimit | undefined): void {
  if (limit === undefined) return;
  const { submissions, pending } = limit;
  const policies: string[] = [];
  const left: string[] = [];
  if (submissions !== null) {
    policies.push(`"submissions";q=${Math.max(1, Math.floor(submissions.perSecond))};w=1`);
    left.push(`"submissions";r=${submissions.remaining};t=${submissions.resetSeconds}`);
  }
  // Without a window: what is used up comes back when jobs end, and nobody knows when that is.
  if (pending !== null) {
    policies.push(`"pending";q=${pending.max}`);
    left.push(`"pending";r=${pending.remaining}`);
  }
  c.header('ratelimit-policy', policies.join(', '));
  c.header('ratelimit', left.join(', '));
}
