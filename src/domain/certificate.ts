import { X509Certificate } from 'node:crypto';

/** What a certificate says of itself, for people to tell it by. */
export interface CertificateSummary {
  /** Its attributes in one line: `O=Acme, CN=client`. */
  readonly subject: string;
  readonly issuer: string;
  /** Of its DER form, in lower-case hex. */
  readonly fingerprintSha256: string;
  readonly validFrom: Date;
  readonly validTo: Date;
}

/** The first certificate of a chain in PEM, which must be one. */
export function summarize(pem: string): CertificateSummary {
  const certificate = new X509Certificate(pem);
  return {
    subject: oneLine(certificate.subject),
    issuer: oneLine(certificate.issuer),
    fingerprintSha256: certificate.fingerprint256.replaceAll(':', '').toLowerCase(),
    validFrom: certificate.validFromDate,
    validTo: certificate.validToDate,
  };
}

/** A certificate may name nobody: Node has undefined then. */
function oneLine(name: string | undefined): string {
  return (name ?? '').replaceAll('\n', ', ');
}
