import { describe, expect, test } from 'vitest';
import { sealSecret, type SecretOwner } from '#domain/endpoint.ts';
import { newId } from '#domain/ids.ts';
import type { SignatureScheme } from '#domain/signature.ts';
import { newSigningSecret } from '#domain/signing-secret.ts';
import { lockSecrets, readPublicKeys, readSecrets, rotateSecret } from '#store/endpoint-secrets.ts';
import { deleteEndpoint } from '#store/endpoints.ts';
import { useDatabase } from '../../support/database.ts';
import { eventually } from '../../support/eventually.ts';
import { inTransaction, makeAccount, makeEndpoint, SECRET_KEYS } from '../../support/fixtures.ts';

const database = useDatabase();

async function makeOwner(): Promise<SecretOwner> {
  const { accountId } = await makeAccount(database.db);
  return { accountId, endpointId: (await makeEndpoint(database.db, accountId)).id };
}

/** A rotation `later` milliseconds from now. */
function rotation(owner: SecretOwner, later: number, graceMs: number, scheme: SignatureScheme = 'v1') {
  const now = new Date(Date.now() + later);
  const secret = sealSecret(SECRET_KEYS, owner, newSigningSecret(scheme), now);
  return { ...owner, secret, graceEndsAt: new Date(now.getTime() + graceMs), now };
}

const rotate = (turn: ReturnType<typeof rotation>) =>
  inTransaction(database.db, async (tx) => {
    await lockSecrets(tx, turn, turn.now);
    await rotateSecret(tx, turn);
  });

const expiriesOf = async (owner: SecretOwner) => {
  const secrets = await readSecrets(database.db, owner, { limit: 100 });
  return secrets.toReversed().map(({ expiresAt }) => expiresAt);
};

describe('rotating a secret', () => {
  test.each(['v1', 'v1a'] as const)('adds one of %s and ends the old one after the grace', async (scheme) => {
    const owner = await makeOwner();
    const turn = rotation(owner, 1000, 60_000, scheme);
    await rotate(turn);
    const { id, publicKey } = turn.secret;
    expect(await readSecrets(database.db, owner, { limit: 10 })).toEqual([
      { id, scheme, publicKey, createdAt: turn.now, expiresAt: null },
      expect.objectContaining({ scheme: 'v1', publicKey: null, expiresAt: turn.graceEndsAt }),
    ]);
  });

  test('a second time does not prolong what expires already', async () => {
    const owner = await makeOwner();
    const [first, second] = [rotation(owner, 1000, 60_000), rotation(owner, 2000, 600_000)];
    await rotate(first);
    await rotate(second);
    expect(await expiriesOf(owner)).toEqual([first.graceEndsAt, second.graceEndsAt, null]);
  });

  test('without a grace ends also what had a grace from before, and not once more what has ended', async () => {
    const owner = await makeOwner();
    const [ended, lasting, atOnce] = [
      rotation(owner, 1000, 10),
      rotation(owner, 2000, 60_000),
      rotation(owner, 3000, 0),
    ];
    for (const turn of [ended, lasting, atOnce]) await rotate(turn);
    expect(await expiriesOf(owner)).toEqual([ended.graceEndsAt, atOnce.now, atOnce.now, null]);
  });

  test('twice at once still leaves one that does not expire', async () => {
    const owner = await makeOwner();
    // Both are held up at the old secret's row, so that each has begun before the other ends.
    const rotations = await inTransaction(database.db, async (tx) => {
      await tx`SELECT FROM ringback.endpoint_secrets WHERE endpoint_id = ${owner.endpointId} FOR UPDATE`;
      const both = [1, 2].map(() => rotate(rotation(owner, 0, 60_000)));
      await eventually(async () => {
        const waiting = await database.sql`
          SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`;
        expect(waiting).toHaveLength(2);
      });
      return { done: Promise.all(both) };
    });
    await rotations.done;
    expect((await expiriesOf(owner)).filter((at) => at === null)).toHaveLength(1);
  });

  test('leaves the secrets of other endpoints alone', async () => {
    const { accountId, endpointId } = await makeOwner();
    const other = { accountId, endpointId: (await makeEndpoint(database.db, accountId)).id };
    await rotate(rotation({ accountId, endpointId }, 0, 1000));
    expect(await expiriesOf(other)).toEqual([null]);
  });
});

describe('the secrets that sign', () => {
  const lock = (owner: SecretOwner, at: Date) => inTransaction(database.db, (tx) => lockSecrets(tx, owner, at));

  test('are told newest first, until the moment they end', async () => {
    const owner = await makeOwner();
    const turn = rotation(owner, 1000, 1000, 'v1a');
    await rotate(turn);
    const newest = { id: turn.secret.id, scheme: 'v1a' };
    const before = await lock(owner, new Date(turn.graceEndsAt.getTime() - 1));
    expect(before).toEqual([newest, expect.objectContaining({ scheme: 'v1' })]);
    expect(await lock(owner, turn.graceEndsAt)).toEqual([newest]);
  });

  test('are not there for a stranger, nor once the endpoint is deleted', async () => {
    const owner = await makeOwner();
    const { accountId } = await makeAccount(database.db);
    expect(await lock({ ...owner, accountId }, new Date())).toBeUndefined();
    await deleteEndpoint(database.sql, { accountId: owner.accountId, id: owner.endpointId }, new Date());
    expect(await lock(owner, new Date())).toBeUndefined();
  });
});

describe('public keys', () => {
  test('are those of v1a that sign now, of that endpoint alone, newest first', async () => {
    const [owner, other] = [await makeOwner(), await makeOwner()];
    const [first, second] = [rotation(owner, 1000, 2000, 'v1a'), rotation(owner, 2000, 2000, 'v1a')];
    await rotate(rotation(other, 0, 1000, 'v1a'));
    for (const turn of [first, second]) await rotate(turn);
    const keyOf = ({ secret: { id, publicKey } }: typeof first) => ({ id, publicKey: Buffer.from(publicKey!) });
    const at = (ms: number) =>
      readPublicKeys(database.db, owner.endpointId, new Date(second.graceEndsAt.getTime() + ms));
    expect(await at(-1)).toEqual([keyOf(second), keyOf(first)]);
    expect(await at(0)).toEqual([keyOf(second)]);
  });

  test('are none of an endpoint that has been deleted, and of none', async () => {
    const owner = await makeOwner();
    await rotate(rotation(owner, 0, 1000, 'v1a'));
    const now = new Date(Date.now() + 1000);
    expect(await readPublicKeys(database.db, owner.endpointId, now)).toHaveLength(1);
    await deleteEndpoint(database.sql, { accountId: owner.accountId, id: owner.endpointId }, now);
    expect(await readPublicKeys(database.db, owner.endpointId, now)).toEqual([]);
    expect(await readPublicKeys(database.db, newId('ep', 1), now)).toEqual([]);
  });
});

test('secrets are listed page by page, newest first, also those that have ended, and to their owner alone', async () => {
  const owner = await makeOwner();
  for (const later of [1000, 2000, 3000]) await rotate(rotation(owner, later, 0));
  const first = await readSecrets(database.db, owner, { limit: 3 });
  const rest = await readSecrets(database.db, owner, { before: first.at(-1)!.id, limit: 3 });
  const ids = [...first, ...rest].map(({ id }) => id);
  expect([first.length, rest.length]).toEqual([3, 1]);
  expect(ids).toEqual(ids.toSorted().toReversed());
  const { accountId } = await makeAccount(database.db);
  expect(await readSecrets(database.db, { ...owner, accountId }, { limit: 3 })).toEqual([]);
});
