import type { KeyObject } from 'node:crypto';
import { type AccountId, type EndpointId, type SecretId, newId } from './ids.ts';
import { type SealedSecret, type SecretKey, open, seal } from './secret-box.ts';
import { formatSigningSecret, newSigningKey, signingKeyOf } from './signature.ts';

/** Binds a sealed secret to its row: moved to another endpoint, it does not open. */
function sealContext(accountId: AccountId, endpointId: EndpointId, secretId: SecretId): string {
  return `${accountId}/${endpointId}/${secretId}`;
}

export interface MintedSecret {
  /** What the row holds. */
  readonly sealed: SealedSecret & { readonly id: SecretId };
  /** `whsec_...`: shown to its owner once, and never again. */
  readonly text: string;
}

export function mintSecret(
  keys: readonly SecretKey[],
  accountId: AccountId,
  endpointId: EndpointId,
  now: Date,
): MintedSecret {
  const id = newId('sec', now.getTime());
  const key = newSigningKey();
  return { sealed: { id, ...seal(keys, sealContext(accountId, endpointId, id), key) }, text: formatSigningSecret(key) };
}

/** The signing key inside a sealed secret. Throws when the encryption key is gone or the row was tampered with. */
export function openSecret(
  keys: readonly SecretKey[],
  owner: { accountId: AccountId; endpointId: EndpointId },
  secret: SealedSecret & { readonly id: SecretId },
): KeyObject {
  return signingKeyOf(open(keys, sealContext(owner.accountId, owner.endpointId, secret.id), secret));
}
