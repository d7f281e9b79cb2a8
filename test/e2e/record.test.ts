import { expect, test } from 'vitest';
import { indexPartition, unindexedPartitions } from '#store/partitions.ts';
import { useDatabase } from '../support/database.ts';
import { eventually } from '../support/eventually.ts';
import { startService } from '../support/service.ts';

const database = useDatabase();

test('the stack of a handler that threw is on record, and no client is shown it', async () => {
  const service = await startService({ databaseUrl: database.url });
  const job = await service.request('POST', '/v1/jobs', { type: 'ringback.fail', input: { times: 1 } });
  await eventually(async () => {
    const [run] = await database.sql<{ stack: string | null }[]>`
      SELECT stack FROM ringback.job_runs WHERE job_id = ${job.json.id} AND status = 'failed'`;
    expect(run?.stack).toMatch(/^\w*Error: .*\n +at /);
  }, 20_000);
  const runs = await service.request('GET', `/v1/jobs/${job.json.id}/runs`);
  expect(runs.json.items[0].error.code).toBe('handler_error');
  expect(runs.text).not.toMatch(/stack|\.ts:\d/);
  await service.stop();
});

test('the attempts of a job are found by an index in every partition, also in those that are indexed later', async () => {
  const plan = async () => {
    const rows = await database.sql<{ 'QUERY PLAN': string }[]>`
      EXPLAIN SELECT * FROM ringback.delivery_attempts WHERE job_id = 'job_01h455vb4pex5vsknk084sn02q'`;
    return rows.map((row) => row['QUERY PLAN']).join('\n');
  };
  expect(await unindexedPartitions(database.db)).toEqual([]);
  expect(await plan()).not.toMatch(/Seq Scan|Index Cond: (?!\(job_id)/);

  // As a migration leaves a partition that is large.
  await database.sql.unsafe(`
    DROP INDEX ringback.delivery_attempts_of_job;
    CREATE INDEX delivery_attempts_of_job ON ONLY ringback.delivery_attempts (job_id);`);
  const left = await unindexedPartitions(database.db);
  for (const partition of left) await indexPartition(database.db, partition);
  expect(left.length).toBeGreaterThan(0);
  expect(await unindexedPartitions(database.db)).toEqual([]);
  expect(await plan()).not.toMatch(/Seq Scan/);
});
