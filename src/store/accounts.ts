import type { ApiKeyScope } from '#domain/api-key.ts';
import type { AccountId, ApiKeyId } from '#domain/ids.ts';
import type { Database } from './database.ts';

export interface ApiKeyRecord {
  readonly id: ApiKeyId;
  readonly accountId: AccountId;
  readonly scopes: readonly ApiKeyScope[];
}

/** The key with that hash, unless it is revoked. Served by `api_keys_hash`. */
export async function findApiKey({ sql }: Database, hash: Uint8Array): Promise<ApiKeyRecord | undefined> {
  const rows = await sql<ApiKeyRecord[]>`
    SELECT id, account_id AS "accountId", scopes
    FROM ringback.api_keys
    WHERE hash = ${hash} AND revoked_at IS NULL`;
  return rows[0];
}

/**
 * Makes the key valid for the account of that name, creating the account. Several processes may do this at once: the
 * unique name decides whose account it is, and the key is only inserted where its hash is not yet known. One that the
 * account has already gets these scopes: those that there are grow with the versions.
 */
export async function ensureApiKey(
  db: Database,
  key: {
    accountId: AccountId;
    accountName: string;
    keyId: ApiKeyId;
    hash: Uint8Array;
    lastFour: string;
    scopes: readonly ApiKeyScope[];
    now: Date;
  },
): Promise<void> {
  await db.transaction(async (tx) => {
    // Locks the account row, so that a second process waits here and then finds the key.
    const [account] = await tx<[{ account_id: AccountId }]>`
      INSERT INTO ringback.accounts (account_id, name, created_at)
      VALUES (${key.accountId}, ${key.accountName}, ${key.now})
      ON CONFLICT (name) DO UPDATE SET name = excluded.name
      RETURNING account_id`;
    await tx`
      UPDATE ringback.api_keys SET scopes = ${[...key.scopes]}::text[]
      WHERE hash = ${key.hash} AND account_id = ${account.account_id} AND scopes <> ${[...key.scopes]}::text[]`;
    await tx`
      INSERT INTO ringback.api_keys (account_id, id, hash, last_four, scopes, created_at)
      SELECT ${account.account_id}, ${key.keyId}, ${key.hash}, ${key.lastFour}, ${[...key.scopes]}::text[], ${key.now}
      WHERE NOT EXISTS (SELECT FROM ringback.api_keys WHERE hash = ${key.hash})`;
  });
}

/** Whether any account has a limit of its own to what it may have running. */
export async function hasRunningLimits({ sql }: Database): Promise<boolean> {
  const [row] = await sql<[{ any: boolean }]>`
    SELECT EXISTS (SELECT FROM ringback.accounts WHERE max_running IS NOT NULL) AS any`;
  return row.any;
}
