import { expect, test } from 'vitest';
import { JobQueries } from '../../../src/jobs/read/job-queries.ts';
import { useDatabase } from '../../support/database.ts';
import { accepted, insertJob, makeAccount } from '../../support/fixtures.ts';
import { counting } from './watch-instances.ts';
import { REAL_CLOCK } from '../../support/workers.ts';

const database = useDatabase();

test('thousands who ask at once share a few statements, and each gets the job asked for', async () => {
  const { accountId } = await makeAccount(database.db);
  const jobs = await Promise.all(Array.from({ length: 20 }, () => insertJob(database.db, accountId)));
  const db = counting(database.db);
  const queries = new JobQueries({ db, clock: REAL_CLOCK, polls: { after: () => 1 } });
  const asked = Array.from({ length: 2000 }, (_, n) => jobs[n % jobs.length]!.id);
  const found = await Promise.all(asked.map((id) => queries.find(accountId, id)));
  expect(found.map((result) => accepted(result).id)).toEqual(asked);
  expect(db.reads).toBe(4);
});

test('who asks together with its owner for another account’s job does not get it', async () => {
  const [owner, stranger] = [await makeAccount(database.db), await makeAccount(database.db)];
  const { id } = await insertJob(database.db, owner.accountId);
  const db = counting(database.db);
  const queries = new JobQueries({ db, clock: REAL_CLOCK, polls: { after: () => 1 } });
  const [own, foreign] = await Promise.all([queries.find(owner.accountId, id), queries.find(stranger.accountId, id)]);
  expect(own).toMatchObject({ ok: true, value: { id, accountId: owner.accountId } });
  expect(foreign).toMatchObject({ ok: false, code: 'job_not_found' });
});
