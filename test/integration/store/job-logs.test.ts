import { describe, expect, test } from 'vitest';
import { newId } from '#domain/ids.ts';
import { LOG_LEVELS } from '#domain/job.ts';
import { insertLogLines, type LogLine, type LogPage, readLogLines } from '#store/job-logs.ts';
import { endRuns } from '#store/end-runs.ts';
import { useDatabase } from '../../support/database.ts';
import { eventually } from '../../support/eventually.ts';
import { claimRun, insertJob, makeAccount, makeDue, runEnd } from '../../support/fixtures.ts';

const database = useDatabase();

async function startRun() {
  const { accountId } = await makeAccount(database.db);
  const job = await insertJob(database.db, accountId);
  const claimed = await claimRun(database.db, job);
  return { job, claimed, run: { accountId, jobId: job.id, runId: claimed.runId } };
}

const line = (position: number, changes: Partial<LogLine> = {}): LogLine => ({
  position,
  level: 'info',
  message: `line ${position}`,
  fieldsText: null,
  createdAt: new Date(),
  ...changes,
});
const LOST = { runStatus: 'lost', runError: { code: 'worker_lost', message: 'gone' } } as const;
const all: LogPage = { after: 0, limit: 1000, levels: LOG_LEVELS };
const read = ({ claimed }: Awaited<ReturnType<typeof startRun>>, page: Partial<LogPage> = {}) =>
  readLogLines(database.db, claimed, { ...all, ...page });
const positions = async (...args: Parameters<typeof read>) => (await read(...args)).map(({ position }) => position);

test('a line comes back as it was', async () => {
  const started = await startRun();
  const lines = [
    line(1_000_001, {
      level: 'debug',
      message: '',
      fieldsText: '{"z":1e400, "a":[null,"\u2028"],"2":{},"1":"\\u00e9"}',
    }),
    line(9_007_199_254_740_991, { level: 'error', message: 'ä😀"\\' }),
  ];
  expect(await insertLogLines(database.sql, started.run, lines)).toBe(true);
  expect(await read(started)).toEqual(lines.map((one) => ({ ...one, runId: started.run.runId })));
});

test('what PostgreSQL cannot hold of a message is cleaned', async () => {
  const started = await startRun();
  await insertLogLines(database.sql, started.run, [line(1, { message: 'a\0\ud800' })]);
  expect(await read(started)).toMatchObject([{ message: 'a\ufffd\ufffd' }]);
});

describe('a page', () => {
  test('begins after a position, and ends at its limit', async () => {
    const started = await startRun();
    await insertLogLines(
      database.sql,
      started.run,
      [5, 3, 9, 7].map((position) => line(position)),
    );
    expect(await positions(started)).toEqual([3, 5, 7, 9]);
    expect(await positions(started, { after: 4, limit: 2 })).toEqual([5, 7]);
    expect(await positions(started, { after: 9 })).toEqual([]);
  });

  test('holds the levels asked for', async () => {
    const started = await startRun();
    await insertLogLines(
      database.sql,
      started.run,
      LOG_LEVELS.map((level, n) => line(n + 1, { level })),
    );
    expect(await positions(started, { levels: ['warn', 'error'] })).toEqual([3, 4]);
  });

  test('holds lines of its job only', async () => {
    const [one, other] = [await startRun(), await startRun()];
    await insertLogLines(database.sql, one.run, [line(1)]);
    expect(await positions(other)).toEqual([]);
    expect(await positions({ ...one, claimed: { ...one.claimed, accountId: other.claimed.accountId } })).toEqual([]);
  });

  test('is looked for in the weeks of the job’s life only', async () => {
    const old = new Date(Date.now() - 40 * 86_400_000);
    const started = await startRun();
    await insertLogLines(database.sql, started.run, [line(1), line(2, { createdAt: old })]);
    expect(await positions(started)).toEqual([1]);
    const since = { ...started.claimed, createdAt: old };
    expect(await positions({ ...started, claimed: since })).toEqual([1, 2]);
    expect(await positions({ ...started, claimed: { ...since, finishedAt: old } })).toEqual([2]);
  });
});

test('a run that is not the job’s own says nothing: another’s, a stale one, one that is over', async () => {
  const started = await startRun();
  const { claimed, run, job } = started;
  expect(await insertLogLines(database.sql, { ...run, runId: newId('run', Date.now()) }, [line(1)])).toBe(false);
  const next = new Date(Date.now() + 1000);
  await endRuns(database.sql, [runEnd(claimed, { jobStatus: 'in_progress', ...LOST, nextRunAt: next })]);
  expect(await insertLogLines(database.sql, run, [line(2)])).toBe(false);
  await makeDue(database.db, job);
  const second = await claimRun(database.db, job);
  expect(await insertLogLines(database.sql, run, [line(3)])).toBe(false);
  expect(await insertLogLines(database.sql, { ...run, runId: second.runId }, [line(4)])).toBe(true);
  await endRuns(database.sql, [runEnd(second)]);
  expect(await insertLogLines(database.sql, { ...run, runId: second.runId }, [line(5)])).toBe(false);
  expect(await positions(started)).toEqual([4]);
});

test('lines that are being written are there before the next run can say anything', async () => {
  const { claimed, run } = await startRun();
  const written = Promise.withResolvers<void>();
  const gate = Promise.withResolvers<void>();
  const writing = database.db.transaction(async (tx) => {
    await insertLogLines(tx, run, [line(1)]);
    written.resolve();
    await gate.promise;
  });
  await written.promise;
  let ended = false;
  const end = runEnd(claimed, { jobStatus: 'in_progress', ...LOST });
  const ending = endRuns(database.sql, [end]).then(() => (ended = true));
  await eventually(async () => {
    const waiting =
      await database.sql`SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()`;
    expect(waiting).toHaveLength(1);
  });
  expect(ended).toBe(false);
  gate.resolve();
  await Promise.all([writing, ending]);
});
