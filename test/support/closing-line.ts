import type { Reporter, SerializedError, TestModule } from 'vitest/node';

/**
 * Ends the run with one line that a script can read: `tests: 123 passed, 0 failed`, and `, 2 skipped` when some were, after
 * the reason of each.
 * What failed outside of a test (a file that does not load, a hook, an unhandled rejection) counts as failed too, so
 * that "0 failed" never stands above a run that failed.
 */
export class ClosingLine implements Reporter {
  onTestRunEnd(modules: readonly TestModule[], unhandled: readonly SerializedError[]): void {
    const count = { passed: 0, failed: unhandled.length, skipped: 0 };
    for (const module of modules) {
      if (module.errors().length > 0) count.failed += 1;
      for (const suite of module.children.allSuites()) if (suite.errors().length > 0) count.failed += 1;
      for (const test of module.children.allTests()) {
        const result = test.result();
        count[result.state === 'pending' ? 'failed' : result.state] += 1;
        if (result.state === 'skipped' && result.note !== undefined)
          process.stdout.write(`skipped, ${result.note}: ${test.fullName}\n`);
      }
    }
    const skipped = count.skipped > 0 ? `, ${count.skipped} skipped` : '';
    process.stdout.write(`tests: ${count.passed} passed, ${count.failed} failed${skipped}\n`);
  }
}
