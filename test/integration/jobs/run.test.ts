import { beforeEach, describe, expect, test } from 'vitest';
import { z } from 'zod';
import type { AnyJobDefinition } from '../../../src/jobs/type/define.ts';
import { jobJson } from '../../../src/jobs/read/job-view.ts';
import { useDatabase } from '../../support/database.ts';
import { eventually } from '../../support/eventually.ts';
import {
  callbackBody,
  endOfJob,
  jobType,
  readJob,
  runsOfJob,
  type SubmittedJob,
  submitJob,
} from '../../support/job-life.ts';
import { errorsIn } from '../../support/log.ts';
import { PUBLIC_URL, startRunner } from '../../support/workers.ts';

const database = useDatabase();

beforeEach(async () => {
  await database.sql`DELETE FROM ringback.delivery_queue`;
  await database.sql`DELETE FROM ringback.run_queue`;
});

const parts = () => ({ database });
const submit = (options?: Parameters<typeof submitJob>[1]) => submitJob(database, options);
const run = (definition: AnyJobDefinition) => startRunner(parts(), [definition]);
const read = (job: SubmittedJob) => readJob(database, job);
const ended = (job: SubmittedJob) => endOfJob(database, job);
const runs = (job: SubmittedJob) => runsOfJob(database, job);
const body = (job: SubmittedJob) => callbackBody(database, job);

describe('a run that succeeds', () => {
  test('leaves output, run and event, and nothing in the queue', async () => {
    const job = await submit({ inputText: '{"n":[1,2]}' });
    const seen: unknown[] = [];
    const { lines, announced } = run(
      jobType(({ input, job: about, run: current }) => {
        seen.push({ input, about, number: current.number });
        return { z: 1, a: [null] };
      }),
    );
    expect(await ended(job)).toMatchObject({
      status: 'succeeded',
      outputText: '{"z":1,"a":[null]}',
      runCount: 1,
      sequence: 3,
    });
    const about = { id: job.id, type: 'test.job', accountId: job.accountId };
    expect(seen).toEqual([{ input: { n: [1, 2] }, about, number: 1 }]);
    expect(await runs(job)).toEqual([[1, 'succeeded', null]]);
    expect(await database.sql`SELECT FROM ringback.run_queue`).toEqual([]);
    expect(await database.sql`SELECT FROM ringback.delivery_queue`).toEqual([]);
    expect(announced()).toBe(0);
    expect(errorsIn(lines)).toEqual([]);
  });

  test('with a callback queues its delivery, announces it, and has rendered its body once', async () => {
    const job = await submit({ withCallback: true });
    const { announced } = run(jobType(() => ({ answer: 42 })));
    const row = await ended(job);
    const callback = await body(job);
    expect(callback).toMatchObject({ type: 'job.succeeded', sequence: 3 });
    // The very representation that a status request gives.
    expect(callback.data.job).toEqual(JSON.parse(jobJson(row, PUBLIC_URL)));
    await eventually(() => expect(announced()).toBe(1));
    expect(await database.sql`SELECT endpoint_id AS endpoint FROM ringback.delivery_queue`).toEqual([
      { endpoint: job.endpoint!.id },
    ]);
  });

  test.each<[string, unknown, unknown]>([
    ['nothing', undefined, null],
    ['null', null, null],
    ['false', false, false],
    ['a Date', new Date(0), '1970-01-01T00:00:00.000Z'],
    ['NaN', Number.NaN, null],
    ['an empty string', '', ''],
  ])('and returns %s has that as its output, in the status and in the callback', async (_, value, output) => {
    const job = await submit({ withCallback: true });
    run(jobType(() => value));
    const row = await ended(job);
    expect(row).toMatchObject({ status: 'succeeded', outputText: JSON.stringify(output) });
    expect((await body(job)).data.job).toMatchObject({ status: 'succeeded', output });
  });

  test('has the output its schema made of it', async () => {
    const job = await submit();
    run(jobType(() => ({ a: ' x ', secret: 1 }), { output: z.object({ a: z.string().trim() }) }));
    expect((await ended(job)).outputText).toBe('{"a":"x"}');
  });

  test('shows its progress while it runs, and keeps the last', async () => {
    const job = await submit({ withCallback: true });
    const gate = Promise.withResolvers<void>();
    run(
      jobType(async ({ progress }) => {
        progress(10, 'first');
        progress(400, 'second');
        await gate.promise;
      }),
    );
    const shown = { percent: 100, message: 'second' };
    await eventually(async () => expect(await read(job)).toMatchObject({ status: 'in_progress', progress: shown }));
    gate.resolve();
    expect((await ended(job)).progress).toEqual(shown);
    expect((await body(job)).data.job).toMatchObject({ progress: shown });
  });

  test('keeps the progress that it reported last, however soon it ended after that', async () => {
    const job = await submit({ withCallback: true });
    run(
      jobType(({ progress }) => {
        progress(99, 'as good as done');
        return 1;
      }),
    );
    const last = { percent: 99, message: 'as good as done' };
    expect((await ended(job)).progress).toEqual(last);
    expect((await body(job)).data.job).toMatchObject({ progress: last });
  });
});
