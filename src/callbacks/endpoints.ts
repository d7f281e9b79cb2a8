import { mintSecret } from '#domain/endpoint.ts';
import { type AccountId, type EndpointId, newId } from '#domain/ids.ts';
import { type Result, refuse } from '#domain/problem.ts';
import type { SecretKey } from '#domain/secret-box.ts';
import type { Guard } from '#egress/guard.ts';
import { type Database, transaction } from '#store/database.ts';
import { type EndpointRecord, ensureEndpoint, findEndpoint, listEndpoints, rotateSecret } from '#store/endpoints.ts';

export type { EndpointRecord };

/** After a rotation both secrets sign for this long, so that receivers can change over in their own time. */
const ROTATION_GRACE_MS = 24 * 60 * 60 * 1000;

/** Registering callback URLs and handling their secrets. */
export class Endpoints {
  readonly #db: Database;
  readonly #guard: Guard;
  readonly #keys: readonly SecretKey[];

  constructor(deps: { db: Database; guard: Guard; keys: readonly SecretKey[] }) {
    this.#db = deps.db;
    this.#guard = deps.guard;
    this.#keys = deps.keys;
  }

  /** Registers a URL; an account has one endpoint a URL, so a second call finds the first's. The secret is shown once. */
  async register(
    accountId: AccountId,
    url: string,
  ): Promise<Result<{ endpoint: EndpointRecord; signingSecret: string | undefined }>> {
    const verdict = await this.#guard.checkUrl(url);
    if (!verdict.ok) {
      const faults = [{ path: '/url', message: verdict.detail }];
      return refuse('invalid_callback_url', verdict.detail, { faults, extra: { reason: verdict.reason } });
    }
    const now = new Date();
    const id = newId('ep', now.getTime());
    const secret = mintSecret(this.#keys, accountId, id, now);
    const { created, ...found } = await transaction(this.#db, (tx) =>
      ensureEndpoint(tx, { accountId, id, url: verdict.url.href, secret: secret.sealed, now }),
    );
    const endpoint = await this.find(accountId, found.id);
    if (!endpoint.ok) return endpoint;
    return { ok: true, value: { endpoint: endpoint.value, signingSecret: created ? secret.text : undefined } };
  }

  async find(accountId: AccountId, id: EndpointId): Promise<Result<EndpointRecord>> {
    const endpoint = await findEndpoint(this.#db, accountId, { id });
    return endpoint === undefined
      ? refuse('endpoint_not_found', `There is no endpoint ${id}.`)
      : { ok: true, value: endpoint };
  }

  list(accountId: AccountId, page: { after: EndpointId | undefined; limit: number }): Promise<EndpointRecord[]> {
    return listEndpoints(this.#db, accountId, page);
  }

  /** Makes a new signing secret, shown this once; the old one signs beside it until the grace period ends. */
  async rotateSecret(
    accountId: AccountId,
    id: EndpointId,
  ): Promise<Result<{ signingSecret: string; graceEndsAt: Date }>> {
    const endpoint = await this.find(accountId, id);
    if (!endpoint.ok) return endpoint;
    const now = new Date();
    const graceEndsAt = new Date(now.getTime() + ROTATION_GRACE_MS);
    const secret = mintSecret(this.#keys, accountId, id, now);
    await rotateSecret(this.#db, { accountId, endpointId: id, secret: secret.sealed, graceEndsAt, now });
    return { ok: true, value: { signingSecret: secret.text, graceEndsAt } };
  }
}
