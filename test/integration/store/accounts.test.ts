import { describe, expect, test } from 'vitest';
import { API_KEY_SCOPES, hashApiKey, newApiKey } from '#domain/api-key.ts';
import { newId } from '#domain/ids.ts';
import { ensureApiKey, findApiKey } from '#store/accounts.ts';
import { useDatabase } from '../../support/database.ts';
import { makeAccount } from '../../support/fixtures.ts';

const database = useDatabase();

function newKey(accountName: string, key = newApiKey()) {
  const now = new Date();
  return {
    accountId: newId('acc', now.getTime()),
    accountName,
    keyId: newId('key', now.getTime()),
    hash: hashApiKey(key),
    lastFour: key.slice(-4),
    scopes: API_KEY_SCOPES,
    now,
  };
}

/** Of its own: the installation's hold. */
const NO_LIMITS = {
  callback_policy: 'any',
  max_running: null,
  max_pending: null,
  submissions_per_second: null,
  submissions_paid_until: null,
  retention_days: null,
};

const accountsNamed = (name: string) => database.sql`SELECT * FROM ringback.accounts WHERE name = ${name}`;
const keysWith = (hash: Uint8Array) => database.sql`SELECT * FROM ringback.api_keys WHERE hash = ${hash}`;

describe('making a key valid', () => {
  test('makes the account and the key, and stores of the key its hash and last four', async () => {
    const wanted = newKey('one');
    await ensureApiKey(database.db, wanted);
    const made = { account_id: wanted.accountId, name: 'one', created_at: wanted.now };
    expect(await accountsNamed('one')).toEqual([{ ...NO_LIMITS, ...made }]);
    expect(await keysWith(wanted.hash)).toEqual([
      {
        account_id: wanted.accountId,
        id: wanted.keyId,
        hash: wanted.hash,
        last_four: wanted.lastFour,
        scopes: ['read', 'write', 'worker'],
        created_at: wanted.now,
        revoked_at: null,
      },
    ]);
  });

  test('by ten processes at once makes one account and one key', async () => {
    const key = newApiKey();
    const pools = Array.from({ length: 10 }, () => database.open({ max: 1 }));
    await Promise.all(pools.map((pool) => ensureApiKey(pool, newKey('ten at once', key))));
    const accounts = await accountsNamed('ten at once');
    expect(accounts).toHaveLength(1);
    const keys = await keysWith(hashApiKey(key));
    expect(keys.map(({ account_id }) => account_id)).toEqual([accounts[0]!['account_id']]);
  });

  test('a second time changes nothing', async () => {
    const first = newKey('twice');
    await ensureApiKey(database.db, first);
    const before = [await accountsNamed('twice'), await keysWith(first.hash)];
    await ensureApiKey(database.db, { ...newKey('twice'), hash: first.hash });
    expect([await accountsNamed('twice'), await keysWith(first.hash)]).toEqual(before);
  });

  test('for an account that is there adds the key to it', async () => {
    const [first, second] = [newKey('two keys'), newKey('two keys')];
    await ensureApiKey(database.db, first);
    await ensureApiKey(database.db, second);
    expect(await keysWith(second.hash)).toMatchObject([{ account_id: first.accountId, id: second.keyId }]);
  });

  test('with a hash that is no SHA-256 makes neither account nor key', async () => {
    const bad = { ...newKey('bad hash'), hash: Buffer.from('short') };
    await expect(ensureApiKey(database.db, bad)).rejects.toMatchObject({ constraint_name: 'api_keys_hash_is_sha256' });
    expect(await accountsNamed('bad hash')).toEqual([]);
  });
});

describe('finding a key', () => {
  test('answers its account and scopes', async () => {
    const { accountId, key } = await makeAccount(database.db);
    const found = await findApiKey(database.db, hashApiKey(key));
    expect(found).toEqual({ id: expect.stringMatching(/^key_/), accountId, scopes: ['read', 'write', 'worker'] });
  });

  test('finds neither an unknown nor a revoked one', async () => {
    const { key } = await makeAccount(database.db);
    const hash = hashApiKey(key);
    expect(await findApiKey(database.db, hashApiKey(newApiKey()))).toBeUndefined();
    await database.sql`UPDATE ringback.api_keys SET revoked_at = now() WHERE hash = ${hash}`;
    expect(await findApiKey(database.db, hash)).toBeUndefined();
  });
});
