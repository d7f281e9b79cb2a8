import type { Connection } from './database.ts';

/** An endpoint's own TLS settings: certificates in PEM, the sealed key in base64. */
export type SealedTls = { readonly authorities: string | null } & (
  | { readonly certificate: null; readonly keyId: null; readonly keyCiphertext: null }
  | { readonly certificate: string; readonly keyId: string; readonly keyCiphertext: string }
);

/** Those of the endpoint in the row at hand, as JSON: in the row itself, so that a claim joins nothing for them. */
export const tlsJson = (sql: Connection) => sql`
  CASE WHEN tls_authorities IS NOT NULL OR tls_certificate IS NOT NULL THEN
    json_build_object('authorities', tls_authorities, 'certificate', tls_certificate, 'keyId', tls_key_id,
      'keyCiphertext', encode(tls_key_ciphertext, 'base64')) END`;
