import { expect, onTestFinished, test } from 'vitest';
import { newId } from '#domain/ids.ts';
import { installQueueSchema, openQueues } from '#queue/queues.ts';
import { buffersTouched, withoutAutovacuum } from '../../support/buffers.ts';
import { useDatabase, useEmptyDatabase } from '../../support/database.ts';
import { runItem } from '../../support/queues.ts';

const database = useDatabase();

test('installing a second time changes nothing and keeps the items', async () => {
  const queues = await openQueues(database.url, () => {});
  onTestFinished(() => queues.close());
  const item = runItem();
  await queues.runs.insert(database.sql, [item]);
  const snapshot = () => database.sql`
    SELECT oid::int8, relname FROM pg_class WHERE relnamespace = 'pgboss'::regnamespace ORDER BY oid`;
  const before = await snapshot();
  await installQueueSchema(database.url);
  expect(await snapshot()).toEqual(before);
  expect(await queues.runs.claim(database.sql, 10)).toMatchObject([{ id: item.id, data: item.data }]);
});

test('opening does not install: a process without the rights to is told what is missing', async () => {
  const url = await useEmptyDatabase();
  await expect(openQueues(url, () => {})).rejects.toThrow();
});

test('each queue keeps its items in a table of its own', async () => {
  const queues = await openQueues(database.url, () => {});
  onTestFinished(() => queues.close());
  const now = Date.now();
  const data = {
    accountId: newId('acc', now),
    deliveryId: newId('dlv', now),
    eventId: newId('evt', now),
    endpointId: newId('ep', now),
  };
  await queues.deliveries.insert(database.sql, [{ id: crypto.randomUUID(), data }]);
  await queues.runs.insert(database.sql, [runItem()]);
  const tables = await database.sql`SELECT DISTINCT name, tableoid::regclass::text AS place FROM pgboss.job`;
  expect(new Set(tables.map(({ place }) => place as string)).size).toBe(2);
});

test('closed queues leave no connection behind', async () => {
  const queues = await openQueues(database.url, () => {});
  const connections = async () =>
    (
      await database.sql`SELECT FROM pg_stat_activity WHERE application_name = 'ringback-queue'
      AND datname = current_database()`
    ).length;
  expect(await connections()).toBeGreaterThan(0);
  await queues.close();
  expect(await connections()).toBe(0);
});

test('a claim costs no more beside thousands of items than beside none', async () => {
  await withoutAutovacuum(database.db);
  const queues = await openQueues(database.url, () => {});
  onTestFinished(() => queues.close());
  await database.sql`DELETE FROM pgboss.job`;
  const planned = database.open({ max: 1 });
  const { runs } = queues;
  const group = () => Array.from({ length: 50 }, () => runItem());
  const turnOver = (count: number) =>
    buffersTouched(planned, async (tx) => {
      const items = await runs.claim(tx, count);
      expect(items).toHaveLength(count);
      expect(await runs.remove(tx, items)).toBe(count);
    });
  for (let round = 0; round < 7; round++) {
    await runs.insert(planned.sql, group());
    await turnOver(50);
  }
  for (let round = 0; round < 50; round++) await runs.insert(planned.sql, [...group(), ...group()]);
  const future = new Date(Date.now() + 3_600_000);
  for (let round = 0; round < 50; round++) {
    await runs.insert(
      planned.sql,
      group().map((item) => ({ ...item, startAfter: future })),
    );
  }
  expect(await turnOver(50)).toBeLessThan(50 * 60);
  expect(await turnOver(50)).toBeLessThan(50 * 60);
});
