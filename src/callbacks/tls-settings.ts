import { sealTlsKey, type SecretOwner } from '#domain/endpoint.ts';
import { type Refusal, type Result, refuse } from '#domain/problem.ts';
import type { SecretKey } from '#domain/secret-box.ts';
import { openIdentity } from '#egress/identity.ts';
import type { EndpointChanges } from '#store/endpoints.ts';

/** PEM. What is left out stays as it is, null takes it away; the key comes and goes with its certificate. */
export interface WantedTls {
  readonly authorities?: string | null | undefined;
  readonly certificate?: string | null | undefined;
  readonly key?: string | undefined;
}

type TlsChanges = Pick<EndpointChanges, 'tlsAuthorities' | 'tlsCertificate' | 'tlsKeyId' | 'tlsKeyCiphertext'>;

const NO_IDENTITY: TlsChanges = { tlsCertificate: null, tlsKeyId: null, tlsKeyCiphertext: null };

/**
 * Judges TLS settings as every attempt will, and seals the private key. Authorities and identity are judged apart, so
 * whatever of the two an endpoint has already, they fit. Null removes all. Faults name their place under `/tls`.
 */
export function sealTls(keys: readonly SecretKey[], owner: SecretOwner, wanted: WantedTls | null): Result<TlsChanges> {
  if (wanted === null) return { ok: true, value: { tlsAuthorities: null, ...NO_IDENTITY } };
  const { authorities, certificate, key } = wanted;
  const verdict = openIdentity({
    ca: authorities ?? undefined,
    cert: certificate ?? undefined,
    key,
    fingerprint: 'judged only',
  });
  if (!verdict.ok) return refuseTls(`/tls/${verdict.part}`, verdict.failure.detail);
  const value = {
    ...(authorities !== undefined && { tlsAuthorities: authorities }),
    ...(certificate === null && NO_IDENTITY),
    ...(certificate && key && sealedIdentity(keys, owner, certificate, key)),
  };
  return { ok: true, value };
}

function sealedIdentity(keys: readonly SecretKey[], owner: SecretOwner, certificate: string, key: string): TlsChanges {
  const { keyId, ciphertext } = sealTlsKey(keys, owner, key);
  return { tlsCertificate: certificate, tlsKeyId: keyId, tlsKeyCiphertext: Buffer.from(ciphertext) };
}

/** TLS settings of a URL that is called without TLS would promise what nobody keeps. */
export function refuseTlsWithout(
  url: string,
  tls: { readonly hasTls: boolean; readonly path: string },
): Refusal | undefined {
  if (!tls.hasTls || url.startsWith('https:')) return undefined;
  return refuseTls(tls.path, 'The URL is not https: TLS settings go with an https:// URL only.');
}

function refuseTls(path: string, message: string): Refusal {
  return refuse('invalid_tls', message, { faults: [{ path, message }] });
}
