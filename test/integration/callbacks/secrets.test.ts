import { describe, expect, test } from 'vitest';
import type { SecretOwner } from '#domain/endpoint.ts';
import { newId } from '#domain/ids.ts';
import { formatPublicKey, formatSigningSecret, newSigningSecret } from '#domain/signing-secret.ts';
import { mintOrImport, Secrets } from '../../../src/callbacks/secrets.ts';
import { useDatabase } from '../../support/database.ts';
import { accepted, makeAccount, makeEndpoint, SECRET_KEYS } from '../../support/fixtures.ts';
import { REAL_CLOCK } from '../../support/workers.ts';

const database = useDatabase();
const secrets = () => new Secrets({ db: database.db, clock: REAL_CLOCK, keys: SECRET_KEYS });
const owner: SecretOwner = { accountId: newId('acc', 1), endpointId: newId('ep', 1) };
const own = (scheme: 'v1' | 'v1a') => formatSigningSecret(newSigningSecret(scheme));

async function makeOwner(): Promise<[SecretOwner['accountId'], SecretOwner['endpointId']]> {
  const { accountId } = await makeAccount(database.db);
  return [accountId, (await makeEndpoint(database.db, accountId)).id];
}

describe('a secret', () => {
  const given = (wanted: Parameters<typeof mintOrImport>[2]) => mintOrImport(SECRET_KEYS, owner, wanted, new Date());

  test.each([
    [{}, 'v1', /^whsec_/],
    [{ scheme: 'v1' }, 'v1', /^whsec_/],
    [{ scheme: 'v1a' }, 'v1a', /^whsk_/],
  ] as const)('that nobody brings is made and shown: %j', (wanted, scheme, form) => {
    const { sealed, shown } = accepted(given(wanted));
    expect(sealed.scheme).toBe(scheme);
    expect(shown).toMatch(form);
  });

  test.each(['v1', 'v1a'] as const)('of %s that its owner brings is taken, and not told back', (scheme) => {
    const secret = own(scheme);
    for (const wanted of [{ secret }, { secret, scheme }]) {
      const { sealed, shown } = accepted(given(wanted));
      expect([sealed.scheme, shown]).toEqual([scheme, undefined]);
    }
  });

  test('that is none is refused, and so is one of another scheme than was asked for', () => {
    const refusal = { ok: false, code: 'invalid_signing_secret' };
    expect(given({ secret: 'whsec_short' })).toMatchObject({ ...refusal, faults: [{ path: '/signing_secret' }] });
    expect(given({ secret: own('v1'), scheme: 'v1a' })).toMatchObject({ ...refusal, faults: [{ path: '/scheme' }] });
  });
});

describe('a rotation', () => {
  test('shows the new one, and tells until when the old one signs too: for a day', async () => {
    const rotated = accepted(await secrets().rotate(...(await makeOwner())));
    expect(rotated.shown).toMatch(/^whsec_/);
    const hours = (rotated.graceEndsAt.getTime() - Date.now()) / 3_600_000;
    expect(hours).toBeGreaterThan(23.9);
    expect(hours).toBeLessThanOrEqual(24);
  });

  test('keeps the scheme that the endpoint has, until it is told another one', async () => {
    const at = await makeOwner();
    const schemes = [];
    for (const rotation of [{}, { scheme: 'v1a' }, {}, { secret: own('v1') }, {}] as const)
      schemes.push(accepted(await secrets().rotate(...at, rotation)).sealed.scheme);
    expect(schemes).toEqual(['v1', 'v1a', 'v1a', 'v1', 'v1']);
  });

  test('to v1a publishes the key at once', async () => {
    const at = await makeOwner();
    const { sealed } = accepted(await secrets().rotate(...at, { scheme: 'v1a' }));
    const keys = await secrets().publicKeys(at[1]);
    expect(keys.map(({ id, publicKey }) => [id, formatPublicKey(publicKey)])).toEqual([
      [sealed.id, formatPublicKey(sealed.publicKey!)],
    ]);
  });

  test('that is refused changes nothing', async () => {
    const [accountId, endpointId] = await makeOwner();
    const before = accepted(await secrets().list(accountId, endpointId, { limit: 10 }));
    const { accountId: stranger } = await makeAccount(database.db);
    const refusals = [
      await secrets().rotate(accountId, endpointId, { secret: 'whsec_short' }),
      await secrets().rotate(stranger, endpointId),
      await secrets().rotate(accountId, newId('ep', 1)),
    ];
    expect(refusals.map((refusal) => !refusal.ok && refusal.code)).toEqual([
      'invalid_signing_secret',
      'endpoint_not_found',
      'endpoint_not_found',
    ]);
    expect(accepted(await secrets().list(accountId, endpointId, { limit: 10 }))).toEqual(before);
    expect(await secrets().list(stranger, endpointId, { limit: 10 })).toMatchObject({ code: 'endpoint_not_found' });
  });

  test('beyond ten that sign is refused, also of many at once, until the others are ended', async () => {
    const at = await makeOwner();
    const answers = await Promise.all(Array.from({ length: 15 }, () => secrets().rotate(...at)));
    expect(answers.filter(({ ok }) => ok)).toHaveLength(9);
    expect(answers.find(({ ok }) => !ok)).toMatchObject({ code: 'too_many_signing_secrets' });
    expect((await secrets().rotate(...at, { graceMs: 0 })).ok).toBe(true);
    const lasting = accepted(await secrets().list(...at, { limit: 50 })).filter(({ expiresAt }) => expiresAt === null);
    expect(lasting).toHaveLength(1);
    expect((await secrets().rotate(...at)).ok).toBe(true);
  });
});
