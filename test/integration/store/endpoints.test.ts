import type { Connection } from '#store/database.ts';
import { describe, expect, test } from 'vitest';
import { mintSecret } from '#domain/endpoint.ts';
import { type AccountId, newId } from '#domain/ids.ts';
import { findTarget } from '#store/callback-policy.ts';
import { deleteEndpoint, ensureEndpoint, readEndpoints } from '#store/endpoints.ts';
import { useDatabase } from '../../support/database.ts';
import { insertDeliveries, madeDelivery } from '../../support/deliveries.ts';
import { inTransaction, makeAccount, makeEndpoint, SECRET_KEYS } from '../../support/fixtures.ts';

const database = useDatabase();

function wanted(accountId: AccountId, url: string, now = new Date()) {
  const id = newId('ep', now.getTime());
  return { accountId, id, url, isRegistered: true, secret: mintSecret(SECRET_KEYS, accountId, id, now).sealed, now };
}

const secretsOf = (endpointId: string) => database.sql`
  SELECT * FROM ringback.endpoint_secrets WHERE endpoint_id = ${endpointId} ORDER BY created_at, id`;

describe('ensuring an endpoint', () => {
  test('makes it with its secret', async () => {
    const { accountId } = await makeAccount(database.db);
    const endpoint = wanted(accountId, 'https://example.com/a');
    expect(await ensureEndpoint(database.sql, endpoint)).toEqual({ id: endpoint.id, created: true });
    expect(await findTarget(database.db, accountId, { id: endpoint.id })).toEqual({
      policy: 'any',
      endpoint: { id: endpoint.id, url: 'https://example.com/a', isRegistered: true, status: 'enabled' },
    });
    expect(await secretsOf(endpoint.id)).toEqual([
      {
        account_id: accountId,
        id: endpoint.secret.id,
        endpoint_id: endpoint.id,
        scheme: 'v1',
        public_key: null,
        key_id: SECRET_KEYS[0]!.id,
        ciphertext: endpoint.secret.ciphertext,
        created_at: endpoint.now,
        expires_at: null,
      },
    ]);
  });

  test('by twenty transactions at once makes one, and all learn its id', async () => {
    const { accountId } = await makeAccount(database.db);
    const answers = await Promise.all(
      Array.from({ length: 20 }, () =>
        inTransaction(database.db, (tx) => ensureEndpoint(tx, wanted(accountId, 'https://example.com/race'))),
      ),
    );
    expect(answers.filter(({ created }) => created)).toHaveLength(1);
    expect(new Set(answers.map(({ id }) => id)).size).toBe(1);
    expect(await secretsOf(answers[0]!.id)).toHaveLength(1);
    expect(await database.sql`SELECT FROM ringback.endpoints WHERE account_id = ${accountId}`).toHaveLength(1);
  });

  test('waits for a transaction that makes the same one, and makes it when that rolls back', async () => {
    const { accountId } = await makeAccount(database.db);
    const [first, second] = [wanted(accountId, 'https://example.com/b'), wanted(accountId, 'https://example.com/b')];
    const undone = Promise.withResolvers<void>();
    const inserted = Promise.withResolvers<void>();
    const rolledBack = inTransaction(database.db, async (tx) => {
      await ensureEndpoint(tx, first);
      inserted.resolve();
      await undone.promise;
      throw new Error('changed my mind');
    });
    await inserted.promise;
    const waiting = ensureEndpoint(database.sql, second);
    undone.resolve();
    await expect(rolledBack).rejects.toThrow('changed my mind');
    expect(await waiting).toEqual({ id: second.id, created: true });
  });

  test('makes it when the one that was in its way is deleted a moment later', async () => {
    const { accountId } = await makeAccount(database.db);
    const [first, second] = [wanted(accountId, 'https://example.com/c'), wanted(accountId, 'https://example.com/c')];
    await ensureEndpoint(database.sql, first);
    // After its first statement, which finds the URL taken.
    const meddled = async (...statement: Parameters<Connection>) => {
      const answer = await database.sql(...statement);
      await deleteEndpoint(database.sql, first, new Date());
      return answer;
    };
    const made = await ensureEndpoint(meddled as unknown as Connection, second);
    expect(made).toEqual({ id: second.id, created: true });
  });

  test('keeps the one that is there from being deleted before its transaction ends', async () => {
    const { accountId } = await makeAccount(database.db);
    const endpoint = wanted(accountId, 'https://example.com/d');
    await ensureEndpoint(database.sql, endpoint);
    await inTransaction(database.db, async (tx) => {
      await ensureEndpoint(tx, wanted(accountId, endpoint.url));
      const deletion = database.sql`SELECT FROM ringback.endpoints WHERE id = ${endpoint.id} FOR NO KEY UPDATE NOWAIT`;
      await expect(deletion).rejects.toMatchObject({ code: '55P03' });
    });
  });

  test('of two accounts with the same URL makes two', async () => {
    const [one, other] = [await makeAccount(database.db), await makeAccount(database.db)];
    const url = 'https://example.com/shared';
    expect(await ensureEndpoint(database.sql, wanted(one.accountId, url))).toMatchObject({ created: true });
    expect(await ensureEndpoint(database.sql, wanted(other.accountId, url))).toMatchObject({ created: true });
  });

  test('with a URL of 2,000 bytes makes it, with one more is refused', async () => {
    const { accountId } = await makeAccount(database.db);
    const url = (bytes: number) => `https://example.com/${'x'.repeat(bytes - 20)}`;
    expect(await ensureEndpoint(database.sql, wanted(accountId, url(2000)))).toMatchObject({ created: true });
    await expect(ensureEndpoint(database.sql, wanted(accountId, url(2001)))).rejects.toMatchObject({
      constraint_name: 'endpoints_url_length',
    });
  });
});

