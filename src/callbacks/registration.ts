import type { Clock } from '#domain/clock.ts';
import { refuseUnknown, refuseUnregistered } from '#domain/callback-target.ts';
import type { SecretOwner } from '#domain/endpoint.ts';
import { type AccountId, type EndpointId, newId } from '#domain/ids.ts';
import { type Refusal, type Result, refuse } from '#domain/problem.ts';
import type { SecretKey } from '#domain/secret-box.ts';
import type { Guard } from '#egress/guard.ts';
import { lockEndpoint, type LockedEndpoint, unverifyEndpoint } from '#store/callback-policy.ts';
import { type Database, isDuplicate, type Transaction } from '#store/database.ts';
import type { AttemptRecord } from '#store/delivery-reads.ts';
import type { EndpointRef } from '#store/endpoint-health.ts';
import {
  changeEndpoint,
  type EndpointChanges,
  type EndpointRecord,
  ensureEndpoint,
  type NewEndpoint,
  readEndpoints,
  registerEndpoint,
} from '#store/endpoints.ts';
import { mintOrImport, type WantedSecret } from './secrets.ts';
import { refuseTlsWithout, sealTls, type WantedTls } from './tls-settings.ts';
import type { Verification } from './verification.ts';

/** What its owner may say of an endpoint. */
export type EndpointSettings = Omit<
  EndpointChanges,
  'tlsAuthorities' | 'tlsCertificate' | 'tlsKeyId' | 'tlsKeyCiphertext'
> & { readonly tls?: WantedTls | null | undefined };

export interface RegistrationDeps {
  readonly db: Database;
  readonly clock: Clock;
  readonly guard: Guard;
  readonly keys: readonly SecretKey[];
  readonly verification: Pick<Verification, 'challenge'>;
  /** Called after the commit of a delivery that may be sent now. */
  readonly announceDeliveries: () => void;
}

export interface SavedEndpoint {
  readonly endpoint: EndpointRecord;
  /** The challenge that it was sent now, and how it was answered. */
  readonly verification: AttemptRecord | undefined;
}

export interface RegisteredEndpoint extends SavedEndpoint {
  readonly created: boolean;
  readonly signingSecret: string | undefined;
}

/** An endpoint as it is after a write, and whether it has to prove whose it is. */
interface Written {
  readonly id: EndpointId;
  readonly created: boolean;
  readonly isToProve: boolean;
}

/** What accounts say of their endpoints, and what their policy makes of it. */
export class Registration {
  readonly #deps: RegistrationDeps;

  constructor(deps: RegistrationDeps) {
    this.#deps = deps;
  }

  /**
   * Registers a URL; an account has one endpoint a URL, so a second call finds the first's, as it is; one that only jobs have named
   * gets these settings. A call that finds one and brings a secret of its own is refused, for it would not sign. The secret is
   * shown once.
   */
  async register(
    accountId: AccountId,
    url: string,
    settings: Omit<EndpointSettings, 'url'> = {},
    wanted: WantedSecret = {},
  ): Promise<Result<RegisteredEndpoint>> {
    const { db, keys } = this.#deps;
    const checked = await this.#checkUrl(url);
    if (!checked.ok) return checked;
    const now = this.#deps.clock.now();
    const id = newId('ep', now.getTime());
    const owner = { accountId, endpointId: id };
    const secret = mintOrImport(keys, owner, wanted, now);
    if (!secret.ok) return secret;
    const changes = this.#toChanges(owner, settings);
    if (!changes.ok) return changes;
    const without = refuseTlsOf({ url: checked.value, hasAuthorities: false, hasCertificate: false }, changes.value);
    if (without !== undefined) return without;
    const given = { accountId, id, url: checked.value, isRegistered: true, secret: secret.value.sealed, now };
    const bringsSecret = wanted.secret !== undefined || wanted.scheme !== undefined;
    // Sealed anew for one that is there already: the key is bound to its id.
    const changesFor = (endpointId: EndpointId) =>
      endpointId === id ? changes : this.#toChanges({ accountId, endpointId }, settings);
    const written = await db.transaction((tx) => insert(tx, given, { changesFor, bringsSecret }));
    if (!written.ok) return written;
    const saved = await this.#prove(accountId, written.value);
    if (!saved.ok) return saved;
    const { created } = written.value;
    return { ok: true, value: { ...saved.value, created, signingSecret: created ? secret.value.shown : undefined } };
  }

