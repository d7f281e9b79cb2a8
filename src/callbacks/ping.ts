import { refuseUnknown, refuseUnverified } from '#domain/callback-target.ts';
import type { AccountId, EndpointId } from '#domain/ids.ts';
import type { Result } from '#domain/problem.ts';
import type { AttemptRecord } from '#store/delivery-reads.ts';
import { isEndpoint } from '#store/endpoints.ts';
import { probe, type ProbeDeps } from './probe.ts';

/** Tries endpoints out. */
export class Pings {
  readonly #deps: ProbeDeps;

  constructor(deps: ProbeDeps) {
    this.#deps = deps;
  }

  /** Sends a test event now, also to a paused or disabled endpoint. */
  async ping(accountId: AccountId, endpointId: EndpointId): Promise<Result<AttemptRecord>> {
    const made = await probe(this.#deps, { accountId, endpointId }, { type: 'endpoint.ping', toUnverified: false });
    if (made !== undefined) return { ok: true, value: made };
    return (await isEndpoint(this.#deps.db, accountId, endpointId))
      ? refuseUnverified(endpointId)
      : refuseUnknown(endpointId);
  }
}
