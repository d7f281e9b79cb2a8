import type { Health } from '#domain/circuit.ts';
import type { NewSecret } from '#domain/endpoint.ts';
import type { AccountId, EndpointId } from '#domain/ids.ts';
import type { Connection, Database } from './database.ts';
import { healthJson, withDates } from './endpoint-health.ts';
import type { endpoints } from './schema/callbacks.ts';

export type EndpointRow = Readonly<typeof endpoints.$inferSelect>;

/** An endpoint as it is now, without its private key. */
export interface EndpointRecord extends Omit<EndpointRow, 'deletedAt' | 'tlsKeyId' | 'tlsKeyCiphertext'> {
  readonly health: Health;
  /** Deliveries that are queued. */
  readonly backlog: number;
  readonly recent: RecentDeliveries;
}

/** Of the latest deliveries that have been attempted. */
export interface RecentDeliveries {
  readonly attempted: number;
  readonly delivered: number;
}

/** What its owner may change. */
export type EndpointChanges = Partial<
  Pick<
    EndpointRow,
    | 'url'
    | 'description'
    | 'metadata'
    | 'eventTypes'
    | 'headers'
    | 'timeoutMs'
    | 'concurrency'
    | 'ratePerSecond'
    | 'retrySchedule'
    | 'ordering'
    | 'tlsAuthorities'
    | 'tlsCertificate'
    | 'tlsKeyId'
    | 'tlsKeyCiphertext'
  >
>;

/** Counted no further: enough to see that much waits. */
const MOST_BACKLOG = 10_000;
/** Deliveries that a success rate is of, and how many of the newest are looked at for them: a backlog has no attempts yet. */
const RECENT = 100;
const LOOKED_AT = 1000;

/** Those of the account with these ids, or oldest first from one on. Deleted ones are not there. Served by `endpoints_pkey`. */
export async function readEndpoints(
  { sql }: Database,
  accountId: AccountId,
  { id, after, limit }: { id?: EndpointId; after?: EndpointId; limit: number },
): Promise<EndpointRecord[]> {
  const rows = await sql<EndpointRecord[]>`
    SELECT endpoint.account_id AS "accountId", endpoint.id, url, description, metadata, event_types AS "eventTypes", headers,
      timeout_ms AS "timeoutMs", concurrency, rate_per_second AS "ratePerSecond",
      to_json(retry_schedule) AS "retrySchedule", ordering, status, disabled_reason AS "disabledReason",
      is_registered AS "isRegistered", tls_authorities AS "tlsAuthorities", tls_certificate AS "tlsCertificate",
      created_at AS "createdAt", updated_at AS "updatedAt", health.health, waiting.backlog, recent.recent
    FROM ringback.endpoints AS endpoint
    CROSS JOIN LATERAL (
      SELECT ${healthJson(sql)} AS health
      FROM ringback.endpoint_health AS health
      WHERE health.account_id = endpoint.account_id AND health.endpoint_id = endpoint.id LIMIT 1) AS health
    CROSS JOIN LATERAL (
      SELECT count(*)::int AS backlog FROM (
        SELECT FROM ringback.delivery_queue AS item
        WHERE item.state = 'ready' AND item.account_id = endpoint.account_id AND item.endpoint_id = endpoint.id
        LIMIT ${MOST_BACKLOG}) AS few) AS waiting
    CROSS JOIN LATERAL (
      SELECT json_build_object(
        'attempted', count(*), 'delivered', count(*) FILTER (WHERE latest.status = 'delivered')) AS recent
      FROM (
        SELECT newest.status FROM (
          SELECT delivery.status, attempt_count FROM ringback.deliveries AS delivery
          WHERE delivery.endpoint_id = endpoint.id -- deliveries_of_endpoint; named with the account, deliveries_pkey would serve
          ORDER BY delivery.id DESC LIMIT ${LOOKED_AT}) AS newest
        WHERE attempt_count > 0 LIMIT ${RECENT}) AS latest) AS recent
    WHERE endpoint.account_id = ${accountId} AND endpoint.deleted_at IS NULL
      AND endpoint.id > ${after ?? ''} AND (${id ?? null}::text IS NULL OR endpoint.id = ${id ?? null})
    ORDER BY endpoint.id LIMIT ${limit}`;
  return rows.map((row) => ({ ...row, health: withDates(row.health) }));
}

