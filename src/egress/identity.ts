import { createPrivateKey, X509Certificate } from 'node:crypto';
import tls from 'node:tls';
import { codeOf, type Failure } from './failure.ts';
import type { LaneIdentity } from './lane.ts';

/** Whom a request trusts and how it proves who it is: PEM, as the owner of an endpoint has given it. */
export interface TlsIdentity {
  /** Authorities, one after the other, to trust instead of those that the sender trusts otherwise. */
  readonly ca?: string | undefined;
  /** The client's certificate, followed by its chain. Not without `key`. */
  readonly cert?: string | undefined;
  /** Not encrypted. */
  readonly key?: string | undefined;
  /** A digest of the three. Requests share connections and TLS settings only where theirs are equal. */
  readonly fingerprint: string;
}

export type IdentityVerdict =
  | ({ readonly ok: true } & LaneIdentity)
  | { readonly ok: false; readonly part: 'authorities' | 'certificate' | 'key'; readonly failure: Failure };

/** Each takes 50 KB, and 0.3 ms to make. */
const MAX_KEPT = 200;

const PEM_CERTIFICATE = /-----BEGIN CERTIFICATE-----[^-]*-----END CERTIFICATE-----/g;

function invalid(part: 'authorities' | 'certificate' | 'key', what: string): IdentityVerdict {
  const detail = `The endpoint's ${what}.`;
  return { ok: false, part, failure: { outcome: 'blocked', code: 'tls_identity_invalid', detail } };
}

/** OpenSSL takes what it can read of the authorities and says nothing of the rest. */
function areCertificates(pem: string): boolean {
  const certificates = pem.match(PEM_CERTIFICATE) ?? [];
  if (certificates.length === 0 || pem.replace(PEM_CERTIFICATE, '').includes('-----')) return false;
  try {
    for (const certificate of certificates) void new X509Certificate(certificate);
    return true;
  } catch {
    return false;
  }
}

/**
 * Why key and certificate do not go together; undefined when they do. OpenSSL compares keys of one kind only: with an RSA
 * certificate and an EC key it would begin every handshake, and show no certificate in any.
 */
function mismatchOf(cert: string, key: string): string | undefined {
  try {
    // The first is what is shown. An empty passphrase, or OpenSSL would ask the terminal for that of an encrypted key.
    const isItsKey = new X509Certificate(cert).checkPrivateKey(createPrivateKey({ key, passphrase: '' }));
    return isItsKey ? undefined : 'key is that of another certificate';
  } catch (error) {
    return `certificate and key cannot be used together (${codeOf(error)})`;
  }
}

/**
 * Reads an identity, also to judge one before it is stored. `ca`: whom to trust when it names nobody, Node's own
 * authorities without. A bad one is told by its failure, which quotes nothing of it.
 */
export function openIdentity(identity: TlsIdentity, ca?: tls.TlsOptions['ca']): IdentityVerdict {
  const { cert, key, fingerprint } = identity;
  if ((cert === undefined) !== (key === undefined))
    return invalid(cert === undefined ? 'certificate' : 'key', 'client certificate and key are not both there');
  if (identity.ca !== undefined && !areCertificates(identity.ca))
    return invalid('authorities', 'authorities are no certificates in PEM');
  if (cert !== undefined && !areCertificates(cert))
    return invalid('certificate', 'client certificate is no certificate in PEM');
  const mismatch = cert === undefined || key === undefined ? undefined : mismatchOf(cert, key);
  if (mismatch !== undefined) return invalid('key', `client ${mismatch}`);
  const trusted = identity.ca ?? ca;
  try {
    const secureContext = tls.createSecureContext({
      ...(trusted !== undefined && { ca: trusted }),
      ...(cert !== undefined && key !== undefined && { cert, key }),
    });
    return { ok: true, fingerprint, secureContext };
  } catch (error) {
    return invalid('key', `client certificate and key cannot be used together (${codeOf(error)})`);
  }
}

/** Opens each identity once and keeps those used last. */
export class Identities {
  readonly #ca: tls.TlsOptions['ca'];
  readonly #kept = new Map<string, IdentityVerdict>();

  constructor(ca: tls.TlsOptions['ca']) {
    this.#ca = ca;
  }

  open(identity: TlsIdentity): IdentityVerdict {
    const { fingerprint } = identity;
    const verdict = this.#kept.get(fingerprint) ?? openIdentity(identity, this.#ca);
    this.#kept.delete(fingerprint);
    this.#kept.set(fingerprint, verdict); // a map keeps the order: the first is the one not used for longest
    if (this.#kept.size > MAX_KEPT) this.#kept.delete(this.#kept.keys().next().value!);
    return verdict;
  }
}
