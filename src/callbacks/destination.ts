import type { KeyObject } from 'node:crypto';
import { openSecret } from '#domain/endpoint.ts';
import type { EndpointId, SecretId } from '#domain/ids.ts';
import type { SecretKey } from '#domain/secret-box.ts';
import type { SealedDestination } from '#store/claim-deliveries.ts';

/** Where a delivery goes and what signs it. */
export interface Destination {
  readonly endpointId: EndpointId;
  readonly url: string;
  /** Newest first; undefined when a secret cannot be opened: nothing may be sent unsigned. */
  readonly signers: ReadonlyArray<{ readonly id: SecretId; readonly key: KeyObject }> | undefined;
}

/** Opens an endpoint's secrets, once for all of its deliveries in a claim. */
export function openDestination(sealed: SealedDestination, keys: readonly SecretKey[]): Destination {
  const { endpointId, url, secrets } = sealed;
  try {
    const signers = secrets.map(({ id, keyId, ciphertext }) => ({
      id,
      key: openSecret(keys, sealed, { id, keyId, ciphertext: Buffer.from(ciphertext, 'base64') }),
    }));
    return { endpointId, url, signers: signers.length > 0 ? signers : undefined };
  } catch {
    return { endpointId, url, signers: undefined };
  }
}