export async function isEndpoint({ sql }: Database, accountId: AccountId, id: EndpointId): Promise<boolean> {
  const [found] = await sql`
    SELECT FROM ringback.endpoints WHERE account_id = ${accountId} AND id = ${id} AND num_nonnulls(deleted_at) = 0 -- BY_KEY`;
  return found !== undefined;
}

export interface NewEndpoint {
  readonly accountId: AccountId;
  readonly id: EndpointId;
  readonly url: string;
  /** False when only a job names it. */
  readonly isRegistered: boolean;
  readonly secret: NewSecret;
  readonly now: Date;
}

/** Whether the account has, or has had, that endpoint. */
export async function wasEndpoint({ sql }: Database, accountId: AccountId, id: EndpointId): Promise<boolean> {
  const found = await sql`SELECT FROM ringback.endpoints WHERE account_id = ${accountId} AND id = ${id}`;
  return found.count === 1;
}

/**
 * Inserts an endpoint with its first secret, unless the account has that URL already. Of several at once
 * `endpoints_url` lets one through; the others wait for it, then find `created` false and its id.
 */
export async function ensureEndpoint(
  sql: Connection,
  endpoint: NewEndpoint,
): Promise<{ id: EndpointId; created: boolean }> {
  const { accountId, id, url, isRegistered, secret, now } = endpoint;
  const inserted = await sql`
    WITH endpoint AS (
      INSERT INTO ringback.endpoints (account_id, id, url, is_registered, created_at, updated_at)
      VALUES (${accountId}, ${id}, ${url}, ${isRegistered}, ${now}, ${now})
      ON CONFLICT (account_id, url) WHERE deleted_at IS NULL DO NOTHING
      RETURNING account_id, id
    ), lane AS (
      INSERT INTO ringback.endpoint_lanes (account_id, endpoint_id) SELECT account_id, id FROM endpoint
    ), health AS (
      INSERT INTO ringback.endpoint_health (account_id, endpoint_id) SELECT account_id, id FROM endpoint
    )
    INSERT INTO ringback.endpoint_secrets (account_id, id, endpoint_id, scheme, public_key, key_id, ciphertext, created_at)
    SELECT account_id, ${secret.id}, id, ${secret.scheme}, ${secret.publicKey}::bytea, ${secret.keyId}, ${secret.ciphertext},
      ${now} FROM endpoint`;
  if (inserted.count === 1) return { id, created: true };
  const [found] = await sql<[{ id: EndpointId }]>`
    SELECT id FROM ringback.endpoints WHERE account_id = ${accountId} AND url = ${url} AND deleted_at IS NULL`;
  return { id: found.id, created: false };
}

/** Makes it one that the account has registered, and not only named in jobs. */
export async function registerEndpoint(
  sql: Connection,
  { accountId, id }: { accountId: AccountId; id: EndpointId },
  now: Date,
): Promise<void> {
  await sql`
    UPDATE ringback.endpoints SET is_registered = true, updated_at = ${now}
    WHERE account_id = ${accountId} AND id = ${id} AND num_nonnulls(deleted_at) = 0 -- BY_KEY`;
}

