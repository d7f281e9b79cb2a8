import { refuseTarget } from '#domain/callback-target.ts';
import type { SecretOwner } from '#domain/endpoint.ts';
import { type AccountId, type EndpointId, newId } from '#domain/ids.ts';
import { type Refusal, type Result, refuse } from '#domain/problem.ts';
import type { SecretKey } from '#domain/secret-box.ts';
import type { Guard } from '#egress/guard.ts';
import { lockEndpoint } from '#store/callback-policy.ts';
import { type Database, isDuplicate, type Transaction, transaction } from '#store/database.ts';
import { insertEndpointEvents } from '#store/endpoint-events.ts';
import { type EndpointRef, lockHealth } from '#store/endpoint-health.ts';
import {
  changeEndpoint,
  deleteEndpoint,
  enableEndpoint,
  type EndpointChanges,
  type EndpointRecord,
  ensureEndpoint,
  pauseEndpoint,
  readEndpoints,
  registerEndpoint,
} from '#store/endpoints.ts';
import { discardHeld, readUnsent } from '#store/redeliver.ts';
import { mintOrImport, type WantedSecret } from './secrets.ts';
import { endpointEvent } from './settle.ts';
import { refuseTlsWithout, sealTls, type WantedTls } from './tls-settings.ts';

export type { EndpointRecord };

/** What its owner may say of it. */
export type EndpointSettings = Omit<
  EndpointChanges,
  'tlsAuthorities' | 'tlsCertificate' | 'tlsKeyId' | 'tlsKeyCiphertext'
> & { readonly tls?: WantedTls | null | undefined };

const HELD_AT_ONCE = 1000;

export interface EndpointsDeps {
  readonly db: Database;
  readonly guard: Guard;
  readonly keys: readonly SecretKey[];
  /** Called after the commit of a delivery that may be sent now. */
  readonly announceDeliveries: () => void;
  /** Called after the commit of events of these accounts. */
  readonly eventsWritten: (accountIds: readonly AccountId[]) => void;
}

/** Registering callback URLs, and what becomes of them. */
export class Endpoints {
  readonly #deps: EndpointsDeps;

  constructor(deps: EndpointsDeps) {
    this.#deps = deps;
  }

  /**
   * Registers a URL; an account has one endpoint a URL, so a second call finds the first's, as it is; one that brings a secret
   * of its own is refused, for it would not sign. The secret is shown once.
   */
  async register(
    accountId: AccountId,
    url: string,
    settings: Omit<EndpointSettings, 'url'> = {},
    wanted: WantedSecret = {},
  ): Promise<Result<{ endpoint: EndpointRecord; created: boolean; signingSecret: string | undefined }>> {
    const { db, keys } = this.#deps;
    const checked = await this.#checkUrl(url);
    if (!checked.ok) return checked;
    const now = new Date();
    const id = newId('ep', now.getTime());
    const secret = mintOrImport(keys, { accountId, endpointId: id }, wanted, now);
    if (!secret.ok) return secret;
    const { sealed, shown } = secret.value;
    const given = this.#toChanges({ accountId, endpointId: id }, settings);
    if (!given.ok) return given;
    const hasTls = settings.tls !== undefined && settings.tls !== null;
    const noTls = refuseTlsWithout(checked.value, { hasTls, path: '/tls' });
    if (noTls !== undefined) return noTls;
    const { created, ...found } = await transaction(db, async (tx) => {
      const endpoint = { accountId, id, url: checked.value, isRegistered: true, secret: sealed, now };
      const ensured = await ensureEndpoint(tx, endpoint);
      if (!ensured.created) await registerEndpoint(tx, { accountId, id: ensured.id }, now);
      else if (Object.keys(given.value).length > 0) await changeEndpoint(tx, { accountId, id }, given.value, now);
      return ensured;
    });
    if (!created && (wanted.secret !== undefined || wanted.scheme !== undefined))
      return refuse(
        'endpoint_url_taken',
        `The endpoint ${found.id} has that URL: rotate its secret to one of your own.`,
      );
    const endpoint = await this.find(accountId, found.id);
    if (!endpoint.ok) return endpoint;
    return { ok: true, value: { endpoint: endpoint.value, created, signingSecret: created ? shown : undefined } };
  }

