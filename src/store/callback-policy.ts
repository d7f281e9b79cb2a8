import type { Standing } from '#domain/callback-target.ts';
import type { CallbackPolicy } from '#domain/endpoint-policy.ts';
import type { AccountId, EndpointId } from '#domain/ids.ts';
import type { Connection, Database, Transaction } from './database.ts';
import type { EndpointRef } from './endpoint-health.ts';
import type { EndpointRow } from './endpoints.ts';

export type Target = Standing & Pick<EndpointRow, 'url'>;

export type TargetKey = { readonly id: EndpointId } | { readonly url: string };

export interface PolicyAndTarget {
  readonly policy: CallbackPolicy;
  /** Undefined when the account has no such endpoint. */
  readonly endpoint: Target | undefined;
}

/** The endpoint with that id or URL, with the policy that judges it, read together. Served by `endpoints_pkey` and `endpoints_url`. */
export async function findTarget({ sql }: Database, accountId: AccountId, key: TargetKey): Promise<PolicyAndTarget> {
  const [found] =
    'id' in key
      ? await sql<[FoundTarget]>`
          SELECT callback_policy AS policy, endpoint.id, url, is_registered AS "isRegistered", status
          FROM ringback.accounts AS account LEFT JOIN ringback.endpoints AS endpoint
            ON endpoint.account_id = account.account_id AND endpoint.id = ${key.id} AND num_nonnulls(deleted_at) = 0 -- BY_KEY
          WHERE account.account_id = ${accountId}`
      : await sql<[FoundTarget]>`
          SELECT callback_policy AS policy, endpoint.id, url, is_registered AS "isRegistered", status
          FROM ringback.accounts AS account LEFT JOIN ringback.endpoints AS endpoint
            ON endpoint.account_id = account.account_id AND endpoint.url = ${key.url} AND endpoint.deleted_at IS NULL
          WHERE account.account_id = ${accountId}`;
  const { policy, ...endpoint } = found;
  return { policy, endpoint: endpoint.id === null ? undefined : endpoint };
}

type FoundTarget = { readonly policy: CallbackPolicy } & (Target | { readonly id: null });

/** An endpoint as it is before a change, and what the change must mind. */
export type LockedEndpoint = Standing &
  Pick<EndpointRow, 'url'> & {
    readonly hasAuthorities: boolean;
    readonly hasCertificate: boolean;
    readonly policy: CallbackPolicy;
  };

/** Until the transaction ends nobody else changes it. Undefined when there is no such endpoint. */
export async function lockEndpoint(
  tx: Transaction,
  { accountId, endpointId }: EndpointRef,
): Promise<LockedEndpoint | undefined> {
  const [endpoint] = await tx<LockedEndpoint[]>`
    SELECT endpoint.id, url, is_registered AS "isRegistered", status, callback_policy AS policy,
      tls_authorities IS NOT NULL AS "hasAuthorities", tls_certificate IS NOT NULL AS "hasCertificate"
    FROM ringback.endpoints AS endpoint JOIN ringback.accounts AS account USING (account_id)
    WHERE endpoint.account_id = ${accountId} AND endpoint.id = ${endpointId} AND num_nonnulls(deleted_at) = 0 -- BY_KEY
    FOR NO KEY UPDATE OF endpoint`;
  return endpoint;
}

/** It has to prove anew whose it is, whatever it was; what is due to it waits. */
export async function unverifyEndpoint(
  sql: Connection,
  { accountId, endpointId }: EndpointRef,
  now: Date,
): Promise<void> {
  await sql`
    UPDATE ringback.endpoints SET status = 'unverified', disabled_reason = NULL, updated_at = ${now}
    WHERE account_id = ${accountId} AND id = ${endpointId} AND num_nonnulls(deleted_at) = 0 -- BY_KEY`;
}

/**
 * Enables an unverified endpoint, as if nothing had ever failed, if its URL is still the one that has proved whose it is: it may
 * have been changed while the challenge was under way.
 */
export async function verifyEndpoint(
  sql: Connection,
  { accountId, endpointId }: EndpointRef,
  { url, now }: { readonly url: string; readonly now: Date },
): Promise<void> {
  await sql`
    WITH endpoint AS (
      UPDATE ringback.endpoints SET status = 'enabled', updated_at = ${now}
      WHERE account_id = ${accountId} AND id = ${endpointId} AND status = 'unverified' AND url = ${url}
        AND num_nonnulls(deleted_at) = 0 -- BY_KEY
      RETURNING account_id, id
    )
    UPDATE ringback.endpoint_health AS health SET
      circuit = 'closed', resume_at = NULL, allowance = NULL, level = 0, consecutive_failures = 0, failing_since = NULL
    FROM endpoint WHERE health.account_id = endpoint.account_id AND health.endpoint_id = endpoint.id`;
}
