import { expect, test } from 'vitest';
import { findSchedule } from '#store/schedules.ts';
import { useDatabase } from '../../support/database.ts';
import { makeAccount } from '../../support/fixtures.ts';
import { makeKeeper, makeSchedule } from '../../support/schedules.ts';

const database = useDatabase();
const MADE = new Date('2026-03-01T10:30:00Z');
const at = (hour: number) => new Date(Date.UTC(2026, 2, 1, hour));

/** A schedule whose callback goes to a URL that nobody has registered, and its account. */
async function scheduleWithCallback() {
  const { accountId } = await makeAccount(database.db);
  const job = { type: 'test.numbered', input: { n: 1 }, callback: { url: 'http://127.0.0.1:81/' } };
  const { id, callbackEndpointId } = await makeSchedule(database, accountId, MADE, { job });
  return {
    accountId,
    endpointId: callbackEndpointId!,
    setPolicy: (policy: string) =>
      database.sql`UPDATE ringback.accounts SET callback_policy = ${policy} WHERE account_id = ${accountId}`,
    read: async () => (await findSchedule(database.db, accountId, { id }))!,
    jobs: async () => (await database.sql`SELECT FROM ringback.jobs WHERE account_id = ${accountId}`).length,
  };
}

test('a time comes without a job while the account’s policy does not allow its callback, and says so', async () => {
  const { endpointId, setPolicy, read, jobs } = await scheduleWithCallback();
  const { fire } = makeKeeper(database);
  await setPolicy('registered');
  await fire(at(11));
  expect(await jobs()).toBe(0);
  expect(await read()).toMatchObject({
    nextFireAt: at(12),
    lastError: { code: 'endpoint_not_registered', message: expect.stringContaining('/job/callback/endpoint_id') },
  });
  await database.sql`UPDATE ringback.endpoints SET is_registered = true WHERE id = ${endpointId}`;
  await fire(at(12));
  expect(await jobs()).toBe(1);
  expect(await read()).toMatchObject({ nextFireAt: at(13), lastError: null });
});

test('an endpoint that is deleted is none that is registered', async () => {
  const { endpointId, setPolicy, read, jobs } = await scheduleWithCallback();
  const { fire } = makeKeeper(database);
  await database.sql`UPDATE ringback.endpoints SET deleted_at = ${at(10)} WHERE id = ${endpointId}`;
  await fire(at(11));
  expect(await jobs(), 'under any policy its delivery is discarded, on record').toBe(1);
  await setPolicy('registered');
  await fire(at(12));
  expect(await jobs()).toBe(1);
  expect((await read()).lastError).toMatchObject({ code: 'endpoint_not_registered' });
});