describe('finding endpoints', () => {
  test('finds by id and by URL, in one’s own account', async () => {
    const [one, other] = [await makeAccount(database.db), await makeAccount(database.db)];
    const { id, url } = await makeEndpoint(database.db, one.accountId);
    expect(await findTarget(database.db, one.accountId, { url })).toMatchObject({ endpoint: { id, url } });
    expect(await findTarget(database.db, other.accountId, { id })).toEqual({ policy: 'any', endpoint: undefined });
    expect(await findTarget(database.db, other.accountId, { url })).toEqual({ policy: 'any', endpoint: undefined });
  });

  test('lists every one once, oldest first, page by page', async () => {
    const { accountId } = await makeAccount(database.db);
    const start = Date.now();
    const made = [];
    for (const n of [2, 0, 1, 3, 4]) made.push(wanted(accountId, `https://example.com/${n}`, new Date(start + n)));
    for (const endpoint of made) await ensureEndpoint(database.sql, endpoint);
    const first = await readEndpoints(database.db, accountId, { limit: 3 });
    const rest = await readEndpoints(database.db, accountId, { after: first.at(-1)!.id, limit: 3 });
    expect([first.length, rest.length]).toEqual([3, 2]);
    expect([...first, ...rest].map(({ url }) => url.at(-1))).toEqual(['0', '1', '2', '3', '4']);
  });
});

describe('how the latest deliveries of an endpoint went', () => {
  async function recentOf(changes: ReadonlyArray<Partial<Parameters<typeof madeDelivery>[0]>>) {
    const { accountId } = await makeAccount(database.db);
    const [{ id: endpointId }, other] = [
      await makeEndpoint(database.db, accountId),
      await makeEndpoint(database.db, accountId),
    ];
    const start = Date.now() - changes.length;
    const made = changes.map((change, n) =>
      madeDelivery({ accountId, endpointId, createdAt: new Date(start + n), ...change }),
    );
    await insertDeliveries(database.db, [
      ...made,
      madeDelivery({ accountId, endpointId: other.id, status: 'exhausted' }),
    ]);
    const [endpoint] = await readEndpoints(database.db, accountId, { id: endpointId, limit: 1 });
    return endpoint!.recent;
  }
  const times = <T>(count: number, of: T): T[] => Array.from({ length: count }, () => of);
  const waiting = { status: 'pending', attemptCount: 0 } as const;

  test('counts what was attempted, whatever became of it', async () => {
    const failing = { status: 'pending', attemptCount: 2 } as const;
    const closed = { status: 'held', attemptCount: 0 } as const;
    const given = [{}, {}, failing, { status: 'exhausted' }, { status: 'discarded' }, waiting, closed] as const;
    expect(await recentOf(given)).toEqual({ attempted: 5, delivered: 2 });
  });

  test('forgets what was before the latest hundred', async () => {
    const older = times(50, { status: 'exhausted' as const });
    expect(await recentOf([...older, ...times(99, {})])).toEqual({ attempted: 100, delivered: 99 });
    expect(await recentOf([...older, ...times(100, {})])).toEqual({ attempted: 100, delivered: 100 });
  });

  test('looks past a backlog, and no further than a thousand', async () => {
    expect(await recentOf([{}, ...times(999, waiting)])).toEqual({ attempted: 1, delivered: 1 });
    expect(await recentOf([{}, ...times(1000, waiting)])).toEqual({ attempted: 0, delivered: 0 });
  });

  test('is nothing when nothing was sent', async () => {
    expect(await recentOf([])).toEqual({ attempted: 0, delivered: 0 });
  });
});
