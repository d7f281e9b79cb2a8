import { expect, test } from 'vitest';
import { diagnosticJobs } from '../../../src/jobs/type/diagnostics.ts';
import { callHandler } from '../../../src/jobs/run/handler.ts';
import { JobTypes } from '../../../src/jobs/type/job-types.ts';
import { CONTEXT } from './fixtures.ts';

const types = new JobTypes(diagnosticJobs);

function runDiagnostic(type: string, input: unknown, number = 1) {
  const context = { ...CONTEXT, run: { id: `run_${number}`, number } };
  return callHandler(types.get(type)!, input, context, new AbortController().signal);
}

test('there are echo, fail and sleep, each with a description', () => {
  expect(types.list().map(({ type }) => type)).toEqual(['ringback.echo', 'ringback.fail', 'ringback.sleep']);
  expect(types.list().every(({ description }) => description !== undefined)).toBe(true);
});

test.each([null, 0, '', 'text', [1, [2]], { a: { b: null } }])('ringback.echo returns %j', async (input) => {
  expect(await runDiagnostic('ringback.echo', input)).toEqual({
    kind: 'value',
    text: JSON.stringify(input),
  });
});

test('ringback.sleep tells how long it slept', async () => {
  expect(await runDiagnostic('ringback.sleep', { ms: 0 })).toMatchObject({ text: '{"slept_ms":0}' });
});

test('ringback.sleep has time for its longest sleep', () => {
  expect(types.get('ringback.sleep')!.timeoutMs).toBeGreaterThan(3_600_000);
});

test('ringback.sleep wakes when the worker shuts down', async () => {
  const { run } = types.get('ringback.sleep')!;
  const asleep = Promise.resolve(run!({ input: { ms: 3_600_000 }, signal: AbortSignal.abort() } as never));
  await expect(asleep).rejects.toMatchObject({ name: 'AbortError' });
});

test.each([
  [0, ['value']],
  [2, ['failed', 'failed', 'value']],
])('ringback.fail with times %d: %j', async (times, kinds) => {
  const outcomes = await Promise.all(kinds.map((_, index) => runDiagnostic('ringback.fail', { times }, index + 1)));
  expect(outcomes.map(({ kind }) => kind)).toEqual(kinds);
  expect(outcomes.at(-1)).toMatchObject({ text: `{"runs":${times + 1}}` });
  expect(outcomes.slice(0, -1).every((outcome) => outcome.kind === 'failed' && outcome.retryable)).toBe(true);
});

test.each([
  ['ringback.sleep', {}],
  ['ringback.sleep', { ms: -1 }],
  ['ringback.sleep', { ms: 1.5 }],
  ['ringback.sleep', { ms: 3_600_001 }],
  ['ringback.sleep', { ms: 1, extra: 1 }],
  ['ringback.fail', { times: 101 }],
  ['ringback.fail', { times: '1' }],
  ['ringback.fail', null],
])('%s refuses %j', async (type, input) => {
  expect(await runDiagnostic(type, input)).toMatchObject({ error: { code: 'invalid_input' }, retryable: false });
});
