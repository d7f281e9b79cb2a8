import type { Clock } from '#domain/clock.ts';
import { refuseUnknown } from '#domain/callback-target.ts';
import { type NewSecret, sealSecret, type SecretOwner } from '#domain/endpoint.ts';
import type { AccountId, EndpointId, SecretId } from '#domain/ids.ts';
import { type Refusal, type Result, refuse } from '#domain/problem.ts';
import type { SecretKey } from '#domain/secret-box.ts';
import type { SignatureScheme } from '#domain/signature.ts';
import {
  formatSigningSecret,
  newSigningSecret,
  parseSigningSecret,
  type SigningSecret,
} from '#domain/signing-secret.ts';
import type { Database } from '#store/database.ts';
import {
  lockSecrets,
  type PublicKeyRecord,
  readPublicKeys,
  readSecrets,
  rotateSecret,
  type SecretRecord,
} from '#store/endpoint-secrets.ts';
import { isEndpoint } from '#store/endpoints.ts';

export type { PublicKeyRecord, SecretRecord };

/** After a rotation the old secrets sign beside the new one, so that receivers can change over in their own time. */
const ROTATION_GRACE_MS = 24 * 60 * 60 * 1000;
export const MAX_ROTATION_GRACE_MS = 7 * ROTATION_GRACE_MS;

/** Each makes every callback dearer to sign, and its header longer. */
const MAX_SIGNING_AT_ONCE = 10;

export interface WantedSecret {
  /** Left out, it is that of `secret`, or else `v1`. */
  readonly scheme?: SignatureScheme | undefined;
  /** One that its owner brings along: `whsec_...` or `whsk_...`. */
  readonly secret?: string | undefined;
}

export interface GivenSecret {
  readonly sealed: NewSecret;
  /** To be shown once; undefined for one that its owner knows already. */
  readonly shown: string | undefined;
}

/** Makes a signing secret, or takes the one that is brought along. Faults name `/signing_secret` or `/scheme`. */
export function mintOrImport(
  keys: readonly SecretKey[],
  owner: SecretOwner,
  wanted: WantedSecret,
  now: Date,
): Result<GivenSecret> {
  const { scheme, secret: text } = wanted;
  const parsed: Result<SigningSecret> =
    text === undefined ? { ok: true, value: newSigningSecret(scheme ?? 'v1') } : parse(text, scheme);
  if (!parsed.ok) return parsed;
  const sealed = sealSecret(keys, owner, parsed.value, now);
  return { ok: true, value: { sealed, shown: text === undefined ? formatSigningSecret(parsed.value) : undefined } };
}

function parse(text: string, scheme: SignatureScheme | undefined): Result<SigningSecret> {
  const parsed = parseSigningSecret(text);
  if (!parsed.ok) return refuseSecret('/signing_secret', parsed.fault);
  const { secret } = parsed;
  if (scheme === undefined || scheme === secret.scheme) return { ok: true, value: secret };
  return refuseSecret('/scheme', `does not fit the secret, which is one of ${secret.scheme}`);
}

function refuseSecret(path: string, message: string): Refusal {
  return refuse('invalid_signing_secret', `${path}: ${message}`, { faults: [{ path, message }] });
}

export interface Rotation extends WantedSecret {
  /** How long the old secrets sign too, in milliseconds; 0 ends them at once. A day when left out. */
  readonly graceMs?: number | undefined;
}

export interface RotatedSecret extends GivenSecret {
  readonly graceEndsAt: Date;
}

/** What signs the callbacks to an endpoint. */
export class Secrets {
  readonly #deps: { readonly db: Database; readonly clock: Clock; readonly keys: readonly SecretKey[] };

  constructor(deps: { readonly db: Database; readonly clock: Clock; readonly keys: readonly SecretKey[] }) {
    this.#deps = deps;
  }

  /**
   * Gives an endpoint a new signing secret, of the scheme it has unless told otherwise. The old ones sign beside it until
   * the grace ends, or sooner if a rotation before said so.
   */
  async rotate(accountId: AccountId, endpointId: EndpointId, rotation: Rotation = {}): Promise<Result<RotatedSecret>> {
    const { db, keys } = this.#deps;
    const { graceMs = ROTATION_GRACE_MS, secret } = rotation;
    const owner = { accountId, endpointId };
    return db.transaction(async (tx) => {
      const now = this.#deps.clock.now();
      const signing = await lockSecrets(tx, owner, now);
      if (signing === undefined) return refuseUnknown(endpointId);
      if (graceMs > 0 && signing.length >= MAX_SIGNING_AT_ONCE) return refuseAnother(signing.length);
      const scheme = rotation.scheme ?? (secret === undefined ? signing[0]?.scheme : undefined);
      const given = mintOrImport(keys, owner, { scheme, secret }, now);
      if (!given.ok) return given;
      const graceEndsAt = new Date(now.getTime() + graceMs);
      await rotateSecret(tx, { ...owner, secret: given.value.sealed, graceEndsAt, now });
      return { ok: true, value: { ...given.value, graceEndsAt } };
    });
  }

  /** Also those that sign no more, newest first. */
  async list(
    accountId: AccountId,
    endpointId: EndpointId,
    page: { before?: SecretId; limit: number },
  ): Promise<Result<SecretRecord[]>> {
    const { db } = this.#deps;
    if (!(await isEndpoint(db, accountId, endpointId))) return refuseUnknown(endpointId);
    return { ok: true, value: await readSecrets(db, { accountId, endpointId }, page) };
  }

  /** What verifies the callbacks to an endpoint now, newest first. For everybody: none when there is no such endpoint. */
  publicKeys(endpointId: EndpointId): Promise<PublicKeyRecord[]> {
    return readPublicKeys(this.#deps.db, endpointId, this.#deps.clock.now());
  }
}

function refuseAnother(count: number): Refusal {
  return refuse(
    'too_many_signing_secrets',
    `${count} secrets sign for the endpoint. Wait until one has ended, or rotate with "grace_ms": 0.`,
  );
}
