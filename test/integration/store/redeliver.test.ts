import { expect, test } from 'vitest';
import { findDelivery } from '#store/delivery-reads.ts';
import { settleDeliveries } from '#store/deliveries.ts';
import { findEventTime, requeueDeliveries } from '#store/redeliver.ts';
import { useDatabase } from '../../support/database.ts';
import { type DueDelivery, makeClaimed, settlement } from '../../support/fixtures.ts';

const database = useDatabase();

async function delivered() {
  const claimed = await makeClaimed(database.db);
  await settleDeliveries(database.sql, [settlement(claimed)]);
  return claimed;
}

const requeue = async ({ accountId, id }: Pick<DueDelivery, 'accountId' | 'id'>, retry = true) =>
  (await requeueDeliveries(database.sql, accountId, { ids: [id], retry, now: new Date() })).queued;

test('a delivery that is over is queued in its old place, once', async () => {
  const over = await delivered();
  expect(await requeue(over)).toBe(1);
  expect(await findDelivery(database.db, over.accountId, over.id)).toMatchObject({
    status: 'pending',
    attemptCount: 1,
    scheduleFrom: 1,
    finishedAt: null,
  });
  const queued = await database.sql`
    SELECT item.state, item.trigger, item.position = delivery.position AS "hasItsPlace"
    FROM ringback.delivery_queue AS item JOIN ringback.deliveries AS delivery ON delivery.id = item.delivery_id
    WHERE item.delivery_id = ${over.id}`;
  expect(queued).toEqual([{ state: 'behind', trigger: 'manual', hasItsPlace: true }]);
  expect(await requeue(over), 'again').toBe(0);
});

test('for one attempt, it has no schedule', async () => {
  const over = await delivered();
  await requeue(over, false);
  expect(await findDelivery(database.db, over.accountId, over.id)).toMatchObject({ scheduleFrom: null });
});

test('whose event is no longer kept stays as it is: it could not be sent', async () => {
  const over = await delivered();
  await database.sql`ALTER TABLE ringback.events DISABLE TRIGGER append_only`;
  await database.sql`DELETE FROM ringback.events WHERE id = ${over.eventId}`;
  await database.sql`ALTER TABLE ringback.events ENABLE TRIGGER append_only`;
  const before = await findDelivery(database.db, over.accountId, over.id);
  expect(await requeue(over)).toBe(0);
  expect(await findDelivery(database.db, over.accountId, over.id)).toEqual(before);
  expect(await findEventTime(database.db, over.accountId, over.eventId)).toBeUndefined();
});

test.each([
  ['disabled', "status = 'disabled', disabled_reason = 'gone'"],
  ['deleted', 'deleted_at = now()'],
])('whose endpoint is %s is left alone', async (_what, change) => {
  const over = await delivered();
  await database.sql.unsafe(`UPDATE ringback.endpoints SET ${change} WHERE id = '${over.endpointId}'`);
  expect(await requeue(over)).toBe(0);
});
