import { expect, test } from 'vitest';
import { useDatabase } from '../../support/database.ts';
import { makeAccount, makeDelivery, makeEndpoint } from '../../support/fixtures.ts';
import { startReceiver } from '../../support/receiver.ts';
import { startCourier } from '../../support/workers.ts';

const database = useDatabase();

/** An endpoint whose receiver answers when it is told to, and a way to give it something to do. */
async function holding(wake: () => void) {
  const receiver = await startReceiver();
  const { promise: released, resolve: release } = Promise.withResolvers<void>();
  receiver.answerAll(async () => {
    await released;
    return { status: 200 };
  });
  const { accountId } = await makeAccount(database.db);
  const endpoint = await makeEndpoint(database.db, accountId, receiver.url);
  const give = async () => {
    await makeDelivery(database.db, accountId, endpoint);
    wake();
  };
  return { receiver, release, give };
}

/** A courier that looks for work when it is woken and not otherwise. Of its six places one endpoint has two, three others one. */
async function crowd() {
  const { worker } = startCourier({ database }, { concurrency: 6, pollMs: 3_600_000, timeoutMs: 60_000 });
  const wake = () => worker.loop.wake();
  const [one, ...others] = await Promise.all([holding(wake), holding(wake), holding(wake), holding(wake)]);
  await one.give();
  await one.receiver.waitFor(1);
  await one.give();
  await one.receiver.waitFor(2);
  for (const { give, receiver } of others.slice(1)) {
    await give();
    await receiver.waitFor(1);
  }
  // Of the two places that are left it may have none: who comes after it shows that it was passed over.
  await one.give();
  await others[0].give();
  await others[0].receiver.waitFor(1);
  expect(one.receiver.requests).toHaveLength(2);
  const finish = () => [one, ...others].forEach(({ release }) => release());
  return { one, others, finish };
}

test('what was left for want of places goes when a place of its endpoint is free', async () => {
  const { one, finish } = await crowd();
  one.release();
  await one.receiver.waitFor(3);
  finish();
});

test('what was left for want of places goes when places of others are free', async () => {
  const { one, others, finish } = await crowd();
  for (const { release } of others.slice(1)) release();
  await one.receiver.waitFor(3);
  finish();
});
