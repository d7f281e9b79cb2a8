import { cp, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { drizzle } from 'drizzle-orm/postgres-js';
import { migrate as runMigrations } from 'drizzle-orm/postgres-js/migrator';
import postgres, { type Sql } from 'postgres';
import { onTestFinished } from 'vitest';
import { mintSecret } from '#domain/endpoint.ts';
import { type AccountId, newId } from '#domain/ids.ts';
import type { SecretKey } from '#domain/secret-box.ts';
import { useEmptyDatabase } from './database.ts';
import type { MadeEndpoint } from './fixtures.ts';

/**
 * A database as version 0.1.0 left it: its two migrations, and rows as its statements wrote them. Not its queues, which
 * pg-boss kept: what is to be done follows from the rows alone.
 */
export interface ReleasedDatabase {
  readonly url: string;
  readonly sql: Sql;
}

const MIGRATIONS = fileURLToPath(new URL('../../migrations', import.meta.url));
const RELEASED = new Set(['0000_foundation', '0001_partitions']);

/** Empty but for its schemas; gone when the test is. */
export async function releasedDatabase(): Promise<ReleasedDatabase> {
  const url = await useEmptyDatabase();
  await migrateToRelease(url);
  const sql = postgres(url, { max: 2, onnotice: () => {} });
  onTestFinished(() => sql.end());
  return { url, sql };
}

async function migrateToRelease(url: string): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), 'ringback-released-'));
  // drizzle takes the codecs out of the client that it wraps: it gets its own.
  const sql = postgres(url, { max: 1, onnotice: () => {} });
  try {
    await cp(MIGRATIONS, folder, { recursive: true });
    const path = join(folder, 'meta/_journal.json');
    const journal = JSON.parse(await readFile(path, 'utf8')) as { entries: { tag: string }[] };
    const entries = journal.entries.filter(({ tag }) => RELEASED.has(tag));
    await writeFile(path, JSON.stringify({ ...journal, entries }));
    const names = { migrationsFolder: folder, migrationsSchema: 'ringback', migrationsTable: 'migrations' };
    await runMigrations(drizzle(sql), names);
  } finally {
    await sql.end();
    await rm(folder, { recursive: true });
  }
}

/** With that version's bootstrap key, whose scopes were two. */
export async function releasedAccount(
  { sql }: ReleasedDatabase,
  name: string,
  keyHash: Uint8Array = Buffer.alloc(32),
): Promise<AccountId> {
  const now = new Date();
  const accountId = newId('acc', now.getTime());
  await sql`INSERT INTO ringback.accounts (account_id, name, created_at) VALUES (${accountId}, ${name}, ${now})`;
  await sql`
    INSERT INTO ringback.api_keys (account_id, id, hash, last_four, scopes, created_at)
    VALUES (${accountId}, ${newId('key', now.getTime())}, ${keyHash}, 'abcd', '{read,write}', ${now})`;
  return accountId;
}

export async function releasedEndpoint(
  { sql }: ReleasedDatabase,
  { accountId, keys, url }: { accountId: AccountId; keys: readonly SecretKey[]; url: string },
): Promise<MadeEndpoint> {
  const now = new Date();
  const id = newId('ep', now.getTime());
  const { sealed, text } = mintSecret(keys, accountId, id, now);
  await sql`
    INSERT INTO ringback.endpoints (account_id, id, url, created_at, updated_at)
    VALUES (${accountId}, ${id}, ${url}, ${now}, ${now})`;
  await sql`
    INSERT INTO ringback.endpoint_secrets (account_id, id, endpoint_id, key_id, ciphertext, created_at)
    VALUES (${accountId}, ${sealed.id}, ${id}, ${sealed.keyId}, ${sealed.ciphertext}, ${now})`;
  return { id, url, secret: text };
}