  async find(accountId: AccountId, id: EndpointId): Promise<Result<EndpointRecord>> {
    const [endpoint] = await readEndpoints(this.#deps.db, accountId, { id, limit: 1 });
    return endpoint === undefined ? notFound(id) : { ok: true, value: endpoint };
  }

  list(accountId: AccountId, page: { after?: EndpointId; limit: number }): Promise<EndpointRecord[]> {
    return readEndpoints(this.#deps.db, accountId, page);
  }

  /** Changes what is given, and nothing when any of it is wrong. A new URL is judged as that of a new endpoint. */
  async change(accountId: AccountId, id: EndpointId, settings: EndpointSettings): Promise<Result<EndpointRecord>> {
    const checked = settings.url === undefined ? undefined : await this.#checkUrl(settings.url);
    if (checked?.ok === false) return checked;
    const given = this.#toChanges({ accountId, endpointId: id }, settings);
    if (!given.ok) return given;
    const changes = { ...given.value, ...(checked && { url: checked.value }) };
    try {
      const refusal = await transaction(this.#deps.db, (tx) => change(tx, { accountId, endpointId: id }, changes));
      if (refusal !== undefined) return refusal;
    } catch (error) {
      if (!isDuplicate(error)) throw error;
      return refuse('endpoint_url_taken', 'Another endpoint of the account has that URL: change or delete that one.');
    }
    // What waited for a lower limit may go.
    this.#deps.announceDeliveries();
    return this.find(accountId, id);
  }

  /** Sends nothing more until it is enabled; what is for it waits. May be asked again. */
  async pause(accountId: AccountId, id: EndpointId): Promise<Result<EndpointRecord>> {
    const isPaused = await pauseEndpoint(this.#deps.db.sql, { accountId, id }, new Date());
    const endpoint = await this.find(accountId, id);
    if (isPaused || !endpoint.ok || endpoint.value.status === 'paused') return endpoint;
    return refuse('endpoint_disabled', `The endpoint ${id} is disabled: there is nothing to pause.`);
  }

  /**
   * Takes a paused or disabled endpoint up again, as if it had never failed. What waited for a paused one is sent; what was
   * held for a disabled one waits for `recover`. May be asked again.
   */
  async enable(accountId: AccountId, id: EndpointId): Promise<Result<EndpointRecord>> {
    const { db, announceDeliveries, eventsWritten } = this.#deps;
    const now = new Date();
    await transaction(db, async (tx) => {
      // Health before the endpoint, as a settlement that disables it: so the two cannot deadlock.
      await lockHealth(tx, [{ accountId, endpointId: id }]);
      if (!(await enableEndpoint(tx, { accountId, id }, now))) return;
      await insertEndpointEvents(tx, [endpointEvent('endpoint.recovered', { accountId, endpointId: id }, now, {})]);
    });
    eventsWritten([accountId]);
    announceDeliveries();
    return this.find(accountId, id);
  }

  /** What was for it ends as discarded, on record; its URL may be registered anew. */
  async remove(accountId: AccountId, id: EndpointId): Promise<Result<undefined>> {
    const { db, announceDeliveries } = this.#deps;
    const now = new Date();
    if (!(await deleteEndpoint(db.sql, { accountId, id }, now))) return notFound(id);
    // Couriers discard what is queued when they meet it.
    announceDeliveries();
    await this.#discardHeld(accountId, id, now);
    return { ok: true, value: undefined };
  }

  async #discardHeld(accountId: AccountId, endpointId: EndpointId, now: Date): Promise<void> {
    const { db } = this.#deps;
    const held = { endpointId, statuses: ['held'] as const, eventTypes: null, since: new Date(0), until: now };
    for (let after: Parameters<typeof readUnsent>[2]['after'] = ''; ;) {
      const page = await readUnsent(db, accountId, { ...held, after, limit: HELD_AT_ONCE });
      const ids = page.filter(({ matches }) => matches).map(({ id }) => id);
      if (ids.length > 0) await discardHeld(db.sql, accountId, { ids, now });
      const last = page.at(-1);
      if (last === undefined || page.length < HELD_AT_ONCE) return;
      after = last.id;
    }
  }

  #toChanges(owner: SecretOwner, { tls, ...same }: EndpointSettings): Result<EndpointChanges> {
    if (tls === undefined) return { ok: true, value: same };
    const sealed = sealTls(this.#deps.keys, owner, tls);
    return sealed.ok ? { ok: true, value: { ...same, ...sealed.value } } : sealed;
  }

  /** The URL as it is stored. */
  async #checkUrl(url: string): Promise<Result<string>> {
    const verdict = await this.#deps.guard.checkUrl(url);
    if (verdict.ok) return { ok: true, value: verdict.url.href };
    const faults = [{ path: '/url', message: verdict.detail }];
    return refuse('invalid_callback_url', verdict.detail, { faults, extra: { reason: verdict.reason } });
  }
}

async function change(tx: Transaction, ref: EndpointRef, changes: EndpointChanges): Promise<Refusal | undefined> {
  const before = await lockEndpoint(tx, ref);
  if (before === undefined) return notFound(ref.endpointId);
  const { tlsAuthorities, tlsCertificate, url = before.url } = changes;
  const hasAuthorities = tlsAuthorities === undefined ? before.hasAuthorities : tlsAuthorities !== null;
  const hasCertificate = tlsCertificate === undefined ? before.hasCertificate : tlsCertificate !== null;
  const hasTls = hasAuthorities || hasCertificate;
  // Or what only a job has named would hear of all jobs, where the policy lets no job name it any more.
  const subscribes = changes.eventTypes !== undefined && changes.eventTypes.length > 0;
  const unregistered = subscribes ? refuseTarget(before.policy, before, '/event_types') : undefined;
  if (unregistered !== undefined) return unregistered;
  const noTls = refuseTlsWithout(url, { hasTls, path: changes.url === undefined ? '/tls' : '/url' });
  if (noTls !== undefined) return noTls;
  await changeEndpoint(tx, { accountId: ref.accountId, id: ref.endpointId }, changes, new Date());
  return undefined;
}

function notFound(id: EndpointId): Refusal {
  return refuse('endpoint_not_found', `There is no endpoint ${id}.`);
}
