import type { CallbackPolicy, EndpointStatus } from './endpoint-policy.ts';
import type { EndpointId } from './ids.ts';
import { type Refusal, refuse } from './problem.ts';

/** What a policy asks of an endpoint. */
export interface Standing {
  readonly id: EndpointId;
  /** False for a URL that only jobs have named. */
  readonly isRegistered: boolean;
  readonly status: EndpointStatus;
}

/**
 * Why an account with that policy may not be called back at an endpoint; undefined when it may. `endpoint` is undefined when
 * the account has none there; `path` is the place in the request that names it.
 */
export function refuseTarget(
  policy: CallbackPolicy,
  endpoint: Standing | undefined,
  path: string,
): Refusal | undefined {
  const refusal = refuseUnregistered(policy, endpoint, path);
  if (refusal !== undefined) return refusal;
  // Under any policy: what was accepted for it would wait without a word, though the operator has changed the policy since.
  return endpoint?.status === 'unverified' ? refuseUnverified(endpoint.id, path) : undefined;
}

/** Why an endpoint that only jobs have named may not be used, nor a URL without one; undefined when it may. */
export function refuseUnregistered(
  policy: CallbackPolicy,
  endpoint: Standing | undefined,
  path: string,
): Refusal | undefined {
  if (policy === 'any' || endpoint?.isRegistered === true) return undefined;
  return refuseAt(
    'endpoint_not_registered',
    path,
    'The account is called back at registered endpoints only: register the URL with POST /v1/endpoints first.',
  );
}

/** Nothing is sent to an endpoint that has yet to echo a challenge. `path` is the place in the request that names it. */
export function refuseUnverified(id: EndpointId, path?: string): Refusal {
  const message =
    `The endpoint ${id} has not proved to be the account's own: POST /v1/endpoints/${id}/verify sends it a challenge, ` +
    'which it has to echo.';
  return path === undefined ? refuse('endpoint_unverified', message) : refuseAt('endpoint_unverified', path, message);
}

/** `id` as it was given, which need not be well formed. */
export function refuseUnknown(id: string): Refusal {
  return refuse('endpoint_not_found', `There is no endpoint ${id}.`);
}

function refuseAt(code: Refusal['code'], path: string, message: string): Refusal {
  return refuse(code, message, { faults: [{ path, message }] });
}
