import { HTTPException } from 'hono/http-exception';
import { expect, test } from 'vitest';
import { PROBLEMS, type ProblemCode, refuse } from '#domain/problem.ts';
import { problemBody, problemType, refusalOf } from '../../../src/http/problem.ts';
import { problemSchema } from '../../../src/http/schemas/common.ts';

const codes = Object.keys(PROBLEMS) as ProblemCode[];

test.each(codes)('%s becomes a problem document that fits its schema', (code) => {
  const body = problemBody(refuse(code, 'What is wrong.', { faults: [{ path: '/input', message: 'is missing' }] }));
  expect(problemSchema.parse(body)).toEqual({
    type: `urn:ringback:problem:${code}`,
    title: PROBLEMS[code].title,
    status: PROBLEMS[code].status,
    code,
    detail: 'What is wrong.',
    errors: [{ path: '/input', message: 'is missing' }],
  });
});

test('without faults there is no errors member', () => {
  expect(problemBody(refuse('job_not_found', 'There is none.'))).not.toHaveProperty('errors');
});

test('further members come beside the standard ones', () => {
  const refusal = refuse('unknown_job_type', 'There is none.', { extra: { near: ['csv.profile'] } });
  expect(problemBody(refusal)).toMatchObject({ status: 404, near: ['csv.profile'] });
});

test.each(['type', 'title', 'status', 'code', 'detail', 'errors'])(
  'a further member called %s does not take the place of the standard one',
  (name) => {
    const faults = [{ path: '', message: 'no' }];
    const body = problemBody(refuse('no_result', 'The job failed.', { faults, extra: { [name]: 'another' } }));
    expect(body).toMatchObject({
      type: problemType('no_result'),
      title: PROBLEMS.no_result.title,
      status: 409,
      code: 'no_result',
      detail: 'The job failed.',
      errors: faults,
    });
  },
);

const reachable = { isUnavailable: () => false, isOutcomeUnknown: () => false };

test.each([
  ['a body that is no JSON', new HTTPException(400, { message: 'Malformed JSON in request body' }), 'malformed_json'],
  ['a content type the framework refuses', new HTTPException(415), 'unsupported_media_type'],
  ['another refusal of the framework', new HTTPException(418), 'internal_error'],
  ['an Error', new Error('secret detail'), 'internal_error'],
  ['a string', 'secret detail', 'internal_error'],
  ['null', null, 'internal_error'],
])('%s means %s', (_what, error, code) => {
  const refusal = refusalOf(error, reachable, false);
  expect(refusal.code).toBe(code);
  expect(refusal.detail).not.toContain('secret detail');
});

test('an unreachable database is not our fault but a pause', () => {
  const judge = { ...reachable, isUnavailable: () => true };
  const refusal = refusalOf(new Error('ECONNREFUSED'), judge, false);
  expect(refusal).toMatchObject({ code: 'database_unavailable', retryAfter: 2 });
});

test('a commit that was not confirmed is no promise that nothing was stored, except to who only reads', () => {
  const judge = { isUnavailable: () => true, isOutcomeUnknown: () => true };
  expect(refusalOf(new Error('lost'), judge, false)).toMatchObject({ code: 'outcome_unknown', retryAfter: 2 });
  expect(refusalOf(new Error('lost'), judge, true)).toMatchObject({ code: 'database_unavailable', retryAfter: 2 });
});
