import { and, asc, eq, gt } from 'drizzle-orm';
import type { AccountId, EndpointId, SecretId } from '#domain/ids.ts';
import type { SealedSecret } from '#domain/secret-box.ts';
import { type Connection, type Database, transaction } from './database.ts';
import { endpoints } from './schema/callbacks.ts';

export type EndpointRecord = Readonly<typeof endpoints.$inferSelect>;

export async function findEndpoint(
  { orm }: Database,
  accountId: AccountId,
  key: { id: EndpointId } | { url: string },
): Promise<EndpointRecord | undefined> {
  const wanted = 'id' in key ? eq(endpoints.id, key.id) : eq(endpoints.url, key.url);
  const rows = await orm
    .select()
    .from(endpoints)
    .where(and(eq(endpoints.accountId, accountId), wanted));
  return rows[0];
}

/** Oldest first; `after` is the last id of the page before. Served by `endpoints_pkey`. */
export async function listEndpoints(
  { orm }: Database,
  accountId: AccountId,
  page: { after: EndpointId | undefined; limit: number },
): Promise<EndpointRecord[]> {
  return orm
    .select()
    .from(endpoints)
    .where(and(eq(endpoints.accountId, accountId), page.after === undefined ? undefined : gt(endpoints.id, page.after)))
    .orderBy(asc(endpoints.id))
    .limit(page.limit);
}

export interface NewSecret extends SealedSecret {
  readonly id: SecretId;
}

/**
 * Inserts an endpoint with its first secret, unless the account has that URL already. Of several at once
 * `endpoints_url` lets one through; the others wait for it, then find `created` false and its id.
 */
export async function ensureEndpoint(
  sql: Connection,
  endpoint: { accountId: AccountId; id: EndpointId; url: string; secret: NewSecret; now: Date },
): Promise<{ id: EndpointId; created: boolean }> {
  const { accountId, id, url, secret, now } = endpoint;
  const inserted = await sql`
    WITH endpoint AS (
      INSERT INTO ringback.endpoints (account_id, id, url, created_at, updated_at)
      VALUES (${accountId}, ${id}, ${url}, ${now}, ${now})
      ON CONFLICT (account_id, url) WHERE deleted_at IS NULL DO NOTHING
      RETURNING account_id, id
    ), lane AS (
      INSERT INTO ringback.endpoint_lanes (account_id, endpoint_id) SELECT account_id, id FROM endpoint
    ), health AS (
      INSERT INTO ringback.endpoint_health (account_id, endpoint_id) SELECT account_id, id FROM endpoint
    )
    INSERT INTO ringback.endpoint_secrets (account_id, id, endpoint_id, key_id, ciphertext, created_at)
    SELECT account_id, ${secret.id}, id, ${secret.keyId}, ${secret.ciphertext}, ${now} FROM endpoint`;
  if (inserted.count === 1) return { id, created: true };
  const [found] = await sql<[{ id: EndpointId }]>`
    SELECT id FROM ringback.endpoints WHERE account_id = ${accountId} AND url = ${url} AND deleted_at IS NULL`;
  return { id: found.id, created: false };
}

/** Adds a secret and sets the end of those that signed until now: both sign until `graceEndsAt`. */
export async function rotateSecret(
  db: Database,
  rotation: { accountId: AccountId; endpointId: EndpointId; secret: NewSecret; graceEndsAt: Date; now: Date },
): Promise<void> {
  const { accountId, endpointId, secret, graceEndsAt, now } = rotation;
  await transaction(db, async (tx) => {
    // Of two rotations at once the second must see the first's secret, or two would never expire.
    await tx`
      SELECT FROM ringback.endpoints WHERE account_id = ${accountId} AND id = ${endpointId} FOR UPDATE`;
    await tx`
      UPDATE ringback.endpoint_secrets SET expires_at = ${graceEndsAt}
      WHERE account_id = ${accountId} AND endpoint_id = ${endpointId} AND expires_at IS NULL`;
    await tx`
      INSERT INTO ringback.endpoint_secrets (account_id, id, endpoint_id, key_id, ciphertext, created_at)
      VALUES (${accountId}, ${secret.id}, ${endpointId}, ${secret.keyId}, ${secret.ciphertext}, ${now})`;
  });
}
