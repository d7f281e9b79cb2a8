import type { Database } from './database.ts';

/** What is sealed with a key. */
export type SealedKind = 'signing secrets' | 'client certificates' | 'idempotent responses';

export interface KeyInUse {
  readonly keyId: string;
  readonly kind: SealedKind;
}

/**
 * The ids of the keys that open what may still have to be opened: not what has expired, nor what belongs to a deleted endpoint.
 * Walks from key id to key id along `endpoint_secrets_key`, `endpoints_tls_key` and `idempotency_keys_key`: a few index probes,
 * however many rows there are.
 */
export function findKeysInUse({ sql }: Database): Promise<KeyInUse[]> {
  return sql<KeyInUse[]>`
    WITH RECURSIVE secret_key AS (
      SELECT (SELECT key_id FROM ringback.endpoint_secrets ORDER BY key_id LIMIT 1) AS id
      UNION ALL
      SELECT (SELECT key_id FROM ringback.endpoint_secrets WHERE key_id > secret_key.id ORDER BY key_id LIMIT 1)
      FROM secret_key WHERE secret_key.id IS NOT NULL
    ), tls_key AS (
      SELECT (SELECT tls_key_id FROM ringback.endpoints WHERE tls_key_id IS NOT NULL ORDER BY tls_key_id LIMIT 1) AS id
      UNION ALL
      SELECT (SELECT tls_key_id FROM ringback.endpoints WHERE tls_key_id > tls_key.id ORDER BY tls_key_id LIMIT 1)
      FROM tls_key WHERE tls_key.id IS NOT NULL
    ), response_key AS (
      SELECT (SELECT response_key_id FROM ringback.idempotency_keys WHERE response_key_id IS NOT NULL
        ORDER BY response_key_id LIMIT 1) AS id
      UNION ALL
      SELECT (SELECT response_key_id FROM ringback.idempotency_keys WHERE response_key_id > response_key.id
        ORDER BY response_key_id LIMIT 1)
      FROM response_key WHERE response_key.id IS NOT NULL
    )
    -- Subqueries with a limit, for EXISTS would have the planner gather the keys of all rows first.
    SELECT id AS "keyId", 'signing secrets' AS kind FROM secret_key
    WHERE (SELECT true FROM ringback.endpoint_secrets WHERE key_id = secret_key.id AND expires_at IS NULL LIMIT 1)
      OR (SELECT true FROM ringback.endpoint_secrets WHERE key_id = secret_key.id AND expires_at > now() LIMIT 1)
    UNION ALL
    SELECT id, 'client certificates' FROM tls_key
    WHERE (SELECT true FROM ringback.endpoints WHERE tls_key_id = tls_key.id AND num_nonnulls(deleted_at) = 0 LIMIT 1)
    UNION ALL
    SELECT id, 'idempotent responses' FROM response_key
    WHERE (SELECT true FROM ringback.idempotency_keys WHERE response_key_id = response_key.id AND expires_at > now() LIMIT 1)
    ORDER BY "keyId", kind`;
}
