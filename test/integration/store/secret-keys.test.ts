import { beforeEach, expect, test } from 'vitest';
import { openDatabase } from '#store/database.ts';
import { findKeysInUse } from '#store/secret-keys.ts';
import { buffersTouchedBy, withoutAutovacuum } from '../../support/buffers.ts';
import { useDatabase } from '../../support/database.ts';
import { insertJob, makeAccount, makeEndpoint } from '../../support/fixtures.ts';

const database = useDatabase();
beforeEach(async () => {
  await database.sql`TRUNCATE ringback.accounts CASCADE`;
  await database.sql`TRUNCATE ringback.idempotency_keys`;
});

/** An endpoint whose secret and client certificate are sealed with keys of these ids. */
async function sealedWith(keyId: string, tlsKeyId: string | null = null) {
  const { accountId } = await makeAccount(database.db);
  const { id } = await makeEndpoint(database.db, accountId);
  await database.sql`UPDATE ringback.endpoint_secrets SET key_id = ${keyId} WHERE endpoint_id = ${id}`;
  if (tlsKeyId !== null)
    await database.sql`
      UPDATE ringback.endpoints SET tls_certificate = 'PEM', tls_key_id = ${tlsKeyId}, tls_key_ciphertext = '\\x00'
      WHERE id = ${id}`;
  return { accountId, id };
}

const forget = (keyId: string, interval: string) => database.sql`
  UPDATE ringback.endpoint_secrets SET expires_at = now() + ${interval}::interval WHERE key_id = ${keyId}`;

test('an empty database needs no key', async () => {
  expect(await findKeysInUse(database.db)).toEqual([]);
});

test('each key is named once for each kind of what it opens, and none that nothing needs any more', async () => {
  for (const keyId of ['b', 'a', 'b', 'rotated', 'grace']) await sealedWith(keyId);
  await sealedWith('a', 'c');
  const deleted = await sealedWith('a', 'deleted');
  await forget('rotated', '-1 s');
  await forget('grace', '1 h');
  await database.sql`UPDATE ringback.endpoints SET deleted_at = now() WHERE id = ${deleted.id}`;
  const expiresAt = new Date(Date.now() + 3_600_000);
  for (const [responseKeyId, at] of [
    ['d', expiresAt],
    ['over', new Date(0)],
    [null, expiresAt],
  ] as const)
    await insertJob(database.db, deleted.accountId, {
      idempotency: {
        key: `of ${responseKeyId}`,
        fingerprint: '00'.repeat(32),
        response: 'e30=',
        responseKeyId,
        expiresAt: at,
      },
    });
  const kinds = ({ keyId, kind }: { keyId: string; kind: string }) => `${keyId}: ${kind}`;
  expect((await findKeysInUse(database.db)).map(kinds)).toEqual([
    'a: signing secrets',
    'b: signing secrets',
    'c: client certificates',
    'd: idempotent responses',
    'grace: signing secrets',
  ]);
});

test('asking costs the same with thousands of endpoints', async () => {
  const { accountId } = await sealedWith('a', 'a');
  const planned = openDatabase({ url: database.url, applicationName: 'ringback-test', max: 1, pooled: false });
  const cost = () => buffersTouchedBy(planned, () => findKeysInUse(planned));
  try {
    await withoutAutovacuum(database.db);
    await findKeysInUse(planned);
    const before = await cost();
    await database.sql`
      INSERT INTO ringback.endpoints (account_id, id, url, tls_certificate, tls_key_id, tls_key_ciphertext, created_at, updated_at)
      SELECT ${accountId}, 'ep_' || n, 'https://example.com/' || n, 'PEM', 'a', '\\x00', now(), now()
      FROM generate_series(1, 20000) AS n`;
    await database.sql`
      INSERT INTO ringback.endpoint_secrets (account_id, id, endpoint_id, key_id, ciphertext, created_at, expires_at)
      SELECT ${accountId}, 'sec_' || n, 'ep_' || n, CASE WHEN n % 2 = 0 THEN 'a' ELSE 'old' END, '\\x00', now(),
        CASE WHEN n % 2 = 1 THEN now() END
      FROM generate_series(1, 20000) AS n`;
    expect(await cost()).toBeLessThan(before + 40);
    await database.sql`ANALYZE ringback.endpoints, ringback.endpoint_secrets`;
    expect(await cost()).toBeLessThan(before + 40);
    expect((await findKeysInUse(planned)).map(({ keyId }) => keyId)).toEqual(['a', 'a']);
  } finally {
    await planned.close();
  }
});
