import { describe, expect, test } from 'vitest';
import { z } from 'zod';
import { newId, parseId, timeOf } from '#domain/ids.ts';
import type { AnyJobDefinition } from '../../../src/jobs/type/define.ts';
import { JobTypes } from '../../../src/jobs/type/job-types.ts';
import { recordOf, type Submission, toNewJob } from '../../../src/jobs/submit/submission.ts';
import { NOW, schema } from './fixtures.ts';

const ACCOUNT = newId('acc', 0);
const DAY_MS = 86_400_000;

/** The job that a submission makes of the type `test.job`, which takes any input and a minute, unless changed. */
function submit(submission: Partial<Submission> = {}, definition: Partial<AnyJobDefinition> = {}) {
  const types = new JobTypes([{ type: 'test.job', input: schema(), run: () => null, ...definition }]);
  return toNewJob(types, ACCOUNT, { type: 'test.job', input: null, ...submission }, { now: NOW });
}

async function made(submission: Partial<Submission> = {}, definition: Partial<AnyJobDefinition> = {}) {
  const job = await submit(submission, definition);
  if (!job.ok) throw new Error(`refused: ${job.detail}`);
  return job.value;
}

/** So many milliseconds from when it is submitted. */
const at = (ms: number) => new Date(NOW.getTime() + ms);

describe('a submission', () => {
  test('of which nothing is asked but its type is ready at once, as its type says', async () => {
    const job = await made({}, { timeoutMs: 5000, concurrency: 2 });
    expect(job).toEqual({
      accountId: ACCOUNT,
      id: expect.any(String),
      eventId: expect.any(String),
      type: 'test.job',
      pool: 'limited:test.job',
      inputText: 'null',
      metadata: {},
      priority: 0,
      timeoutMs: null,
      runTimeoutMs: 5000,
      retry: null,
      runAt: null,
      expiresAt: null,
      scheduleId: null,
      scheduledFor: null,
      callbackEndpointId: null,
      callbackUrl: null,
      callbackEvents: null,
      createdAt: NOW,
      idempotency: null,
    });
    expect([parseId('job', job.id), parseId('evt', job.eventId)]).toEqual([job.id, job.eventId]);
    expect([timeOf(job.id), timeOf(job.eventId)]).toEqual([NOW.getTime(), NOW.getTime()]);
  });

  test('keeps all that is asked of it', async () => {
    const asked = { metadata: { a: '' }, priority: -100, retry: { maxRuns: 1 } };
    const times = { run_at: at(1), expires_at: at(2), timeout_ms: 60_000 };
    expect(await made({ ...asked, ...times })).toMatchObject({
      ...asked,
      runAt: at(1),
      expiresAt: at(2),
      timeoutMs: 60_000,
      runTimeoutMs: 60_000,
    });
  });

  test('of a schedule names it, and which of its times it is for', async () => {
    const types = new JobTypes([{ type: 'test.job', input: schema(), run: () => null }]);
    const occasion = { now: NOW, scheduleId: newId('sch', 0), scheduledFor: at(-5000) };
    const { now: _now, ...named } = occasion;
    expect(await toNewJob(types, ACCOUNT, { type: 'test.job' }, occasion)).toMatchObject({ ok: true, value: named });
  });

  test('with a callback wants every end, unless it says which', async () => {
    const url = 'https://example.com/';
    const all = ['job.succeeded', 'job.failed', 'job.canceled', 'job.expired'];
    expect((await made({ callback: { url } })).callbackEvents).toEqual(all);
    expect((await made({ callback: { url, events: ['job.failed'] } })).callbackEvents).toEqual(['job.failed']);
    expect((await made({ callback: { url, events: [] } })).callbackEvents).toEqual([]);
  });

  test('is a job that is queued, has never run and was called off by nobody', async () => {
    const job = await made({ metadata: { a: '1' } });
    const record = recordOf(job);
    expect(record).toMatchObject({ id: job.id, status: 'queued', runCount: 0, failureCount: 0, sequence: 1 });
    expect(record.updatedAt).toEqual(NOW);
    const empty = Object.entries(record).filter(([, value]) => value === null);
    expect(empty.map(([column]) => column)).toEqual(
      expect.arrayContaining([
        'outputText',
        'error',
        'startedAt',
        'runId',
        'nextRunAt',
        'cancelRequestedAt',
        'finishedAt',
      ]),
    );
    const notColumns = ['inputText', 'eventId', 'pool', 'runTimeoutMs', 'idempotency'];
    for (const name of notColumns) expect(record).not.toHaveProperty(name);
  });
});

