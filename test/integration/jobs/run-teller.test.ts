import { expect, test } from 'vitest';
import { CALLBACK_EVENT_TYPES } from '#domain/job.ts';
import { useDatabase } from '../../support/database.ts';
import { eventually } from '../../support/eventually.ts';
import { claimRun, insertJob, makeAccount, makeEndpoint } from '../../support/fixtures.ts';
import { makeTeller } from '../../support/workers.ts';

const database = useDatabase();
const EVERY_MS = 200;

/** A job in its first run, whose endpoint wants to hear of all. */
async function running() {
  const { accountId } = await makeAccount(database.db);
  const endpoint = await makeEndpoint(database.db, accountId);
  const waiting = await insertJob(database.db, accountId, { callbackEvents: CALLBACK_EVENT_TYPES }, endpoint);
  const job = await claimRun(database.db, waiting);
  return { job, run: { accountId, jobId: job.id, runId: job.runId } };
}

const toldOf = async (jobId: string) =>
  (
    await database.sql<{ type: string; body: Uint8Array }[]>`
      SELECT type, body FROM ringback.events WHERE job_id = ${jobId} AND sequence > 1 ORDER BY sequence`
  ).map(({ type, body }) => {
    const { data } = JSON.parse(Buffer.from(body).toString()) as { data: { job: { progress?: { percent: number } } } };
    return [type, data.job.progress?.percent];
  });

const forGood = new AbortController().signal;

test('progress that another process was faster to tell is told later, as it is by then', async () => {
  const teller = makeTeller({ database }, { progressEveryMs: EVERY_MS });
  const { job, run } = await running();
  await teller.started(job, forGood);
  await teller.progress(run, { percent: 1 });
  await eventually(async () => expect(await toldOf(job.id)).toHaveLength(2));
  await teller.progress(run, { percent: 2 });
  await database.sql`
    UPDATE ringback.jobs SET progress_told_at = now() + interval '100 ms' WHERE id = ${job.id}`;
  await eventually(async () => expect((await toldOf(job.id)).at(-1)).toEqual(['job.progress', 2]));
});

test('the last of many reports is told, though those before it wait to be told', async () => {
  const teller = makeTeller({ database }, { progressEveryMs: EVERY_MS });
  const [slow, { job, run }] = [await running(), await running()];
  await teller.started(job, forGood);
  const started = await database.db.transaction(async (tx) => {
    await tx`SELECT FROM ringback.jobs WHERE id = ${slow.job.id} FOR UPDATE`;
    const blocked = teller.started(slow.job, forGood);
    for (let percent = 1; percent <= 20; percent++) await teller.progress(run, { percent });
    return { blocked };
  });
  await started.blocked;
  await eventually(async () => expect((await toldOf(job.id)).at(-1)).toEqual(['job.progress', 20]));
});

test('a start that could not be told in time comes before the first progress', async () => {
  const teller = makeTeller({ database });
  const { job, run } = await running();
  await teller.progress(run, { percent: 1 });
  await eventually(async () =>
    expect(await toldOf(job.id)).toEqual([
      ['job.started', 1],
      ['job.progress', 1],
    ]),
  );
});
