import { hash } from 'node:crypto';
import type { Health } from '#domain/circuit.ts';
import type { DeliveryOrder } from '#domain/endpoint-policy.ts';
import { openSecret, openTlsKey } from '#domain/endpoint.ts';
import type { EndpointId, SecretId } from '#domain/ids.ts';
import type { SecretKey } from '#domain/secret-box.ts';
import type { Signer } from '#domain/signature.ts';
import type { TlsIdentity } from '#egress/identity.ts';
import type { SealedDestination } from '#store/claim-deliveries.ts';

/** Where a delivery goes and how, and what signs it. What the endpoint leaves to the configuration is undefined. */
export interface Destination {
  readonly endpointId: EndpointId;
  readonly url: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly timeoutMs?: number;
  readonly schedule?: readonly number[];
  readonly ordering: DeliveryOrder;
  /** As the claim found it. */
  readonly health: Health;
  /** Newest first; undefined when a secret cannot be opened: nothing may be sent unsigned. */
  readonly signers: ReadonlyArray<Signer & { readonly id: SecretId }> | undefined;
  /** Null for an endpoint without settings of its own; undefined when its key cannot be opened. */
  readonly tls: TlsIdentity | null | undefined;
}

/** Opens an endpoint's secrets, once for all of its deliveries in a claim. */
export function openDestination(sealed: SealedDestination, keys: readonly SecretKey[]): Destination {
  const { endpointId, url, headers, timeoutMs, retrySchedule, ordering, health } = sealed;
  return {
    endpointId,
    url,
    headers,
    ...(timeoutMs !== null && { timeoutMs }),
    ...(retrySchedule !== null && { schedule: retrySchedule }),
    ordering,
    health,
    signers: openSigners(sealed, keys),
    tls: openTls(sealed, keys),
  };
}

/** False when what signs for the endpoint, or its client certificate's key, cannot be decrypted here. */
export function isReadable({ signers, tls }: Destination): boolean {
  return signers !== undefined && tls !== undefined;
}

function openSigners(sealed: SealedDestination, keys: readonly SecretKey[]): Destination['signers'] {
  try {
    const signers = sealed.secrets.map(({ ciphertext, ...secret }) => ({
      id: secret.id,
      ...openSecret(keys, sealed, { ...secret, ciphertext: Buffer.from(ciphertext, 'base64') }),
    }));
    return signers.length > 0 ? signers : undefined;
  } catch {
    return undefined;
  }
}

function openTls(sealed: SealedDestination, keys: readonly SecretKey[]): Destination['tls'] {
  if (sealed.tls === null) return null;
  const { authorities, certificate, keyId, keyCiphertext } = sealed.tls;
  try {
    const given = {
      ...(authorities !== null && { ca: authorities }),
      ...(certificate !== null && {
        cert: certificate,
        key: openTlsKey(keys, sealed, { keyId, ciphertext: Buffer.from(keyCiphertext, 'base64') }),
      }),
    };
    return { ...given, fingerprint: hash('sha256', JSON.stringify(given)) };
  } catch {
    return undefined;
  }
}
