import { randomBytes } from 'node:crypto';
import type { AttemptResult } from '#domain/attempt.ts';
import { isEcho, withoutChallenge } from '#domain/challenge.ts';
import { verifyEndpoint } from '#store/callback-policy.ts';
import type { AttemptRecord } from '#store/delivery-reads.ts';
import { type EndpointRef, lockHealth } from '#store/endpoint-health.ts';
import { probe, type ProbeDeps } from './probe.ts';

const CHALLENGE_BYTES = 32;

/** Has endpoints prove that whoever registered them has a say in what they answer: docs/decisions/0018. */
export class Verification {
  readonly #deps: ProbeDeps;

  constructor(deps: ProbeDeps) {
    this.#deps = deps;
  }

  /**
   * Sends an unverified endpoint a challenge, new each time and nowhere stored, and enables it when it is echoed. Answers the
   * attempt; undefined when there is no such endpoint, or none that is unverified.
   */
  async challenge(ref: EndpointRef): Promise<AttemptRecord | undefined> {
    const challenge = randomBytes(CHALLENGE_BYTES).toString('base64url');
    const made = await probe(this.#deps, ref, {
      type: 'endpoint.challenge',
      toUnverified: true,
      unstored: { challenge },
      judge: (result) => judgeEcho(result, challenge),
    });
    if (made?.outcome === 'delivered') await this.#enable(ref, made.url);
    return made;
  }

  async #enable(ref: EndpointRef, url: string): Promise<void> {
    const { db, clock, announceDeliveries } = this.#deps;
    await db.transaction(async (tx) => {
      // Health before the endpoint, as a settlement that disables it: so the two cannot deadlock.
      await lockHealth(tx, [ref]);
      await verifyEndpoint(tx, ref, { url, now: clock.now() });
    });
    announceDeliveries();
  }
}

function judgeEcho(result: AttemptResult, challenge: string): AttemptResult {
  const { response } = result;
  if (response === null) return result;
  const { bodyPrefix, bodyBytes, truncated } = response;
  const isWhole = !truncated && bodyPrefix.length === bodyBytes;
  const isEchoed = isWhole && isEcho(challenge, bodyPrefix);
  const hide = (text: string) => withoutChallenge(challenge, text);
  const recorded = {
    ...result,
    response: {
      ...response,
      headers: response.headers.map(([name, value]) => [hide(name), hide(value)] as const),
      // Byte by byte: it need not be text.
      bodyPrefix: Buffer.from(hide(Buffer.from(bodyPrefix).toString('latin1')), 'latin1'),
    },
  };
  if (result.outcome !== 'delivered' || isEchoed) return recorded;
  return {
    ...recorded,
    outcome: 'rejected',
    errorCode: 'challenge_not_echoed',
    errorDetail: 'The receiver answered 2xx, but not with the challenge and nothing else.',
  };
}
