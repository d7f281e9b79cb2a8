import { expect } from 'vitest';
import { type ProblemCode, PROBLEMS } from '#domain/problem.ts';
import type { Answer } from './api.ts';

/** Holds an answer to what RFC 9457 and the catalogue say of a code; answers the document. */
export function expectProblem(answer: Pick<Answer, 'status' | 'headers' | 'text' | 'json'>, code: ProblemCode) {
  const { status, title } = PROBLEMS[code];
  expect({ status: answer.status, code: answer.json?.code }, answer.text).toEqual({ status, code });
  expect(answer.headers.get('content-type')).toBe('application/problem+json');
  expect(answer.json).toMatchObject({ type: `urn:ringback:problem:${code}`, title, status });
  expect(answer.json.detail, 'a sentence').toMatch(/^\S.{10,}\S$/);
  expect(answer.text, 'nothing of our insides').not.toMatch(/\bat \S+ \(|node_modules|SELECT|INSERT|Error:|\.ts:\d/);
  return answer.json;
}
