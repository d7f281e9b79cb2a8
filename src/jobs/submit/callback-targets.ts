import { refuseTarget, refuseUnknown } from '#domain/callback-target.ts';
import type { AccountId, EndpointId } from '#domain/ids.ts';
import type { CallbackEventType } from '#domain/job.ts';
import { type Refusal, type Result, refuse } from '#domain/problem.ts';
import type { Guard } from '#egress/guard.ts';
import type { Database } from '#store/database.ts';
import { findTarget, type TargetKey } from '#store/callback-policy.ts';

export type CallbackRequest = ({ readonly url: string } | { readonly endpoint_id: EndpointId }) & {
  readonly events?: readonly CallbackEventType[] | undefined;
};

/** Where a callback goes; an endpoint without an id has yet to be made. */
export interface CallbackTarget {
  readonly url: string;
  readonly endpointId: EndpointId | undefined;
}

const MAX_KNOWN_TARGETS = 10_000;
/** How long an endpoint is believed to be there, under that URL, and to be allowed, without being looked up again. */
const KNOWN_FOR_MS = 5000;

/** Finds the endpoint that a callback names, by its id or its URL. */
export class CallbackTargets {
  readonly #db: Database;
  readonly #guard: Guard;
  /** Endpoints seen lately, so that a submission costs no look-up. */
  readonly #known = new Map<string, { readonly target: CallbackTarget; readonly until: number }>();

  constructor({ db, guard }: { db: Database; guard: Guard }) {
    this.#db = db;
    this.#guard = guard;
  }

  async find(accountId: AccountId, callback: CallbackRequest): Promise<Result<CallbackTarget>> {
    const name = 'url' in callback ? callback.url : callback.endpoint_id;
    const known = this.#known.get(`${accountId} ${name}`);
    if (known !== undefined && performance.now() < known.until) return { ok: true, value: known.target };
    const key = await this.#keyOf(callback);
    if (!key.ok) return key;
    const { policy, endpoint } = await findTarget(this.#db, accountId, key.value);
    const refusal = refuseTarget(policy, endpoint, 'url' in callback ? '/callback/url' : '/callback/endpoint_id');
    if (endpoint !== undefined) {
      const target = { endpointId: endpoint.id, url: endpoint.url };
      return refusal ?? { ok: true, value: this.#remember(accountId, name, target) };
    }
    if ('id' in key.value) return refuseUnknown(name);
    return refusal ?? { ok: true, value: { url: key.value.url, endpointId: undefined } };
  }

  /** Why the policy of the account, as it is now, does not allow an endpoint that was found before. */
  async refusalOf(accountId: AccountId, endpointId: EndpointId): Promise<Refusal | undefined> {
    const { policy, endpoint } = await findTarget(this.#db, accountId, { id: endpointId });
    return refuseTarget(policy, endpoint, '/callback/endpoint_id');
  }

  async #keyOf(callback: CallbackRequest): Promise<Result<TargetKey>> {
    if ('endpoint_id' in callback) return { ok: true, value: { id: callback.endpoint_id } };
    const verdict = await this.#guard.checkUrl(callback.url);
    if (verdict.ok) return { ok: true, value: { url: verdict.url.href } };
    const faults = [{ path: '/callback/url', message: verdict.detail }];
    return refuse('invalid_callback_url', verdict.detail, { faults, extra: { reason: verdict.reason } });
  }

  #remember(accountId: AccountId, name: string, target: CallbackTarget): CallbackTarget {
    if (this.#known.size >= MAX_KNOWN_TARGETS) this.#known.clear();
    this.#known.set(`${accountId} ${name}`, { target, until: performance.now() + KNOWN_FOR_MS });
    return target;
  }
}
