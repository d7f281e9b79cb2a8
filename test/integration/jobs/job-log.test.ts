import { setTimeout as pause } from 'node:timers/promises';
import { describe, expect, test } from 'vitest';
import { JobLogs } from '#jobs/read/job-log.ts';
import { JobQueries } from '#jobs/read/job-queries.ts';
import { useDatabase } from '../../support/database.ts';
import { eventually } from '../../support/eventually.ts';
import { accepted, makeAccount } from '../../support/fixtures.ts';
import { endOfJob, type Handler, jobType, readJob, type SubmittedJob, submitJob } from '../../support/job-life.ts';
import { errorsIn } from '../../support/log.ts';
import { REAL_CLOCK, startRunner } from '../../support/workers.ts';

const database = useDatabase();
const run = (handler: Handler, more: Parameters<typeof jobType>[1] = {}) =>
  startRunner({ database }, [jobType(handler, more)]);

const page = { after: 0, limit: 1000, level: 'debug' as const };
const logs = () =>
  new JobLogs(database.db, new JobQueries({ db: database.db, clock: REAL_CLOCK, polls: { after: () => 1 } }));
const readAll = async ({ accountId, id }: SubmittedJob) => accepted(await logs().read(accountId, id, page));
const messages = async (job: SubmittedJob) => (await readAll(job)).map(({ message }) => message);

describe('once a job shows as done, every line can be read,', () => {
  const ends: Array<[string, Handler]> = [
    ['when it succeeded', () => null],
    ['when it failed', () => Promise.reject(new Error('no'))],
    ['when its time was up', () => new Promise(() => undefined)],
  ];
  test.each(ends)('%s', async (_, end) => {
    const lines = Array.from({ length: 250 }, (_line, n) => `line ${n}`);
    const jobs = await Promise.all(Array.from({ length: 5 }, () => submitJob(database, { runTimeoutMs: 300 })));
    run(
      (context) => {
        for (const text of lines) context.log('info', text);
        return end(context);
      },
      { retry: { maxRuns: 1 } },
    );
    for (const job of jobs) {
      await eventually(async () => expect((await readJob(database, job)).finishedAt).not.toBeNull());
      expect(await messages(job)).toEqual(lines);
    }
  });
});

test('lines can be read while the run goes on', async () => {
  const job = await submitJob(database);
  const gate = Promise.withResolvers<void>();
  run(async ({ log }) => {
    log('warn', 'under way', { percent: 1 });
    await gate.promise;
  });
  const [line] = await eventually(async () => {
    const lines = await readAll(job);
    expect(lines).toHaveLength(1);
    return lines;
  });
  const { runId } = await readJob(database, job);
  expect(line).toMatchObject({ level: 'warn', message: 'under way', fieldsText: '{"percent":1}', runId });
  gate.resolve();
  await endOfJob(database, job);
});

test('reading on misses no line and repeats none, over runs that fail and while more is said', async () => {
  const job = await submitJob(database);
  run(
    async ({ log, run: { number } }) => {
      for (let n = 0; n < 30; n++) {
        for (let m = 0; m < 20; m++) log('info', `run ${number} line ${20 * n + m}`);
        await pause(5);
      }
      if (number < 3) throw new Error('again');
    },
    { retry: { maxRuns: 3, minDelayMs: 0 } },
  );
  const seen: string[] = [];
  let after = 0;
  for (let isOver = false; !isOver;) {
    const { finishedAt } = await readJob(database, job);
    const lines = accepted(await logs().read(job.accountId, job.id, { ...page, after, limit: 37 }));
    seen.push(...lines.map(({ message }) => message));
    after = lines.at(-1)?.position ?? after;
    isOver = finishedAt !== null && lines.length === 0;
  }
  const said = [1, 2, 3].flatMap((number) => Array.from({ length: 600 }, (_, n) => `run ${number} line ${n}`));
  expect(seen).toEqual(said);
});

test('what a handler says after its run has ended is refused, and harms nobody', async () => {
  const [job, next] = [await submitJob(database, { runTimeoutMs: 50 }), await submitJob(database)];
  const [later, gate] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
  const { lines } = run(
    async ({ log, job: { id } }) => {
      if (id === next.id) await later.promise;
      log('info', 'in time');
      if (id === next.id) await gate.promise;
      else await later.promise;
      log('info', 'at the end');
    },
    { retry: { maxRuns: 1 } },
  );
  await endOfJob(database, job);
  later.resolve();
  // Whatever is written now and then was, for both.
  await eventually(async () => expect(await messages(next)).toEqual(['in time']));
  gate.resolve();
  await endOfJob(database, next);
  expect(await messages(next)).toEqual(['in time', 'at the end']);
  expect(await messages(job)).toEqual(['in time']);
  expect(errorsIn(lines)).toEqual([]);
});

test('nothing that is said fails the run, and what is said beside it is kept', async () => {
  const job = await submitJob(database);
  const cyclic: Record<string, unknown> = {};
  cyclic['self'] = cyclic;
  const { proxy, revoke } = Proxy.revocable({}, {});
  revoke();
  const deep: unknown = JSON.parse(`${'{"a":'.repeat(2000)}1${'}'.repeat(2000)}`);
  const { lines } = run(({ log }) => {
    const say = log as (...args: unknown[]) => void;
    say('info', 'first');
    for (const thing of ['\0\ud800', 'x'.repeat(1_000_000), Symbol('s'), 1n, cyclic, proxy, deep, undefined]) {
      say('info', thing, thing);
      say(thing, thing, { thing });
    }
    say();
    say('info', 'last');
    return 'fine';
  });
  expect(await endOfJob(database, job)).toMatchObject({ status: 'succeeded', outputText: '"fine"' });
  const said = await messages(job);
  expect(said).toHaveLength(19);
  expect([said[0], said.at(-1)]).toEqual(['first', 'last']);
  expect(errorsIn(lines)).toEqual([]);
  expect(lines.filter(({ msg }) => msg === 'job log')).toEqual([]);
});

test('the least level that is asked for is the least that is given', async () => {
  const job = await submitJob(database);
  run(({ log }) => {
    for (const level of ['debug', 'info', 'warn', 'error'] as const) log(level, level);
  });
  await endOfJob(database, job);
  for (const [level, expected] of [
    ['debug', ['debug', 'info', 'warn', 'error']],
    ['info', ['info', 'warn', 'error']],
    ['warn', ['warn', 'error']],
    ['error', ['error']],
  ] as const) {
    const lines = accepted(await logs().read(job.accountId, job.id, { ...page, level }));
    expect(lines.map(({ message }) => message)).toEqual(expected);
  }
});

test('another account’s job has no log', async () => {
  const job = await submitJob(database);
  const { accountId } = await makeAccount(database.db);
  expect(await logs().read(accountId, job.id, page)).toMatchObject({ ok: false, code: 'job_not_found' });
});
