import type { Context } from 'hono';
import type { RateLimit } from '#jobs/submit/admission.ts';

/** What an account with a rate has left of it (draft-ietf-httpapi-ratelimit-headers). */
export function tellLimits(c: Context, limit: RateLimit | undefined): void {
  if (limit === undefined) return;
  c.header('ratelimit-policy', `"submissions";q=${Math.max(1, Math.floor(limit.perSecond))};w=1`);
  c.header('ratelimit', `"submissions";r=${limit.remaining};t=${limit.resetSeconds}`);
}
