import { text } from 'node:stream/consumers';
import { describe, expect, test } from 'vitest';
import { newId } from '#domain/ids.ts';
import { endRuns } from '#store/end-runs.ts';
import { JobQueries } from '../../../src/jobs/read/job-queries.ts';
import { useDatabase } from '../../support/database.ts';
import { accepted, claimRun, insertJob, makeAccount, runEnd } from '../../support/fixtures.ts';
import { REAL_CLOCK } from '../../support/workers.ts';

const database = useDatabase();

const queries = () => new JobQueries({ db: database.db, clock: REAL_CLOCK, polls: { after: () => 1 } });

describe('the result of a job', () => {
  test('is refused, with a time to ask again, while there is none yet', async () => {
    const { accountId } = await makeAccount(database.db);
    const { id } = await insertJob(database.db, accountId);
    const refusal = { ok: false, code: 'job_not_finished', retryAfter: 1 };
    expect(await queries().result(accountId, id)).toMatchObject({
      ...refusal,
      detail: expect.stringMatching(/queued/),
    });
    await claimRun(database.db, { accountId, id });
    expect(await queries().result(accountId, id)).toMatchObject({
      ...refusal,
      detail: expect.stringMatching(/in_progress/),
    });
  });

  test('is refused for good when the job failed, with its error', async () => {
    const { accountId } = await makeAccount(database.db);
    const job = await claimRun(database.db, await insertJob(database.db, accountId));
    const error = { code: 'handler_error', message: 'it broke' } as const;
    const end = { runStatus: 'failed', runError: error, jobStatus: 'failed', jobError: error } as const;
    await endRuns(database.sql, [runEnd(job, end)]);
    const refused = await queries().result(accountId, job.id);
    expect(refused).toMatchObject({ ok: false, code: 'no_result', detail: expect.stringContaining('it broke') });
    expect(refused).not.toHaveProperty('retryAfter');
  });

  test.each(['null', 'false', '0', '""', '[]', '{"z":1,"a":2}'])('is the output itself: %s', async (outputText) => {
    const { accountId } = await makeAccount(database.db);
    const job = await claimRun(database.db, await insertJob(database.db, accountId));
    await endRuns(database.sql, [runEnd(job, { outputText })]);
    const { bytes, read } = accepted(await queries().result(accountId, job.id));
    expect(await text(read({ first: 0, last: bytes - 1 }))).toBe(outputText);
  });
});

test('the runs of a job are those that ended, then the one under way', async () => {
  const { accountId } = await makeAccount(database.db);
  const job = await insertJob(database.db, accountId);
  expect(accepted(await queries().runs(accountId, job.id))).toEqual({ ended: [], current: undefined });
  const first = await claimRun(database.db, job);
  const released = { runStatus: 'released', jobStatus: 'in_progress', outputText: null } as const;
  await endRuns(database.sql, [runEnd(first, released)]);
  const between = accepted(await queries().runs(accountId, job.id));
  expect(between).toMatchObject({ ended: [{ id: first.runId, number: 1 }], current: undefined });
  const second = await claimRun(database.db, job);
  expect(accepted(await queries().runs(accountId, job.id))).toMatchObject({
    ended: [{ number: 1 }],
    current: { id: second.runId, number: 2, startedAt: second.runStartedAt, workerId: second.workerId },
  });
});

test('another account’s job is not there, in the same words as one that never was', async () => {
  const [one, other] = [await makeAccount(database.db), await makeAccount(database.db)];
  const { id } = await insertJob(database.db, other.accountId);
  for (const unknown of [id, newId('job', 1)]) {
    const refusal = { ok: false, code: 'job_not_found', detail: `There is no job ${unknown}.` };
    expect(await queries().find(one.accountId, unknown)).toEqual(refusal);
    expect(await queries().result(one.accountId, unknown)).toEqual(refusal);
    expect(await queries().runs(one.accountId, unknown)).toEqual(refusal);
  }
});
