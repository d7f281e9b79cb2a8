import { API_KEY_SCOPES, hashApiKey, isApiKey } from '#domain/api-key.ts';
import { newId } from '#domain/ids.ts';
import { type ApiKeyRecord, ensureApiKey, findApiKey } from '#store/accounts.ts';
import type { Database } from '#store/database.ts';

export type { ApiKeyRecord };

/** How long a key is believed without asking again: a revoked key works this much longer. */
const CACHE_MS = 10_000;
const MAX_CACHED = 10_000;

/** Who is asking. Costs no statement for a key seen in the last ten seconds. */
export class ApiKeys {
  readonly #db: Database;
  /** By the key's hash: the keys themselves are not kept in memory. */
  readonly #cache = new Map<string, { record: Promise<ApiKeyRecord | undefined>; until: number }>();

  constructor(db: Database) {
    this.#db = db;
  }

  /** The key's account and scopes; undefined when it is malformed, unknown or revoked. */
  async authenticate(key: string): Promise<ApiKeyRecord | undefined> {
    if (!isApiKey(key)) return undefined;
    const hash = hashApiKey(key);
    const cacheKey = hash.toString('base64');
    const cached = this.#cache.get(cacheKey);
    if (cached !== undefined && performance.now() < cached.until) return cached.record;
    if (this.#cache.size >= MAX_CACHED) this.#cache.clear();
    const record = findApiKey(this.#db, hash);
    this.#cache.set(cacheKey, { record, until: performance.now() + CACHE_MS });
    try {
      const found = await record;
      // Only known keys stay: guesses must not push them out, and a key made a moment later must work at once.
      if (found === undefined) this.#cache.delete(cacheKey);
      return found;
    } catch (error) {
      this.#cache.delete(cacheKey);
      throw error;
    }
  }
}

/** Makes a key valid for the account `default`, with every scope. */
export async function ensureBootstrapKey(db: Database, key: string, now: Date): Promise<void> {
  await ensureApiKey(db, {
    accountId: newId('acc', now.getTime()),
    accountName: 'default',
    keyId: newId('key', now.getTime()),
    hash: hashApiKey(key),
    lastFour: key.slice(-4),
    scopes: API_KEY_SCOPES,
    now,
  });
}
