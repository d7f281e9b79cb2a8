import { type AccountId, type EndpointId, newId, type SecretId } from './ids.ts';
import { open, seal, type SealedSecret, type SecretKey } from './secret-box.ts';
import { publicKeyOf, type SignatureScheme, type Signer, signerOf } from './signature.ts';
import { formatSigningSecret, newSigningSecret, type SigningSecret } from './signing-secret.ts';

export interface SecretOwner {
  readonly accountId: AccountId;
  readonly endpointId: EndpointId;
}

/** A secret's row, as far as its scheme and its sealed key go. */
export interface SealedSigningSecret extends SealedSecret {
  readonly id: SecretId;
  readonly scheme: SignatureScheme;
}

/** What the row of a new secret holds. */
export interface NewSecret extends SealedSigningSecret {
  /** Of `v1a`: the raw 32 bytes. */
  readonly publicKey: Uint8Array | null;
}

/**
 * Binds a sealed secret to its row: moved to another endpoint, it does not open. `v1` is not written out, because secrets
 * were sealed before there was another scheme.
 */
function sealContext({ accountId, endpointId }: SecretOwner, id: SecretId, scheme: SignatureScheme): string {
  return `${accountId}/${endpointId}/${id}${scheme === 'v1' ? '' : `/${scheme}`}`;
}

export function sealSecret(
  keys: readonly SecretKey[],
  owner: SecretOwner,
  { scheme, key }: SigningSecret,
  now: Date,
): NewSecret {
  const id = newId('sec', now.getTime());
  const publicKey = scheme === 'v1a' ? publicKeyOf(key) : null;
  return { id, scheme, publicKey, ...seal(keys, sealContext(owner, id, scheme), key) };
}

function tlsKeyContext({ accountId, endpointId }: SecretOwner): string {
  return `${accountId}/${endpointId}/tls`;
}

/** The private key of an endpoint's client certificate, in PEM. */
export function sealTlsKey(keys: readonly SecretKey[], owner: SecretOwner, pem: string): SealedSecret {
  return seal(keys, tlsKeyContext(owner), Buffer.from(pem));
}

/** Throws when the encryption key is gone or the row was tampered with. */
export function openTlsKey(keys: readonly SecretKey[], owner: SecretOwner, sealed: SealedSecret): string {
  return Buffer.from(open(keys, tlsKeyContext(owner), sealed)).toString();
}

export interface MintedSecret {
  readonly sealed: NewSecret;
  /** `whsec_...`: shown to its owner once, and never again. */
  readonly text: string;
}

/** A secret of the scheme that every receiver knows, for an endpoint that nobody asked another one for. */
export function mintSecret(
  keys: readonly SecretKey[],
  accountId: AccountId,
  endpointId: EndpointId,
  now: Date,
): MintedSecret {
  const secret = newSigningSecret('v1');
  return { sealed: sealSecret(keys, { accountId, endpointId }, secret, now), text: formatSigningSecret(secret) };
}

/** What signs with a sealed secret. Throws when the encryption key is gone or the row was tampered with. */
export function openSecret(keys: readonly SecretKey[], owner: SecretOwner, secret: SealedSigningSecret): Signer {
  const { id, scheme } = secret;
  return signerOf(scheme, open(keys, sealContext(owner, id, scheme), secret));
}
