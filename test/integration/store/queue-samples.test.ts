import { expect, test } from 'vitest';
import type { AccountId } from '#domain/ids.ts';
import { insertJobs } from '#store/jobs.ts';
import { sampleQueue } from '#store/queue-samples.ts';
import { buffersTouched, withoutAutovacuum } from '../../support/buffers.ts';
import { useDatabase } from '../../support/database.ts';
import { claimRun, insertJob, makeAccount, newJob } from '../../support/fixtures.ts';

const database = useDatabase();
const at = (ms: number) => new Date(Date.parse('2026-01-31T12:00:00Z') + ms);

async function lanesOf(pool: string) {
  return (await sampleQueue(database.db)).lanes.filter((lane) => lane.pool === pool);
}

async function fill(accountId: AccountId, pool: string, count: number, after = 0): Promise<void> {
  const jobs = Array.from({ length: count }, (_, n) => newJob(accountId, { pool, createdAt: at(after + n) }));
  for (let start = 0; start < count; start += 1000) await insertJobs(database.sql, jobs.slice(start, start + 1000));
}

test('each account’s lane is counted for itself, with the times between which it became due', async () => {
  const [one, other] = [await makeAccount(database.db), await makeAccount(database.db)];
  await fill(one.accountId, 'lanes', 5);
  await fill(other.accountId, 'lanes', 2);
  await fill(other.accountId, 'elsewhere', 1);
  const lanes = await lanesOf('lanes');
  expect(lanes).toHaveLength(2);
  expect(lanes).toEqual(
    expect.arrayContaining([
      { pool: 'lanes', ...one, key: undefined, waiting: 5, isWhole: true, oldestDueAt: at(0), newestDueAt: at(4) },
      { pool: 'lanes', ...other, key: undefined, waiting: 2, isWhole: true, oldestDueAt: at(0), newestDueAt: at(1) },
    ]),
  );
});

test('what is delayed or runs does not wait; what runs is counted by pool', async () => {
  const { accountId } = await makeAccount(database.db);
  await insertJob(database.db, accountId, { pool: 'busy', runAt: new Date(Date.now() + 3_600_000) });
  const job = await insertJob(database.db, accountId, { pool: 'busy' });
  await claimRun(database.db, job);
  expect(await lanesOf('busy')).toEqual([]);
  expect((await sampleQueue(database.db)).running.get('busy')).toBe(1);
});

test('a backlog is looked at as far as it helps: more of it costs no more', async () => {
  const db = database.open({ max: 1 });
  await withoutAutovacuum(database.db);
  const { accountId } = await makeAccount(database.db);
  await fill(accountId, 'deep', 12_000);
  await sampleQueue(db);
  const [lane] = await lanesOf('deep');
  expect(lane).toMatchObject({ isWhole: false });
  const sample = () => buffersTouched(db, (tx) => sampleQueue({ ...db, sql: tx as never }));
  const before = await sample();
  await fill(accountId, 'deep', 12_000, 12_000);
  expect(await sample()).toBeLessThan(before * 1.5);
});