/** Changes what is given. False when there is no such endpoint. Throws a unique violation when another one has that URL. */
export async function changeEndpoint(
  sql: Connection,
  { accountId, id }: { accountId: AccountId; id: EndpointId },
  changes: EndpointChanges,
  now: Date,
): Promise<boolean> {
  const changed = await sql`
    UPDATE ringback.endpoints AS endpoint SET (
      url, description, metadata, event_types, headers, timeout_ms, concurrency, rate_per_second, retry_schedule, ordering,
      tls_authorities, tls_certificate, tls_key_id, tls_key_ciphertext, updated_at) = (
      SELECT url, description, metadata, event_types, headers, timeout_ms, concurrency, rate_per_second, retry_schedule,
        ordering, tls_authorities, tls_certificate, tls_key_id, tls_key_ciphertext, ${now}
      FROM jsonb_populate_record(endpoint, ${JSON.stringify(toColumns(changes))}::text::jsonb))
    WHERE account_id = ${accountId} AND id = ${id} AND num_nonnulls(deleted_at) = 0 -- BY_KEY`;
  return changed.count === 1;
}

function toColumns(changes: EndpointChanges): Record<string, unknown> {
  return {
    url: changes.url,
    description: changes.description,
    metadata: changes.metadata,
    event_types: changes.eventTypes,
    headers: changes.headers,
    timeout_ms: changes.timeoutMs,
    concurrency: changes.concurrency,
    rate_per_second: changes.ratePerSecond,
    retry_schedule: changes.retrySchedule,
    ordering: changes.ordering,
    tls_authorities: changes.tlsAuthorities,
    tls_certificate: changes.tlsCertificate,
    tls_key_id: changes.tlsKeyId,
    tls_key_ciphertext: changes.tlsKeyCiphertext && `\\x${Buffer.from(changes.tlsKeyCiphertext).toString('hex')}`,
  };
}

/** Pauses an enabled endpoint. False when there is none to pause. */
export async function pauseEndpoint(
  sql: Connection,
  { accountId, id }: { accountId: AccountId; id: EndpointId },
  now: Date,
): Promise<boolean> {
  const paused = await sql`
    UPDATE ringback.endpoints SET status = 'paused', updated_at = ${now}
    WHERE account_id = ${accountId} AND id = ${id} AND status = 'enabled' AND num_nonnulls(deleted_at) = 0 -- BY_KEY`;
  return paused.count === 1;
}

/** Takes up a paused or disabled endpoint, as if nothing had ever failed. False when there is none to take up. */
export async function enableEndpoint(
  sql: Connection,
  { accountId, id }: { accountId: AccountId; id: EndpointId },
  now: Date,
): Promise<boolean> {
  const enabled = await sql`
    WITH endpoint AS (
      UPDATE ringback.endpoints SET status = 'enabled', disabled_reason = NULL, updated_at = ${now}
      WHERE account_id = ${accountId} AND id = ${id} AND status IN ('paused', 'disabled') AND num_nonnulls(deleted_at) = 0 -- BY_KEY
      RETURNING account_id, id
    )
    UPDATE ringback.endpoint_health AS health SET
      circuit = 'closed', resume_at = NULL, allowance = NULL, level = 0, consecutive_failures = 0, failing_since = NULL
    FROM endpoint WHERE health.account_id = endpoint.account_id AND health.endpoint_id = endpoint.id`;
  return enabled.count === 1;
}

/** Its row stays for the record; its URL is free again, and its secrets sign no more. False when there is none. */
export async function deleteEndpoint(
  sql: Connection,
  { accountId, id }: { accountId: AccountId; id: EndpointId },
  now: Date,
): Promise<boolean> {
  const deleted = await sql`
    WITH endpoint AS (
      UPDATE ringback.endpoints SET deleted_at = ${now}, updated_at = ${now}
      WHERE account_id = ${accountId} AND id = ${id} AND num_nonnulls(deleted_at) = 0 -- BY_KEY
      RETURNING account_id, id
    ), secret AS (
      UPDATE ringback.endpoint_secrets AS secret SET expires_at = least(expires_at, ${now}) FROM endpoint
      WHERE secret.endpoint_id = endpoint.id AND secret.account_id = endpoint.account_id
    )
    SELECT FROM endpoint`;
  return deleted.count === 1;
}
