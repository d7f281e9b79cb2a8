import { relative } from 'node:path';
import { stripVTControlCharacters } from 'node:util';
import type { Reporter, SerializedError, TestCase, TestModule, TestRunEndReason, TestSuite } from 'vitest/node';

const MAX_NAMED = 50;
const MAX_LENGTH = 300;

interface Failure {
  /** A file, a suite in it or a test of that: `test/unit/a.test.ts > suite > test`. */
  readonly where: string;
  readonly errors: readonly { readonly name?: string | undefined; readonly message?: string | undefined }[];
}

/**
 * Ends the run with one line that a script can read: `tests: 123 passed, 0 failed`, and `, 2 skipped` when some were, after
 * the reason of each and the name of each that failed, with the first line of its error: whoever sees only the end of a log
 * knows what to look at.
 * What failed outside of a test (a file that does not load, a hook, an unhandled rejection) counts as failed too, so
 * that "0 failed" never stands above a run that failed.
 */
export class ClosingLine implements Reporter {
  onTestRunEnd(modules: readonly TestModule[], unhandled: readonly SerializedError[], reason: TestRunEndReason): void {
    const count = { passed: 0, failed: 0, skipped: 0 };
    const failures: Failure[] = [];
    for (const module of modules) {
      failures.push(...brokenHooks(module));
      for (const test of module.children.allTests()) {
        const result = test.result();
        if (result.state === 'passed' || result.state === 'skipped') count[result.state] += 1;
        else failures.push({ where: nameOf(test), errors: result.errors ?? [] });
        if (result.state === 'skipped' && result.note !== undefined) print(`skipped, ${result.note}: ${test.fullName}`);
      }
    }
    for (const error of unhandled) failures.push({ where: placeOf(error), errors: [error] });
    // A set-up of the whole run that fails is known to vitest alone, which prints it.
    if (failures.length === 0 && reason !== 'passed')
      failures.push({ where: 'the run', errors: [{ message: `it ${reason} outside of every test` }] });
    count.failed = failures.length;
    for (const failure of failures.slice(0, MAX_NAMED)) print(describe(failure));
    if (failures.length > MAX_NAMED) print(`failed: and ${failures.length - MAX_NAMED} more`);
    const skipped = count.skipped > 0 ? `, ${count.skipped} skipped` : '';
    print(`tests: ${count.passed} passed, ${count.failed} failed${skipped}`);
  }
}

/** What failed around the tests of a file: loading it, a hook of it or of a suite. */
function brokenHooks(module: TestModule): Failure[] {
  const around = [module, ...module.children.allSuites()];
  return around.map((one) => ({ where: nameOf(one), errors: one.errors() })).filter(({ errors }) => errors.length > 0);
}

function nameOf(entity: TestModule | TestSuite | TestCase): string {
  const file = entity.type === 'module' ? entity : entity.module;
  return entity.type === 'module' ? file.relativeModuleId : `${file.relativeModuleId} > ${entity.fullName}`;
}

/** The test that ran when an error got past every handler, as far as that is known. */
function placeOf({ VITEST_TEST_PATH: file, VITEST_TEST_NAME: test }: SerializedError): string {
  const during = typeof file === 'string' ? `, during ${relative(process.cwd(), file)}` : '';
  return `unhandled${during}${typeof test === 'string' ? ` > ${test}` : ''}`;
}

function describe({ where, errors: [error] }: Failure): string {
  const message = stripVTControlCharacters(error?.message ?? '').trim();
  const [first = ''] = message.split('\n');
  return `failed: ${where}: ${first === '' ? (error?.name ?? 'did not finish') : first}`;
}

function print(line: string): void {
  process.stdout.write(`${line.length > MAX_LENGTH ? `${line.slice(0, MAX_LENGTH)}...` : line}\n`);
}