describe('its times', () => {
  test.each<[string, Partial<Submission>, string[]]>([
    ['run_at longer ago than a clock may be wrong', { run_at: at(-5001) }, ['/run_at']],
    ['run_at more than 366 days away', { run_at: at(366 * DAY_MS + 1) }, ['/run_at']],
    ['expires_at just now', { expires_at: NOW }, ['/expires_at']],
    ['expires_at in the past', { expires_at: at(-1) }, ['/expires_at']],
    ['expires_at at its run_at', { run_at: at(1000), expires_at: at(1000) }, ['/expires_at']],
    ['expires_at before its run_at', { run_at: at(1000), expires_at: at(999) }, ['/expires_at']],
    ['timeout_ms beyond that of its type', { timeout_ms: 60_001 }, ['/timeout_ms']],
    [
      'all of them wrong',
      { run_at: at(400 * DAY_MS), expires_at: at(-1), timeout_ms: 60_001 },
      ['/run_at', '/expires_at', '/expires_at', '/timeout_ms'],
    ],
  ])('%s: refused, with a pointer to each fault', async (_what, submission, paths) => {
    const refusal = await submit(submission);
    if (refusal.ok) throw new Error('it was accepted');
    expect(refusal.code).toBe('invalid_body');
    expect(refusal.faults!.map(({ path }) => path)).toEqual(paths);
    for (const { path, message } of refusal.faults!) expect(refusal.detail).toContain(`${path} ${message}`);
  });

  test.each<[string, Partial<Submission>, object]>([
    ['a run_at that a slow clock took for the future', { run_at: at(-5000) }, { runAt: null }],
    ['a run_at of just now', { run_at: NOW }, { runAt: null }],
    ['a run_at in a millisecond', { run_at: at(1) }, { runAt: at(1) }],
    ['a run_at in 366 days', { run_at: at(366 * DAY_MS) }, { runAt: at(366 * DAY_MS) }],
    ['an expires_at in a millisecond', { expires_at: at(1) }, { expiresAt: at(1) }],
    ['an expires_at just after run_at', { run_at: at(5), expires_at: at(6) }, { runAt: at(5), expiresAt: at(6) }],
    ['the whole time of its type', { timeout_ms: 60_000 }, { timeoutMs: 60_000, runTimeoutMs: 60_000 }],
    ['the least time', { timeout_ms: 1 }, { timeoutMs: 1, runTimeoutMs: 1 }],
  ])('%s: accepted', async (_what, submission, expected) => {
    expect(await made(submission)).toMatchObject(expected);
  });

  test('wrong times are told before the input is looked at', async () => {
    const never = schema(() => expect.fail('the input was validated'));
    expect(await submit({ run_at: at(-DAY_MS) }, { input: never })).toMatchObject({ code: 'invalid_body' });
  });
});

describe('its input', () => {
  test.each<[string, unknown]>([
    ['a NUL', { a: ['x\0'] }],
    ['a NUL in a key', { 'a\0': 1 }],
    ['half of a surrogate pair', '\ud83d'],
    ['half of a surrogate pair in a key', { '\udc00': 1 }],
  ])('%s cannot be stored, however well it fits its type', async (_what, input) => {
    expect(await submit({ input })).toMatchObject({
      code: 'invalid_input',
      detail: expect.stringMatching(/cannot be stored.*PostgreSQL/),
    });
  });

  test('that does not fit is refused with a pointer to each fault', async () => {
    const input = z.strictObject({ 'a/b': z.int(), list: z.array(z.string()) });
    const refusal = await submit({ input: { 'a/b': 'x', list: ['y', 1] } }, { input });
    expect(refusal).toMatchObject({
      code: 'invalid_input',
      detail: 'The input does not fit test.job.',
      faults: [{ path: '/input/a~1b' }, { path: '/input/list/1' }],
    });
  });

  test('is stored as it was sent: numbers, order of keys, and what the schema would have changed', async () => {
    const input = z.object({ b: z.string().trim(), a: z.number() });
    expect((await made({ input: { b: ' x ', a: 1e21, more: [] } }, { input })).inputText).toBe(
      '{"b":" x ","a":1e+21,"more":[]}',
    );
  });

  test('left out is null, if its type can do without', async () => {
    expect((await made({ input: undefined })).inputText).toBe('null');
    expect(await submit({ input: undefined }, { input: z.string() })).toMatchObject({ faults: [{ path: '/input' }] });
  });

  test.each<[string, unknown, number]>([
    ['text', 'abcd', 6],
    ['text of two bytes a character', 'ää', 6],
    ['text of three bytes a character', '\u20ac', 5],
    ['text of four bytes a character', '😀', 6],
    ['text that is escaped', '\n\u0001', 10],
  ])('%s counts in bytes of JSON: at the limit it is accepted, beyond it refused', async (_what, input, bytes) => {
    expect(Buffer.byteLength(JSON.stringify(input))).toBe(bytes);
    expect(await submit({ input }, { maxInputBytes: bytes })).toMatchObject({ ok: true });
    expect(await submit({ input }, { maxInputBytes: bytes - 1 })).toMatchObject({
      code: 'input_too_large',
      extra: { max_bytes: bytes - 1 },
    });
  });
});

test('of an unknown type nothing else is looked at', async () => {
  const refusal = await submit({ type: 'test.jab', run_at: at(-DAY_MS), input: '\0' });
  expect(refusal).toMatchObject({ code: 'unknown_job_type', extra: { near: ['test.job'] } });
});
