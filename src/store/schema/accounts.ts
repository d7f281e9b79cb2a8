import { sql } from 'drizzle-orm';
import { check, doublePrecision, foreignKey, index, integer, primaryKey, text, unique } from 'drizzle-orm/pg-core';
import type { AccountId, ApiKeyId } from '#domain/ids.ts';
import type { ApiKeyScope } from '#domain/api-key.ts';
import { CALLBACK_POLICIES } from '#domain/endpoint-policy.ts';
import { bytes, idColumn, moment, oneOf, ringback } from './columns.ts';

export const accounts = ringback.table(
  'accounts',
  {
    accountId: idColumn<AccountId>('account_id').primaryKey(),
    name: text().notNull(),
    createdAt: moment('created_at').notNull(),
    /** Runs at once, in all processes together. Null here and below: what the configuration says for every account. */
    maxRunning: integer('max_running'),
    /** Jobs that have not ended yet. */
    maxPending: integer('max_pending'),
    submissionsPerSecond: doublePrecision('submissions_per_second'),
    /** How long an ended job can be read, with its result. */
    retentionDays: integer('retention_days'),
    /** Where its jobs may be called back. */
    callbackPolicy: text('callback_policy', { enum: CALLBACK_POLICIES }).notNull().default('any'),
    /** When the submissions so far will have been worth their time at the account's rate: see `store/quotas.ts`. */
    submissionsPaidUntil: moment('submissions_paid_until'),
  },
  (table) => [
    unique('accounts_name').on(table.name),
    check('accounts_limits', sql.raw('max_running >= 0 AND max_pending >= 0 AND submissions_per_second > 0')),
    check('accounts_callback_policy', oneOf('callback_policy', CALLBACK_POLICIES)),
    check('accounts_retention', sql.raw('retention_days >= 0')),
  ],
);

export const apiKeys = ringback.table(
  'api_keys',
  {
    accountId: idColumn<AccountId>('account_id').notNull(),
    id: idColumn<ApiKeyId>('id').notNull(),
    /** SHA-256 of the key; the key itself is never stored. */
    hash: bytes().notNull(),
    lastFour: text('last_four').notNull(),
    scopes: text().array().$type<readonly ApiKeyScope[]>().notNull(),
    createdAt: moment('created_at').notNull(),
    revokedAt: moment('revoked_at'),
  },
  (table) => [
    primaryKey({ name: 'api_keys_pkey', columns: [table.accountId, table.id] }),
    foreignKey({ name: 'api_keys_account', columns: [table.accountId], foreignColumns: [accounts.accountId] }),
    // Not unique: a unique index would have to start with account_id, which a request does not name. Two keys with
    // one hash are the same 256 random bits.
    index('api_keys_hash').on(table.hash),
    check('api_keys_hash_is_sha256', sql.raw('octet_length(hash) = 32')),
  ],
);
