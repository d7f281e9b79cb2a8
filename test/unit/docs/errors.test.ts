import { readdirSync, readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { ATTEMPT_OUTCOMES } from '#domain/attempt.ts';
import { CALLBACK_URL_REFUSALS } from '#domain/callback-url.ts';
import { JOB_ERROR_CODES } from '#domain/job.ts';
import { PROBLEMS } from '#domain/problem.ts';
import { problemType } from '../../../src/http/problem.ts';

const ROOT = new URL('../../../', import.meta.url);
const read = (path: string) => readFileSync(new URL(path, ROOT), 'utf8');
const docs = read('docs/errors.md');

/** The text under a heading of the second level, up to the next one. */
function chapter(title: string): string {
  const text = docs.split(/^## /m).find((part) => part.startsWith(`${title}\n`));
  if (text === undefined) throw new Error(`docs/errors.md has no chapter ${title}`);
  return text;
}

/** The rows of a chapter's table: its cells, the code without its marks. */
function rowsOf(title: string): string[][] {
  const rows = chapter(title).matchAll(/^\| `([^`]+)` +\| (.*) \|$/gm);
  return [...rows].map(([, code, rest]) => [code!, ...rest!.split(' | ').map((cell) => cell.trim())]);
}

function codesOf(title: string): string[] {
  return rowsOf(title).map(([code]) => code!);
}

function literals(text: string, form: RegExp): string[] {
  return [...text.matchAll(form)].map(([, code]) => code!);
}

const sections = chapter('Problems')
  .split(/^### /m)
  .slice(1)
  .map((section) => ({ code: section.slice(0, section.indexOf('\n')), text: section.slice(section.indexOf('\n')) }));

test('every problem code has one section, and every section is a problem code', () => {
  expect(sections.map(({ code }) => code)).toEqual(Object.keys(PROBLEMS));
});

test.each(Object.entries(PROBLEMS))('the section on %s has its status and says something', (code, { status }) => {
  const text = sections.find((section) => section.code === code)?.text ?? '';
  expect(/^Status \*\*(\d{3})\*\*\. /m.exec(text)?.[1]).toBe(String(status));
  expect(text.trim().length).toBeGreaterThan('Status **404**. '.length + 40);
});

test('the example of a problem is one', () => {
  const example = JSON.parse(/```json\n(.*?)```/s.exec(docs)?.[1] ?? '') as Record<string, unknown>;
  const { status, title } = PROBLEMS.invalid_input;
  expect(example).toMatchObject({ type: problemType('invalid_input'), code: 'invalid_input', status, title });
});

test('every job and run error is in the table, and the table has no other', () => {
  expect(codesOf('Job and run errors').toSorted()).toEqual([...JOB_ERROR_CODES].toSorted());
});

/** The codes of attempts are literals in the files that make them, so that is where they are looked for. */
function attemptCodesOfTheSource(): string[] {
  const egress = readdirSync(new URL('src/egress/', ROOT)).map((file) => read(`src/egress/${file}`));
  return [
    ...CALLBACK_URL_REFUSALS,
    ...literals(egress.join(), /'([a-z]+(?:_[a-z]+)+)'/g),
    ...literals(egress.join(), /`(status_)\$\{status\}`/g).map((prefix) => `${prefix}<number>`),
    ...literals(
      ['attempt', 'record-attempt', 'rescue', 'verification'].map((file) => read(`src/callbacks/${file}.ts`)).join(),
      /errorCode: '([a-z_]+)'/g,
    ),
  ];
}

test('every attempt error is in the table, and the table has no other', () => {
  const codes = [...new Set(attemptCodesOfTheSource())];
  expect(codes).toEqual(expect.arrayContaining(['dns_timeout', 'status_<number>', 'courier_lost', 'malformed']));
  expect(codesOf('Attempt errors').toSorted()).toEqual(codes.toSorted());
});

test('every attempt error belongs to an outcome, and every outcome but delivered has one', () => {
  const outcomes = rowsOf('Attempt errors').map(([, outcome]) => outcome!.replaceAll('`', ''));
  const failures = ATTEMPT_OUTCOMES.filter((outcome) => outcome !== 'delivered');
  expect([...new Set(outcomes)].toSorted()).toEqual(failures.toSorted());
});

test('the outcome of each failure of a connection is the one the source gives it', () => {
  const source = read('src/egress/failure.ts') + read('src/egress/proxy-failure.ts');
  const pairs = source.matchAll(/outcome: '([a-z]+)',\s*code: '([a-z_]+)'/g);
  const expected = new Map([...pairs].map(([, outcome, code]) => [code!, `\`${outcome}\``]));
  expect(expected.size).toBeGreaterThan(8);
  const documented = new Map(rowsOf('Attempt errors').map(([code, outcome]) => [code!, outcome!]));
  expect(new Map([...expected.keys()].map((code) => [code, documented.get(code)]))).toEqual(expected);
});

test('the six reasons of invalid_callback_url are the first of the attempt errors, as its section says', () => {
  expect(CALLBACK_URL_REFUSALS).toHaveLength(6);
  expect(codesOf('Attempt errors').slice(0, 6)).toEqual([...CALLBACK_URL_REFUSALS]);
});
