import { judgeTarget, judgeUrl, type EgressPolicy, type UrlVerdict } from '#domain/callback-url.ts';
import { systemResolver, type Resolve } from './resolve.ts';

export interface GuardOptions {
  readonly policy: EgressPolicy;
  readonly resolve?: Resolve;
  /** How long a registration waits for DNS, in milliseconds. Default 2,000. */
  readonly resolveTimeoutMs?: number;
}

/** Judges callback URLs when they are registered; every connection is judged again when it is made. */
export interface Guard {
  readonly checkUrl: (text: string) => Promise<UrlVerdict>;
}

/**
 * A name that does not resolve (in time) is accepted: DNS may be at fault for a moment, and what it answers now
 * binds nobody later. A refusal here is a courtesy to the client; the wall is in `dial`.
 */
export function createGuard(options: GuardOptions): Guard {
  const { policy, resolve = systemResolver(), resolveTimeoutMs = 2000 } = options;

  async function checkUrl(text: string): Promise<UrlVerdict> {
    const judged = judgeUrl(text, policy);
    if (!judged.ok || judged.url.isAddressLiteral) return judged;
    const addresses = await within(resolveTimeoutMs, resolve(judged.url.host));
    const target = judgeTarget(judged.url, addresses, policy);
    return target.ok ? judged : target;
  }

  return { checkUrl };
}

/** The answer, or no addresses when it fails or takes too long. */
async function within(milliseconds: number, answer: Promise<readonly string[]>): Promise<readonly string[]> {
  const { promise: late, resolve: giveUp } = Promise.withResolvers<readonly string[]>();
  const timer = setTimeout(giveUp, milliseconds, []);
  try {
    return await Promise.race([answer, late]);
  } catch {
    return [];
  } finally {
    clearTimeout(timer);
  }
}
