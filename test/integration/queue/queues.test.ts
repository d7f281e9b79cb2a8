import { expect, onTestFinished, test } from 'vitest';
import { PgBoss } from 'pg-boss';
import { installQueueSchema, openQueues } from '#queue/queues.ts';
import { buffersTouched, withoutAutovacuum } from '../../support/buffers.ts';
import { useDatabase, useEmptyDatabase } from '../../support/database.ts';
import { deliveryItem } from '../../support/queues.ts';

const database = useDatabase();

test('installing a second time changes nothing and keeps the items', async () => {
  const queues = await openQueues(database.url, () => {});
  onTestFinished(() => queues.close());
  const item = deliveryItem();
  await queues.deliveries.insert(database.sql, [item]);
  const snapshot = () => database.sql`
    SELECT oid::int8, relname FROM pg_class WHERE relnamespace = 'pgboss'::regnamespace ORDER BY oid`;
  const before = await snapshot();
  await installQueueSchema(database.url);
  expect(await snapshot()).toEqual(before);
  expect(await queues.deliveries.claim(database.sql, 10)).toMatchObject([{ id: item.id, data: item.data }]);
});

test('opening does not install: a process without the rights to is told what is missing', async () => {
  const url = await useEmptyDatabase();
  await expect(openQueues(url, () => {})).rejects.toThrow();
});

test('a queue keeps its items in a table of its own', async () => {
  const queues = await openQueues(database.url, () => {});
  onTestFinished(() => queues.close());
  await queues.deliveries.insert(database.sql, [deliveryItem()]);
  const tables = await database.sql`SELECT DISTINCT tableoid::regclass::text AS place FROM pgboss.job`;
  expect(tables).toHaveLength(1);
  const shared = await database.sql`SELECT 'pgboss.job_common'::regclass::text AS place`;
  expect(tables).not.toEqual(shared);
});

test('installing takes away the queue in which earlier versions kept runs, with what it held', async () => {
  const boss = new PgBoss({ connectionString: database.url, supervise: false, schedule: false });
  boss.on('error', (error) => expect.fail(error.message));
  onTestFinished(() => boss.stop({ graceful: false }));
  await boss.start();
  await boss.createQueue('run', { partition: true });
  await boss.send('run', { jobId: 'job_x' });
  await installQueueSchema(database.url);
  expect(await database.sql`SELECT name FROM pgboss.queue`).toEqual([{ name: 'delivery' }]);
  expect(await database.sql`SELECT FROM pgboss.job WHERE name = 'run'`).toHaveLength(0);
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
  const { deliveries } = queues;
  const group = () => Array.from({ length: 50 }, () => deliveryItem());
  const turnOver = (count: number) =>
    buffersTouched(planned, async (tx) => {
      const items = await deliveries.claim(tx, count);
      expect(items).toHaveLength(count);
      expect(await deliveries.remove(tx, items)).toBe(count);
    });
  for (let round = 0; round < 7; round++) {
    await deliveries.insert(planned.sql, group());
    await turnOver(50);
  }
  for (let round = 0; round < 50; round++) await deliveries.insert(planned.sql, [...group(), ...group()]);
  const future = new Date(Date.now() + 3_600_000);
  for (let round = 0; round < 50; round++) {
    await deliveries.insert(
      planned.sql,
      group().map((item) => ({ ...item, startAfter: future })),
    );
  }
  expect(await turnOver(50)).toBeLessThan(50 * 60);
  expect(await turnOver(50)).toBeLessThan(50 * 60);
});
