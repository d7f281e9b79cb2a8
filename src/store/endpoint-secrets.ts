import type { NewSecret, SecretOwner } from '#domain/endpoint.ts';
import type { EndpointId, SecretId } from '#domain/ids.ts';
import type { SignatureScheme } from '#domain/signature.ts';
import type { Statement } from './statement.ts';
import type { Connection, Database, Transaction } from './database.ts';

/** A secret as anybody may see it who may see the endpoint: never what signs. */
export interface SecretRecord {
  readonly id: SecretId;
  readonly scheme: SignatureScheme;
  /** Of `v1a`: the raw 32 bytes. */
  readonly publicKey: Uint8Array | null;
  readonly createdAt: Date;
  /** From when on it signs no more; null until a rotation says so. */
  readonly expiresAt: Date | null;
}

/** The secrets that sign at `now`, newest first; undefined when there is no such endpoint. */
export async function lockSecrets(
  tx: Transaction,
  { accountId, endpointId }: SecretOwner,
  now: Date,
): Promise<Array<Pick<SecretRecord, 'id' | 'scheme'>> | undefined> {
  // Of two rotations at once the second must see the first's secret, or two would never expire; and what is deleted in the
  // meantime must not get another one.
  const [endpoint] = await tx`
    SELECT FROM ringback.endpoints
    WHERE account_id = ${accountId} AND id = ${endpointId}
      AND num_nonnulls(deleted_at) = 0 FOR NO KEY UPDATE -- BY_KEY`;
  if (endpoint === undefined) return undefined;
  return tx<Array<Pick<SecretRecord, 'id' | 'scheme'>>>`
    SELECT id, scheme FROM ringback.endpoint_secrets
    WHERE account_id = ${accountId} AND endpoint_id = ${endpointId} AND (expires_at IS NULL OR expires_at > ${now})
    ORDER BY id DESC`;
}

/** Adds a secret, and ends those that signed until now at `graceEndsAt`, if not sooner. After `lockSecrets`. */
export async function rotateSecret(
  sql: Connection,
  rotation: SecretOwner & { secret: NewSecret; graceEndsAt: Date; now: Date },
): Promise<void> {
  const { accountId, endpointId, secret, graceEndsAt, now } = rotation;
  await sql`
    UPDATE ringback.endpoint_secrets SET expires_at = ${graceEndsAt}
    WHERE account_id = ${accountId} AND endpoint_id = ${endpointId} AND (expires_at IS NULL OR expires_at > ${graceEndsAt})`;
  await sql`
    INSERT INTO ringback.endpoint_secrets (account_id, id, endpoint_id, scheme, public_key, key_id, ciphertext, created_at)
    VALUES (${accountId}, ${secret.id}, ${endpointId}, ${secret.scheme}, ${secret.publicKey}, ${secret.keyId},
      ${secret.ciphertext}, ${now})`;
}

/** Also those that sign no more: attempts name them. Newest first, from before `before` on. */
export function readSecrets(
  { sql }: Database,
  { accountId, endpointId }: SecretOwner,
  { before, limit }: { before?: SecretId; limit: number },
): Promise<SecretRecord[]> {
  // Served by `endpoint_secrets_of_endpoint`: an endpoint has few.
  return sql<SecretRecord[]>`
    SELECT id, scheme, public_key AS "publicKey", created_at AS "createdAt", expires_at AS "expiresAt"
    FROM ringback.endpoint_secrets
    WHERE endpoint_id = ${endpointId} AND account_id = ${accountId} AND (${before ?? null}::text IS NULL OR id < ${before ?? null})
    ORDER BY id DESC LIMIT ${limit}`;
}

export interface PublicKeyRecord {
  readonly id: SecretId;
  readonly publicKey: Uint8Array;
}

/** The public keys whose private ones sign at `now`, newest first, whoever's endpoint it is: they are no secret. */
export function readPublicKeys({ sql }: Database, endpointId: EndpointId, now: Date): Promise<PublicKeyRecord[]> {
  // Served by `endpoint_secrets_of_endpoint`. A deleted endpoint's have expired.
  return sql<PublicKeyRecord[]>`
    SELECT id, public_key AS "publicKey" FROM ringback.endpoint_secrets
    WHERE endpoint_id = ${endpointId} AND public_key IS NOT NULL AND (expires_at IS NULL OR expires_at > ${now})
    ORDER BY id DESC`;
}

/** The sealed secrets of an endpoint that sign at that time, newest first, as JSON; the ciphertext in base64. */
export const signingSecrets = (
  sql: Connection,
  accountId: Statement<object[]>,
  endpointId: Statement<object[]>,
  now: Date,
) => sql`
  (SELECT coalesce(json_agg(json_build_object('id', secret.id, 'scheme', secret.scheme, 'keyId', secret.key_id,
      'ciphertext', encode(secret.ciphertext, 'base64')) ORDER BY secret.id DESC), '[]')
    FROM ringback.endpoint_secrets AS secret
    WHERE secret.account_id = ${accountId} AND secret.endpoint_id = ${endpointId}
      AND (secret.expires_at IS NULL OR secret.expires_at > ${now}))`;