  /**
   * Changes what is given, and nothing when any of it is wrong. A new URL is judged as that of a new endpoint, and where the
   * policy asks for it, it has to prove whose it is as that of a new one.
   */
  async change(accountId: AccountId, id: EndpointId, settings: EndpointSettings): Promise<Result<SavedEndpoint>> {
    const checked = settings.url === undefined ? undefined : await this.#checkUrl(settings.url);
    if (checked?.ok === false) return checked;
    const given = this.#toChanges({ accountId, endpointId: id }, settings);
    if (!given.ok) return given;
    const changes = { ...given.value, ...(checked && { url: checked.value }) };
    try {
      const written = await this.#deps.db.transaction((tx) =>
        change(tx, { accountId, endpointId: id }, changes, this.#deps.clock.now()),
      );
      if (!written.ok) return written;
      // What waited for a lower limit may go.
      this.#deps.announceDeliveries();
      return await this.#prove(accountId, written.value);
    } catch (error) {
      if (!isDuplicate(error)) throw error;
      return refuse('endpoint_url_taken', 'Another endpoint of the account has that URL: change or delete that one.');
    }
  }

  /** Challenges an unverified endpoint once more. Of one that need not prove anything nothing is asked. */
  verify(accountId: AccountId, id: EndpointId): Promise<Result<SavedEndpoint>> {
    return this.#prove(accountId, { id, isToProve: true });
  }

  /** After the commit: whatever becomes of the challenge, the endpoint is there and can be challenged again. */
  async #prove(accountId: AccountId, { id, isToProve }: Omit<Written, 'created'>): Promise<Result<SavedEndpoint>> {
    const { db, verification } = this.#deps;
    const made = isToProve ? await verification.challenge({ accountId, endpointId: id }) : undefined;
    const [endpoint] = await readEndpoints(db, accountId, { id, limit: 1 });
    return endpoint === undefined ? refuseUnknown(id) : { ok: true, value: { endpoint, verification: made } };
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

async function insert(
  tx: Transaction,
  given: NewEndpoint,
  { changesFor, bringsSecret }: { changesFor: (id: EndpointId) => Result<EndpointChanges>; bringsSecret: boolean },
): Promise<Result<Written>> {
  const { accountId, now } = given;
  const { id, created } = await ensureEndpoint(tx, given);
  if (!created && bringsSecret)
    return refuse('endpoint_url_taken', `The endpoint ${id} has that URL: rotate its secret to one of your own.`);
  const before = (await lockEndpoint(tx, { accountId, endpointId: id }))!;
  const isNew = created || !before.isRegistered;
  if (!before.isRegistered) await registerEndpoint(tx, { accountId, id }, now);
  const changes = changesFor(id);
  if (!changes.ok) return changes;
  if (isNew && Object.keys(changes.value).length > 0) await changeEndpoint(tx, { accountId, id }, changes.value, now);
  const isToProve = isNew && before.policy === 'verified';
  if (isToProve) await unverifyEndpoint(tx, { accountId, endpointId: id }, now);
  return { ok: true, value: { id, created, isToProve } };
}

async function change(
  tx: Transaction,
  ref: EndpointRef,
  changes: EndpointChanges,
  now: Date,
): Promise<Result<Written>> {
  const { accountId, endpointId: id } = ref;
  const before = await lockEndpoint(tx, ref);
  if (before === undefined) return refuseUnknown(id);
  const refusal = refuseUnregisteredUse(before, changes) ?? refuseTlsOf(before, changes);
  if (refusal !== undefined) return refusal;
  await changeEndpoint(tx, { accountId, id }, changes, now);
  const isToProve = before.policy === 'verified' && changes.url !== undefined && changes.url !== before.url;
  if (isToProve) await unverifyEndpoint(tx, ref, now);
  return { ok: true, value: { id, created: false, isToProve } };
}

/** Or what only a job has named would hear of all jobs, or be led elsewhere, where the policy lets no job name it any more. */
function refuseUnregisteredUse(before: LockedEndpoint, { eventTypes = [], url }: EndpointChanges): Refusal | undefined {
  if (eventTypes.length > 0) return refuseUnregistered(before.policy, before, '/event_types');
  if (url !== undefined && url !== before.url) return refuseUnregistered(before.policy, before, '/url');
  return undefined;
}

function refuseTlsOf(
  before: Pick<LockedEndpoint, 'url' | 'hasAuthorities' | 'hasCertificate'>,
  { tlsAuthorities, tlsCertificate, url }: EndpointChanges,
): Refusal | undefined {
  const hasAuthorities = tlsAuthorities === undefined ? before.hasAuthorities : tlsAuthorities !== null;
  const hasCertificate = tlsCertificate === undefined ? before.hasCertificate : tlsCertificate !== null;
  const path = url === undefined ? '/tls' : '/url';
  return refuseTlsWithout(url ?? before.url, { hasTls: hasAuthorities || hasCertificate, path });
}
